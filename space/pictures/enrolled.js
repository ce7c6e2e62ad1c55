/* What is known of a machine that is being enrolled: its recordings, and what they are worth. */

function enrolled(payload) {
  const verdict = payload.isDoubtful ? "cannot tell" : NORMAL;
  return el("section", { class: `asd-card asd-is-${KEYS[verdict]}`, role: "status" },
    el("div", { class: "asd-icon" }, icon(verdict)),
    el("div", { class: "asd-words" }, el("h2", { class: "asd-verdict" }, telling(payload.title)),
      ...payload.lines.map(line => el("p", {}, telling(line))),
      payload.isKept ? el("p", { class: "asd-hint asd-kept" }, say("enroll.kept")) : null,
      inEnglish(payload.lines.some(line => typeof line === "string"))));
}

function studied(payload, choose) {
  const numbered = payload.recordings.map((row, index) => ({ ...row, index }));
  const says = row => row.verdict ? say(`studied.${KEYS[row.verdict]}`) : "–";
  const columns = [
    { title: say("studied.recording"), isName: true, value: row => row.name },
    { title: say("studied.duration"), value: row => row.duration_s, isNumber: true, text: row => row.duration_s === null ? "–" : seconds(row.duration_s, 1) },
    { title: say("studied.judged"), value: says, node: row => el("span", { class: `asd-mini asd-is-${KEYS[row.verdict] || "unknown"}` },
      row.verdict ? icon(row.verdict) : null, says(row)) },
    { title: "p", value: row => row.p_value ?? null, isNumber: true, text: row => bare(row.p_value ?? null) },
    ...numbered.some(row => row.note) ? [{ title: say("studied.why"), isLong: true, value: row => row.note ?? null, node: row => english(row.note ?? "–") }] : [],
    { unseen: say("studied.remove"), node: row => el("button", { type: "button", class: "asd-button", "aria-label": `${say("studied.remove")} ${row.name}`, onclick: () => choose(row.index) }, say("studied.remove")) },
  ];
  return el("section", { class: "asd-answer" },
    el("div", { role: "status" }, ...payload.advice.map(line => el("p", {}, telling(line)))), table(say("studied.table"), columns, numbered));
}
