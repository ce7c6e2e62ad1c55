/* Many recordings: a table that sorts, filters, plays and downloads. A row opens its maps. */

// What is left out of the downloads: windows and regions have files of their own, one recording at a time.
const CSV = ["file", "verdict", "p_value", "score", "threshold", "false_alarm_rate", "machine", "duration_s", "reason", "note", "error"];

const SHOWN = { all: () => true, anomalous: row => row.result?.verdict === ANOMALOUS,
  unknown: row => row.error || row.result.verdict === "cannot tell", normal: row => row.result?.verdict === NORMAL };

const ORDER = { [ANOMALOUS]: 0, "cannot tell": 1, [NORMAL]: 3 };

function many(payload, choose) {
  const rows = payload.rows.map((row, index) => ({ ...row, index })), done = rows.length, { count } = payload;
  const counts = [ANOMALOUS, NORMAL, "cannot tell"].map(verdict => [rows.filter(row => row.result?.verdict === verdict).length, WORDS[verdict].toLowerCase()]);
  counts.push([rows.filter(row => row.error).length, say("files.unreadable").toLowerCase()]);
  const summary = counts.filter(([number]) => number).map(([number, words]) => `${number} ${words}`).join(", ");
  const status = el("p", { role: "status" }, done < count ? say("files.judging", { done, all: count, summary }) : say("files.judged", { all: count, summary }));
  const select = el("select", { "aria-label": say("files.which") }, ...Object.keys(SHOWN).map(name => el("option", { value: name }, say(`files.${name}`))));
  const place = el("div");
  const fill = () => place.replaceChildren(manyTable(rows.filter(SHOWN[select.value]), choose));
  select.addEventListener("change", fill);
  fill();
  return el("div", { class: "asd-answer" }, status, el("div", { class: "asd-downloads" },
    el("label", { class: "asd-hint" }, say("files.show"), " ", select),
    el("button", { type: "button", class: "asd-button", onclick: () => save("verdicts.csv", "text/csv", csv(rows)) }, say("save.csv")),
    el("button", { type: "button", class: "asd-button", onclick: () => save("verdicts.json", "application/json", json(rows)) }, say("save.json"))),
    place);
}

function manyTable(rows, choose) {
  const result = (row, name) => row.error ? null : row.result[name];
  return table(say("files.table"), [
    { unseen: say("play.play"), node: row => row.error ? "" : playButton(row) },
    { title: say("column.file"), isName: true, value: row => row.name, node: row => row.error ? row.name
      : el("button", { type: "button", class: "asd-link", onclick: () => choose(row.index) }, row.name) },
    { title: say("column.verdict"), value: row => row.error ? "2" : String(ORDER[row.result.verdict]), node: row => {
      const verdict = row.error ? "cannot tell" : row.result.verdict;
      return el("span", { class: `asd-mini asd-is-${KEYS[verdict]}` }, icon(verdict), row.error ? say("files.unreadable") : WORDS[verdict]);
    } },
    { title: "p", value: row => result(row, "p_value"), isNumber: true, text: row => bare(result(row, "p_value")) },
    { title: say("column.machine"), isName: true, value: row => result(row, "machine") },
    { title: say("column.why"), isLong: true, value: row => row.error ? told(row.error) : row.result.reason || row.result.note,
      node: row => telling(row.error || row.result.reason || row.result.note || "–") },
  ], rows);
}

// Plays a whole recording, where the browser can: there are formats that only the app reads.
function playButton({ url, name }, label = say("play.play")) {
  const button = el("button", { type: "button", class: "asd-button", "aria-label": `${label}: ${name}`,
    onclick: () => toggle(button, label, () => {
      const sound = new Audio(url);
      sound.addEventListener("ended", () => stopPlaying());
      sound.play().catch(error => {
        if (error.name === "NotSupportedError") { stopPlaying(); button.disabled = true; button.textContent = say("play.cannot"); }
      });
      return () => sound.pause();
    }) }, `▶ ${label}`);
  return button;
}

function csv(rows) {
  return asCsv(CSV, rows.map(row => ({ ...row.result, file: row.name, error: row.error && told(row.error) })));
}

function json(rows) {
  return JSON.stringify(rows.map(row => row.error ? { file: row.name, error: told(row.error) } : { file: row.name, ...row.result }), null, 2);
}
