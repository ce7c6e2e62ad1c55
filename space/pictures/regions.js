/* The regions that a reason is about: where each is, and how it sounds by itself. */

let stopPlaying = () => {};

function regionWords(region, start) {
  return `${hertz(region.low_hz)} – ${hertz(region.high_hz)}, ${fixed(start + region.start_s, 1)} – ${fixed(start + region.end_s, 1)} s`;
}

function regionList(view, regions) {
  if (!regions.length) return null;
  const samples = new Int16Array(bytes(view.samples).buffer), half = el("input", { type: "checkbox" });
  half.addEventListener("change", () => stopPlaying());
  const item = region => {
    const where = regionWords(region, view.start_s);
    const button = (label, decibels) => el("button", {
      type: "button", class: "asd-button", "aria-label": `${label}: ${where}`,
      onclick: event => toggle(event.currentTarget, label, () => playRegion(samples, view.rate, region, decibels, half.checked)),
    }, `▶ ${label}`);
    return el("li", {}, el("span", {}, where), button(say("play.play"), 0), button(say("play.normal_level"), -region.level_db));
  };
  return el("section", { class: "asd-heard", "aria-label": say("regions.what") },
    el("p", { class: "asd-hint" }, say("regions.hint"), " ",
      el("label", {}, half, " ", say("play.half"))),
    el("ol", { class: "asd-regions", "aria-label": say("regions.list") }, ...regions.map(item)));
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
