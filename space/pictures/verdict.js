/* The verdict in words, with score against threshold and the facts beside it. */

function explanation(result, name) {
  const machine = result.machine;
  if (result.verdict === NORMAL) return `${name} sounds as ${machine} does in normal operation.`;
  if (result.verdict === ANOMALOUS) return `${name} does not sound as ${machine} does in normal operation.`;
  return `${name}: ${result.note || "there is too little to judge by"}.`;
}

// A tail fitted to a few dozen clips knows nothing of one in a million.
function pValue(value) {
  return value === null ? "–" : value < 1e-4 ? "p < 0.0001" : value < 1e-3 ? `p = ${value.toFixed(4)}` : `p = ${number(value, 2)}`;
}

function chance(result) {
  if (result.p_value === null) return null;
  const words = result.p_value >= 0.995 ? "Every normal recording"
    : result.p_value < 1e-4 ? "Fewer than 1 in 10,000 normal recordings" : `About ${oneIn(result.p_value)} normal recordings`;
  return `${words} of this machine would sound as unusual or more so (${pValue(result.p_value)}); ` +
    `the alarm is set to ${oneIn(result.false_alarm_rate)}.`;
}

// Where a score lies from low (0) to high (1) on a logarithmic scale; a score may be 0.
const FAINTEST = 1e-12;
const onLogScale = (value, low, high) => {
  const [at, from, to] = [value, low, high].map(score => Math.log(Math.max(score, FAINTEST)));
  return (at - from) / (to - from);
};

// Score against threshold on a logarithmic scale, with the score that half of the normal recordings exceed.
function gauge(result, typical) {
  if (result.score === null || result.threshold === null) return null;
  const low = Math.min(result.score, typical ?? result.threshold, result.threshold) / 1.6;
  const high = Math.max(result.score, result.threshold, FAINTEST) * 1.6;
  const place = value => onLogScale(value, low, high) * 100;
  const mark = (value, kind, label) => el("div", { class: `asd-mark asd-mark-${kind}`, style: `left:${place(value)}%` },
    el("span", { class: place(value) > 78 ? "asd-left" : place(value) < 22 ? "asd-right" : "" }, label));
  return el("div", {
    class: "asd-gauge", role: "img",
    "aria-label": `Anomaly score ${number(result.score)}, alarm from ${number(result.threshold)}`,
  },
    el("div", { class: "asd-bar" },
      el("div", { class: "asd-bar-normal", style: `width:${place(result.threshold)}%` }),
      el("div", { class: "asd-bar-anomalous" })),
    mark(result.score, `score asd-is-${KEYS[result.verdict]}`, `score ${number(result.score)}`),
    mark(result.threshold, "threshold", `alarm from ${number(result.threshold)}`),
    typical === null || typical === undefined || Math.abs(place(typical) - place(result.threshold)) < 35 ? null
      : mark(typical, "typical", "typical of normal"));
}

function facts(result) {
  const method = {
    "own and other machines": "how this machine and the others vary", "other machines": "how other machines vary",
  }[result.method];
  const clips = result.calibration_clips;
  const rows = [
    ["Machine", result.machine === null ? "none of the enrolled ones"
      : result.machine + (result.machine === result.predicted_machine ? "" : (result.predicted_machine ? ` (closest: ${result.predicted_machine})` : " (close to none)"))],
    [result.machine === null ? "Similarity to the closest" : "Similarity to it", result.similarity === null || result.similarity === undefined ? "–" : result.similarity.toFixed(2)],
    ["Rests on", method ? `${method} (${clips} ${clips === 1 ? "clip" : "clips"})` : "–"],
    ["Duration", seconds(result.duration_s, 1)],
  ];
  return el("dl", { class: "asd-facts" }, ...rows.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
}

function card(payload) {
  const { result, name, typical } = payload;
  return el("section", { class: `asd-card asd-is-${KEYS[result.verdict]}`, role: "status" },
    el("div", { class: "asd-icon" }, icon(result.verdict)),
    el("div", { class: "asd-words" },
      el("h2", { class: "asd-verdict" }, WORDS[result.verdict]),
      el("p", {}, explanation(result, name)),
      result.note && KEYS[result.verdict] !== "unknown" ? el("p", {}, `But ${result.note}.`) : null,
      result.reason ? el("p", { class: "asd-reason" }, result.reason) : null,
      chance(result) ? el("p", { class: "asd-chance" }, chance(result)) : null,
      gauge(result, typical)),
    facts(result));
}

// A p-value in a column of its own.
const bare = value => pValue(value).replace(/^p (= )?/, "");

// The verdict on one window of a recording whose card stands above, in one line.
function strip(payload) {
  const { result, name } = payload, score = result.score === null ? "" : `, score ${number(result.score)}, ${pValue(result.p_value)}`;
  return el("p", { class: `asd-strip asd-is-${KEYS[result.verdict]}`, role: "status" },
    el("span", { class: "asd-icon" }, icon(result.verdict)),
    el("span", {}, el("strong", {}, `${name}: ${WORDS[result.verdict].toLowerCase()}`), score,
      result.reason ? `. ${result.reason}` : ""));
}
