/* What is known of a machine that is being enrolled: its recordings, and what they are worth. */

function enrolled(payload) {
  const verdict = payload.isDoubtful ? "cannot tell" : NORMAL;
  return el("section", { class: `asd-card asd-is-${KEYS[verdict]}`, role: "status" },
    el("div", { class: "asd-icon" }, icon(verdict)),
    el("div", { class: "asd-words" }, el("h2", { class: "asd-verdict" }, `${payload.machine} ${payload.verb}`),
      ...payload.lines.map(line => el("p", {}, line)),
      payload.isKept ? el("p", { class: "asd-hint" },
        "This browser keeps it until you tell it to forget. The server deletes its copy within an hour.") : null));
}

const STUDIED = { [NORMAL]: "like the others", [ANOMALOUS]: "unlike the others", "cannot tell": "in doubt" };

function studied(payload, choose) {
  const numbered = payload.recordings.map((row, index) => ({ ...row, index }));
  const says = row => row.verdict ? STUDIED[row.verdict] : "–";
  const columns = [
    { title: "Recording", isName: true, value: row => row.name },
    { title: "Duration, s", value: row => row.duration_s, isNumber: true, text: row => row.duration_s === null ? "–" : row.duration_s.toFixed(1) },
    { title: "Judged by the others", value: says, node: row => el("span", { class: `asd-mini asd-is-${KEYS[row.verdict] || "unknown"}` },
      row.verdict ? icon(row.verdict) : null, says(row)) },
    { title: "p", value: row => row.p_value ?? null, isNumber: true, text: row => bare(row.p_value ?? null) },
    { title: "Why in doubt", isLong: true, value: row => row.note ?? null },
    { unseen: "Remove", node: row => el("button", { type: "button", class: "asd-button", "aria-label": `Remove ${row.name}`, onclick: () => choose(row.index) }, "Remove") },
  ];
  const shown = numbered.some(row => row.note) ? columns : columns.filter(column => column.title !== "Why in doubt");
  return el("section", { class: "asd-answer" },
    el("div", { role: "status" }, ...payload.advice.map(line => el("p", {}, line))), table("Recordings of this machine", shown, numbered));
}
