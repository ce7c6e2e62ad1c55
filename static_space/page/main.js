/* The page: what is asked for, and the answer. */

import { answerOf, highest } from "./drawing.js";
import { judge } from "./judging.js";
import { Model } from "./model.js";
import { read } from "./reading.js";

const at = id => document.getElementById(id);
const AUTOMATIC = "-1";
let model = null, sound = null, turn = 0;

// What is asked for

function option(value, text) {
  const node = document.createElement("option");
  node.value = value;
  node.textContent = text;
  return node;
}

function offer({ machines, false_alarm_rates: rates, false_alarm_rate: usual, examples, notice, license }) {
  at("machine").append(option(AUTOMATIC, "Name it for me"), ...machines.map(({ name }, place) => option(place, name)));
  at("rate").append(...rates.map(({ rate, label }) => option(rate, label)));
  at("rate").value = String(usual);
  for (const { label, file, machine } of examples) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "asd-button", textContent: label });
    button.addEventListener("click", async () => {
      at("machine").value = String(machines.findIndex(({ name }) => name === machine));
      await take(file, async () => model.bytesOf(file));
    });
    at("examples").append(button);
  }
  at("examples").hidden = !examples.length;
  at("notice").textContent = notice ?? "";
  at("notice").hidden = !notice;
  at("license").append("Weights and detector: ", ...withLinks(license));
}

// Markdown's links, which the license of the weights has.
function withLinks(text) {
  return text.split(/(\[[^\]]+\]\(https:[^)\s]+\))/).map(part => {
    const found = /^\[(.+)\]\((https:.+)\)$/.exec(part);
    return found ? Object.assign(document.createElement("a"), { textContent: found[1], href: found[2] }) : part;
  });
}

// Reads a sound, and judges it. Of several sounds the last one counts, whichever is read first.
async function take(name, bytes) {
  const mine = ++turn;
  await attempt(name, async () => {
    const found = await bytes().then(given => read(given, model.facts)).catch(error => { if (mine === turn) throw error; });
    if (mine !== turn) return;
    sound = { name, ...found };
    await answer();
  });
}

async function attempt(name, work) {
  try { await work(); } catch (error) {
    at("working").textContent = "";
    at("farthest").hidden = true;
    show("answer", "listen", { error: `${name}: ${error.message}.` });
    at("part").replaceChildren();
    document.documentElement.dataset.answer = JSON.stringify({ error: `${name}: ${error.message}.` });
  }
}

// The answer

function show(place, kind, payload, choose = () => {}) { asd.show(at(place), kind, payload, choose); }

async function answer() {
  const mine = ++turn, started = performance.now(), { name } = sound;
  at("working").textContent = `Listening to ${name} …`;
  const progress = (done, all) => {
    if (mine !== turn) throw new Error("another sound was asked for");
    if (all > 1) at("working").textContent = `Listening to ${name}: ${done} of ${all} windows …`;
  };
  try {
    const judged = await judge(model, sound, Number(at("machine").value), Number(at("rate").value), progress);
    const payload = await answerOf(model, name, judged);
    if (mine !== turn) return;
    const isLong = judged.result.windows.length > 0;
    show("answer", isLong ? "timeline" : "listen", payload, index => attempt(name, () => part(name, judged, index)));
    if (isLong) await part(name, judged, highest(judged.result)); else at("part").replaceChildren();
    at("working").textContent = `Computed on this device in ${((performance.now() - started) / 1000).toFixed(1)} s.`;
    showFarthest(payload);
    if (innerWidth < 800) at("answer").scrollIntoView({ behavior: "smooth" });
    document.documentElement.dataset.answer = JSON.stringify(payload);
  } catch (error) {
    if (mine === turn) throw error;
  }
}

// In the place of a reason: where the pictured window is farthest from normal, averaged over time.
function showFarthest({ result, view }) {
  const isShown = result.verdict === "anomalous" && view.normal_db !== null;
  at("farthest").hidden = !isShown;
  if (!isShown) return;
  const beside = view.mean_db.map((level, bin) => level - view.normal_db[bin]);
  const side = (value, word) => `${Math.abs(value).toFixed(0)} dB ${word} at ${Number(view.mel_hz[beside.indexOf(value)].toPrecision(2))} Hz`;
  const [above, below] = [Math.max(...beside), Math.min(...beside)];
  at("farthest").textContent = "This page does not work out the reason. Averaged over time, the sound is farthest from normal with " +
    `${[above > 0 ? side(above, "above") : null, below < 0 ? side(below, "below") : null].filter(Boolean).join(" and ")}.`;
}

// One window of a long recording. Its verdict is the window's within the recording.
async function part(name, judged, index) {
  const mine = turn, { result } = judged, window = result.windows[index];
  const { view, typical } = await answerOf(model, name, judged, index);
  if (mine !== turn) return;
  const shown = { ...result, ...window, windows: [], duration_s: window.end_s - window.start_s };
  show("part", "part", { name, result: shown, typical, view });
}

// Files, drops and the microphone

at("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file && model) take(file.name, async () => new Uint8Array(await file.arrayBuffer()));
});
for (const name of ["dragover", "dragleave", "drop"])
  document.addEventListener(name, event => {
    event.preventDefault();
    at("drop").classList.toggle("is-over", name === "dragover");
    const file = event.dataTransfer?.files[0];
    if (name === "drop" && file && model) take(file.name, async () => new Uint8Array(await file.arrayBuffer()));
  });
for (const id of ["machine", "rate"])
  at(id).addEventListener("change", () => sound && attempt(sound.name, answer));

function recorder() {
  let parts = [], rate = 0;
  const length = () => parts.reduce((sum, one) => sum + one.length, 0);
  const microphone = new asd.Microphone(heard => {
    rate = heard.rate;
    parts.push(new Int16Array(Uint8Array.from(atob(heard.samples), letter => letter.charCodeAt(0)).buffer));
    const seconds = length() / rate;
    at("recording").textContent = `${Math.round(seconds)} s recorded`;
    microphone.answered(null);
    if (seconds >= model.facts.max_seconds - 1) microphone.button.click();  // a second more would be refused
  });
  microphone.button.addEventListener("click", () => {
    if (microphone.context || !parts.length) return;
    const samples = new Float32Array(length());
    parts.reduce((start, one) => { one.forEach((value, at) => { samples[start + at] = value / 32768; }); return start + one.length; }, 0);
    parts = [];
    at("recording").textContent = "";
    attempt("The recording", async () => {
      if (!model.facts.rates.includes(rate)) throw new Error(`the microphone has a sampling rate of ${rate} Hz. Set it to 48000 Hz`);
      sound = { name: "The recording", rate, samples, count: 1, notes: [] };
      await answer();
    });
  });
  at("record").replaceWith(microphone.node);
  at("recording").textContent = "A press records, and another one judges.";
}

// The start

const dark = matchMedia("(prefers-color-scheme: dark)"), follow = () => document.body.classList.toggle("dark", dark.matches);
dark.addEventListener("change", follow);
follow();

// A saved report has the pictures' code and style in itself.
async function keepForReports() {
  for (const [id, name] of [["asd-script", "pictures.js"], ["asd-style", "style.css"]]) {
    const kept = document.createElement("script");
    Object.assign(kept, { type: "text/plain", id, textContent: await (await fetch(name)).text() });
    document.head.append(kept);
  }
}

async function start() {
  model = await Model.load(share => { at("loaded").value = share; });
  offer(model.facts);
  recorder();
  document.documentElement.dataset.state = "ready";
  at("loading").textContent = "Ready.";
  await keepForReports();
  await model.loadRest();
  at("loaded").hidden = true;
  at("loading").textContent = "Ready. Everything is on this device now: the page works without a network.";
  document.documentElement.dataset.state = "complete";
}

start().catch(error => {
  document.documentElement.dataset.state = "failed";
  at("loading").textContent = `The detector cannot be loaded: ${error.message}`;
});
