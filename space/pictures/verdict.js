/* The verdict in words, with score against threshold and the facts beside it. */

function explanation(result, name) {
  const machine = result.machine;
  if (result.verdict !== "cannot tell") return [say(`explanation.${KEYS[result.verdict]}`, { name: named(name), machine })];
  return [`${named(name)}: `, result.note ? english(result.note) : say("explanation.too_little"), "."];
}

// A tail fitted to a few dozen clips knows nothing of one in a million.
function pValue(value) {
  return value === null ? "–" : value < 1e-4 ? `p < ${local("0.0001")}` : value < 1e-3 ? `p = ${fixed(value, 4)}` : `p = ${number(value, 2)}`;
}

function chance(result) {
  if (result.p_value === null) return null;
  const how = result.p_value >= 0.995 ? "every" : result.p_value < 1e-4 ? "fewer" : "about";
  const often = oneIn(how === "fewer" ? 1e-4 : result.p_value);
  return say(`chance.${how}`, { often, p: pValue(result.p_value), rate: oneIn(result.false_alarm_rate) });
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
    "aria-label": say("gauge.words", { score: number(result.score), threshold: number(result.threshold) }),
  },
    el("div", { class: "asd-bar" },
      el("div", { class: "asd-bar-normal", style: `width:${place(result.threshold)}%` }),
      el("div", { class: "asd-bar-anomalous" })),
    mark(result.score, `score asd-is-${KEYS[result.verdict]}`, say("gauge.score", { score: number(result.score) })),
    mark(result.threshold, "threshold", say("gauge.threshold", { threshold: number(result.threshold) })),
    typical === null || typical === undefined || Math.abs(place(typical) - place(result.threshold)) < 35 ? null
      : mark(typical, "typical", say("gauge.typical")));
}

function facts(result) {
  const method = {
    "own and other machines": "facts.own_and_others", "other machines": "facts.others",
  }[result.method];
  const clips = result.calibration_clips;
  const rows = [
    [say("column.machine"), result.machine === null ? say("facts.no_machine")
      : result.machine + (result.machine === result.predicted_machine ? ""
        : ` (${result.predicted_machine ? say("facts.closest", { machine: result.predicted_machine }) : say("facts.close_to_none")})`)],
    [say(result.machine === null ? "facts.similarity_closest" : "facts.similarity"), result.similarity === null || result.similarity === undefined ? "–" : fixed(result.similarity, 2)],
    [say("facts.duration"), seconds(result.duration_s, 1)],
    [say("facts.rests_on"), method ? say("facts.method", { method: say(method), clips: say("facts.clips", { count: clips }) }) : "–"],
  ];
  return el("dl", { class: "asd-facts" }, ...rows.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
}

function card(payload) {
  const { result, name, typical } = payload;
  return el("section", { class: `asd-card asd-is-${KEYS[result.verdict]}`, role: "status" },
    el("div", { class: "asd-icon" }, icon(result.verdict)),
    el("div", { class: "asd-words" },
      el("h2", { class: "asd-verdict" }, WORDS[result.verdict]),
      el("p", {}, ...explanation(result, name)),
      result.note && KEYS[result.verdict] !== "unknown" ? el("p", {}, ...saying("explanation.but", { note: english(result.note) })) : null,
      result.reason ? el("p", { class: "asd-reason", lang: "en" }, ...unbroken(result.reason)) : null,
      result.reason?.startsWith("From ") && result.reason.includes("between") ? el("p", { class: "asd-hint" }, say("explanation.window")) : null,
      inEnglish(result.note || result.reason),
      chance(result) ? el("p", { class: "asd-chance" }, chance(result)) : null,
      gauge(result, typical)),
    facts(result));
}

// A p-value in a column of its own.
const bare = value => pValue(value).replace(/^p (= )?/, "");

// What follows a verdict in a line.
const scoreWords = result => result.score === null ? "" : say("verdict.score", { score: number(result.score), p: pValue(result.p_value) });

// The verdict on one window of a recording whose card stands above, in one line.
function strip(payload) {
  const { result, view } = payload;
  const name = say("timeline.part", { name: named(payload.name), from: fixed(view.start_s, 1), to: fixed(view.start_s + result.duration_s, 1) });
  return el("p", { class: `asd-strip asd-is-${KEYS[result.verdict]}`, role: "status" },
    el("span", { class: "asd-icon" }, icon(result.verdict)),
    el("span", {}, el("strong", {}, `${name}: ${WORDS[result.verdict].toLowerCase()}`), scoreWords(result),
      ...result.reason ? [". ", english(result.reason)] : []), inEnglish(result.reason));
}
