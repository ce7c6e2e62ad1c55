/* The regions that a reason is about: where each is, and how it sounds by itself. */

let stopPlaying = () => {};

function regionWords(region, start) {
  return `${hertz(region.low_hz)} – ${hertz(region.high_hz)}, ${(start + region.start_s).toFixed(1)} – ${(start + region.end_s).toFixed(1)} s`;
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
    return el("li", {}, el("span", {}, where), button("Play", 0), button("At its normal level", -region.level_db));
  };
  return el("section", { class: "asd-heard", "aria-label": "What alarmed" },
    el("p", { class: "asd-hint" }, "Listen to what alarmed, by itself and again and again, here or by a click on its box in a picture: ",
      el("label", {}, half, " at half speed")),
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
