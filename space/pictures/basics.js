/* What all pictures share: colors, words for numbers, elements, and a canvas that is drawn anew when it must be. */

// viridis, cividis and RdBu_r of matplotlib in 17 steps: readable for color-blind people and in print.
const COLORS = Object.fromEntries(Object.entries({
  level:
    "44015448186a472d7b4240863b528b33638d2c728e26828e21918c1fa08828ae803fbc735ec96284d44baddc30d8e219fde725",
  attention:
    "00224e002e6a1a386f32436d434e6c535a6d61656f6f70737d7c788c88789b9476aba072bcae6ccdbb63dec958f0d846fee838",
  difference:
    "0530611752902a71b23f8ec06bacd19bc9e0c2ddece0ecf3f7f6f6fbe5d8fbccb4f5aa89e48066d05548ba2832930e2667001f",
}).map(([name, hex]) => [name, palette(hex)]));
const NORMAL = "normal", ANOMALOUS = "anomalous";
const WORDS = {
  get [NORMAL]() { return say("verdict.normal"); }, get [ANOMALOUS]() { return say("verdict.anomalous"); },
  get "cannot tell"() { return say("verdict.unknown"); },
};
const KEYS = { [NORMAL]: "normal", [ANOMALOUS]: "anomalous", "cannot tell": "unknown" };
const ICONS = {
  [NORMAL]: "M9 16.2 4.8 12l-1.9 1.9L9 20 21.1 7.9 19.2 6z",
  [ANOMALOUS]: "M12 2 1 21h22zm-1.2 7h2.4v6h-2.4zm0 7.6h2.4V19h-2.4z",
  "cannot tell": "M12 2a6 6 0 0 0-6 6h3a3 3 0 1 1 4.6 2.5C11.7 11.8 10.5 13 10.5 15.5h3c0-1.4.8-2 2-2.9A6 6 0 0 0 12 2zm-1.7 16h3.4v3.4h-3.4z",
};
const TICKS_HZ = [125, 250, 500, 1000, 2000, 4000, 8000];
const LEFT = 58, RIGHT = 12, TOP = 6;

// Small things

function palette(hex) {
  const anchors = hex.match(/../g).map(pair => parseInt(pair, 16)), last = anchors.length / 3 - 1;
  const table = new Uint8ClampedArray(256 * 4);
  for (let value = 0; value < 256; value++) {
    const place = value / 255 * last, from = Math.min(Math.floor(place), last - 1), share = place - from;
    for (let c = 0; c < 3; c++)
      table[4 * value + c] = anchors[3 * from + c] * (1 - share) + anchors[3 * from + 3 + c] * share;
    table[4 * value + 3] = 255;
  }
  return table;
}

function el(tag, attributes = {}, ...children) {
  const node = tag === "svg" || tag === "path" ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value); else node.setAttribute(name, value);
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}

function bytes(text) {
  return Uint8Array.from(atob(text), character => character.charCodeAt(0));
}

function seconds(value, digits = 2) {
  if (value < 60) return `${fixed(value, digits)} s`;
  const places = digits > 1 ? 1 : 0, rounded = Number(value.toFixed(places));  // 59.7 s are no 60 s of the minute before
  return `${Math.floor(rounded / 60)}:${fixed(rounded % 60, places).padStart(places ? 4 : 2, "0")} min`;
}

function hertz(value) {
  return value >= 1000 ? `${local((value / 1000).toFixed(value >= 9950 ? 0 : 1).replace(/\.0$/, ""))} kHz` : `${Math.round(value)} Hz`;
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  return local(value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : Number(value.toPrecision(digits)));
}

function oneIn(share) {
  const count = 1 / share, digits = Math.pow(10, Math.max(0, Math.floor(Math.log10(count)) - 1));
  return share > 0.3 ? say("rate.in", { share: Math.round(share * 100), all: 100 })
    : say("rate.in", { share: 1, all: (Math.round(count / digits) * digits).toLocaleString(language()) });
}

function niceStep(span, wanted) {
  const raw = span / wanted, power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].find(step => step * power >= raw) * power;
}

function color(node, name) {
  return getComputedStyle(node).getPropertyValue(name).trim();
}

function icon(verdict) {
  return el("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, el("path", { d: ICONS[verdict] }));
}

function save(name, type, content) {
  const link = el("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// What was drawn before is forgotten once it is off the page; what is on it follows its size and the theme.
function keepDrawn(node, draw) {
  let frame = null;
  const later = () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(() => node.isConnected && draw()); };
  // An observer of the page keeps what it draws: canvases of 20 MB an answer. What leaves the page loses its size.
  const follow = () => { if (node.isConnected) later(); else { sizes.disconnect(); themes.disconnect(); } };
  const sizes = new ResizeObserver(follow), themes = new MutationObserver(follow);
  sizes.observe(node);
  themes.observe(document.body, { attributes: true, attributeFilter: ["class"] });
}

function fit(canvas, height) {
  const width = canvas.parentElement.clientWidth, ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = `11px ${getComputedStyle(canvas).fontFamily}`;
  context.fillStyle = context.strokeStyle = color(canvas, "--asd-muted");
  return [context, width];
}
