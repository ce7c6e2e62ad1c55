/* Rows of the history: one for each recording, from this app, from score.py, or from a file that was saved here. */

const HISTORY_COLUMNS = ["time", "time_of", "file", "verdict", "p_value", "score", "threshold", "false_alarm_rate", "machine", "duration_s",
  "level_db", "reason", "note", "version", "heard_by", "key"];
const NUMBERS = ["p_value", "score", "threshold", "false_alarm_rate", "duration_s", "level_db"];
// Written by recorders into the names of their files: 20261103_140500.wav, 2026-11-03T14-05-00.wav. The clock is the recorder's.
const TIME_IN_NAME = /(?<!\d)(20\d\d)-?(\d\d)-?(\d\d)[ T_-]?(\d\d)[-:._h]?(\d\d)(?:[-:._m]?(\d\d))?(?!\d)/;

// When a recording was made, as its file says; files are known by the name that the app gives them.
const fileTimes = new Map();
const appName = name => name.replace(/[<>:"/\\|?*\x00-\x1f\x7f`$!{}]/g, "");
for (const [event, files] of [["change", event => event.target?.files], ["drop", event => event.dataTransfer?.files]])
  document.addEventListener(event, happened => {
    for (const file of files(happened) ?? []) fileTimes.set(appName(file.name), file.lastModified);
  }, true);

// A row with the best that is known of its time: that in the name, or else of the file, or else of the verdict.
function withKnownTime(row) {
  const named = row.heard_by === "live" ? null : timeInName(baseName(row)), time = named ?? fileTimes.get(row.file);
  return time === undefined ? { ...row, time_of: "verdict" }
    : { ...row, time: new Date(time).toISOString(), time_of: named ? "name" : "file" };
}

// The later verdict on a recording counts, at the earliest time that is known of the recording: copies are younger.
function again(before, row) {
  return new Date(row.time) < new Date(before.time) ? row : { ...row, time: before.time, time_of: before.time_of, when: before.when };
}

const baseName = ({ file }) => file.replace(/^.*[\\/]/, "") || file;

function timeInName(name) {
  const found = TIME_IN_NAME.exec(name);
  if (!found) return null;
  const [year, month, day, hour, minute, second] = found.slice(1).map(part => Number(part ?? 0));
  const time = new Date(year, month - 1, day, hour, minute, second);
  const isOne = time.getMonth() === month - 1 && time.getDate() === day && hour < 24 && minute < 60 && second < 60;
  return isOne ? time : null;
}

// A row that can be shown, with `when` in milliseconds; null where a file holds something else.
function checkedRow(raw) {
  if (typeof raw !== "object" || raw === null || typeof raw.verdict !== "string" || !Object.hasOwn(KEYS, raw.verdict) || raw.error) return null;
  const row = Object.fromEntries(HISTORY_COLUMNS.map(name => [name, raw[name] === "" ? null : raw[name] ?? null]));
  for (const name of NUMBERS) {
    if (row[name] === null) continue;
    row[name] = Number(row[name]);
    if (!Number.isFinite(row[name])) return null;
  }
  if (row.p_value !== null && !(row.p_value >= 0 && row.p_value <= 1) || !(row.false_alarm_rate > 0 && row.false_alarm_rate < 1)) return null;
  if (typeof row.machine !== "string" || typeof row.file !== "string") return null;
  for (const name of ["reason", "note", "version", "heard_by", "key"]) if (row[name] !== null) row[name] = String(row[name]);
  row.key ??= `${row.machine} ${row.file} ${raw.start_s ?? ""}`;  // of score.py
  row.version ??= raw.model_digest ? String(raw.model_digest).slice(0, 12) : null;
  const named = row.heard_by === "live" ? null : timeInName(baseName(row)), time = named ?? new Date(row.time ?? raw.file_time ?? NaN);
  row.when = time.getTime();
  row.time_of = named ? "name" : row.time_of ?? (row.time ? "verdict" : "file");
  return Number.isFinite(row.when) ? { ...row, time: time.toISOString() } : null;
}

// What is to be shown, in the order of time. Of several rows about one recording the last counts.
function mergedRows(lists) {
  const rows = new Map();
  for (const row of lists.flat()) rows.set(row.key, rows.has(row.key) ? again(rows.get(row.key), row) : row);
  return [...rows.values()].sort((one, other) => one.when - other.when);
}

// The rows of a file, and what is no row in it.
function rowsOfText(name, text) {
  const parsed = part => { try { return JSON.parse(part); } catch { return null; } };
  const raw = /\.csv$/i.test(name) ? recordsOfCsv(text.replace(/^\ufeff/, ""))
    : /^\s*\[/.test(text) ? parsed(text) ?? [null] : text.split("\n").filter(line => line.trim()).map(parsed);
  const rows = raw.map(checkedRow).filter(row => row !== null);
  return { rows, broken: raw.length - rows.length };
}

function recordsOfCsv(text) {
  const cells = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    cells.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "") break;
    if (end !== ",") cells.push([]);
  }
  const [names, ...lines] = cells;
  return lines.filter(line => line.length > 1).map(line => Object.fromEntries(names.map((name, i) => [name, line[i] ?? ""])));
}

function asCsv(columns, records) {
  // A cell that begins like a formula would be one in a spreadsheet: names of files come from anywhere.
  const cell = value => {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = /^[-=+@\t\r]/.test(text) && !Number.isFinite(Number(text)) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return `${[columns.join(","), ...records.map(record => columns.map(name => cell(record[name])).join(","))].join("\r\n")}\r\n`;
}
