/* The regions that a reason is about: where each is, how it sounds by itself, and how the same stretch sounds normally. */

const BESIDE = {
  here: name => `Normal: the same stretch and band of ${name}, equally loud as recorded.`,
  missing: machine => `Enroll ${machine} here from recordings of your own, and the same stretch of a normal one can be heard beside.`,
};

let stopPlaying = () => {};

function regionWords(region, start) {
  return `${hertz(region.low_hz)} – ${hertz(region.high_hz)}, ${(start + region.start_s).toFixed(1)} – ${(start + region.end_s).toFixed(1)} s`;
}

function regionList(view, { regions, machine }) {
  if (!regions.length) return null;
  const asSamples = text => new Int16Array(bytes(text).buffer), half = el("input", { type: "checkbox" });
  const samples = asSamples(view.samples), normal = view.normal ? asSamples(view.normal.samples) : null, loud = fullGain(samples);
  half.addEventListener("change", () => stopPlaying());
  const item = region => {
    const where = regionWords(region, view.start_s);
    const button = (label, heard, decibels) => el("button", {
      type: "button", class: "asd-button", "aria-label": `${label}: ${where}`,
      onclick: event => toggle(event.currentTarget, label, () => playRegion(heard, view.rate, region, loud * 10 ** (decibels / 20), half.checked)),
    }, `▶ ${label}`);
    return el("li", {}, el("span", {}, where), button("Play", samples, 0),
      normal ? button("Normal", normal, 0) : null, button("At its normal level", samples, -region.level_db));
  };
  return el("section", { class: "asd-heard", "aria-label": "What alarmed" },
    el("p", { class: "asd-hint" }, "Listen to what alarmed, by itself and again and again, here or by a click on its box in a picture: ",
      el("label", {}, half, " at half speed"), ". ", normal ? BESIDE.here(view.normal.name) : BESIDE.missing(machine)),
    el("ol", { class: "asd-regions", "aria-label": "Regions of the reason" }, ...regions.map(item)));
}

// One sound at a time: a second press stops it.
function toggle(button, label, start) {
  const isOn = button.getAttribute("aria-pressed") === "true";
  stopPlaying();
  if (isOn) return;
  const stop = start();
  button.setAttribute("aria-pressed", "true");
  button.textContent = "■ Stop";
  stopPlaying = () => {
    stop();
    button.setAttribute("aria-pressed", "false");
    button.textContent = `▶ ${label}`;
    stopPlaying = () => {};
  };
}
