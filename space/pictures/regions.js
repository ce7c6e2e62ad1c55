/* The regions that a reason is about: where each is, how it sounds by itself, and how the same stretch sounds normally. */

let stopPlaying = () => {};

function regionWords(region, start) {
  return `${hertz(region.low_hz)} – ${hertz(region.high_hz)}, ${fixed(start + region.start_s, 1)} – ${fixed(start + region.end_s, 1)} s`;
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
    return el("li", {}, el("span", {}, where), button(say("play.play"), samples, 0),
      normal ? button(say("play.normal"), normal, 0) : null, button(say("play.normal_level"), samples, -region.level_db));
  };
  // A report enrolls nothing.
  const beside = normal ? say("regions.beside", { name: named(view.normal.name) }) : el("span", { class: "asd-not-report" }, say("regions.enroll", { machine }));
  return el("section", { class: "asd-heard", "aria-label": say("regions.what") },
    el("p", {}, el("strong", {}, say("regions.what")), " ", el("span", { class: "asd-hint" }, say("regions.hint"))),
    el("ol", { class: "asd-regions", "aria-label": say("regions.list") }, ...regions.map(item)),
    el("label", { class: "asd-half" }, half, say("play.half")), el("p", { class: "asd-hint" }, beside));
}

// One sound at a time: a second press stops it.
function toggle(button, label, start) {
  const isOn = button.getAttribute("aria-pressed") === "true";
  stopPlaying();
  if (isOn) return;
  const stop = start();
  button.setAttribute("aria-pressed", "true");
  button.textContent = say("play.stop");
  stopPlaying = () => {
    stop();
    button.setAttribute("aria-pressed", "false");
    button.textContent = `▶ ${label}`;
    stopPlaying = () => {};
  };
}
