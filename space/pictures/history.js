/* The tab History: the verdicts on each machine over days, and whether its sound has changed for good. */

const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
const HISTORY_TEXT = {
  empty: "Verdicts of Listen, Files and Timeline appear here, and the alarms of Live. Results of score.py can be imported.",
  browser: "This browser alone keeps them, until you delete them.",
  folder: "The owner of this app keeps them in a folder: all who open the app see them. Rows of the folder are deleted there.",
  silent: "The app does not answer. Load the page again.",
  confirm: (rows, machine) => `Delete ${count(rows, "verdict")} of ${machine} from this browser?`,
  imported: (rows, broken) => `${count(rows, "verdict")} imported.` +
    (broken ? ` ${count(broken, "line is", "lines are")} left out: a verdict needs a machine, a time and a false-alarm rate.` : ""),
  nothing: name => `${name}: holds no verdict. Expected CSV or JSON that this tab or score.py --output wrote.`,
  tooLarge: name => `${name}: larger than 100 MB. Split it.`,
  span: (rows, alarms, expected) => `${count(rows.length, "recording")}, ${day(rows[0].when)} to ${dayAndTime(rows.at(-1).when)}. ` +
    `${count(alarms, "alarm")}; by chance about ${number(expected, 2)} would be expected.`,
  live: alarms => `Besides, ${count(alarms, "alarm")} of Live. They play no part in what follows.`,
  last: row => `Last: ${WORDS[row.verdict].toLowerCase()}${row.p_value === null ? "" : `, ${pValue(row.p_value)}`}.` + (row.reason ? ` ${row.reason}` : ""),
  few: rows => `${count(rows, "recording")}: too few to see a lasting change. About 20 are needed.`,
  steady: (score, level, limit) => `No lasting change. Evidence for one: ${score} of ${limit} in the score, ${level} of ${limit} in the level.`,
  drifted: (row, shift) => `The score has drifted since ${baseName(row)} (${day(row.when)}): ${shift > 0 ? "higher" : "lower"} scores. ` +
    (shift > 0 ? "Look at the machine. Is this its new normal sound? Then enroll it anew." : "Was the machine repaired, or its recording changed?"),
  louder: (row, shift) => `The level has changed since ${baseName(row)} (${day(row.when)}): ${Math.abs(shift).toFixed(1)} dB ${shift > 0 ? "louder" : "softer"}. ` +
    "The score does not hear the level: look at the microphone and its gain, too.",
  times: (names, files, verdicts) => `Times: ${[[names, "from the file's name"], [files, "of the file"], [verdicts, "of the verdict"]]
    .filter(([number]) => number).map(([number, words]) => `${number} ${words}`).join(", ")}.`,
  method: "A test compares every recording with all before it. A change is reported when the evidence reaches 100; without a change " +
    "that happens to 1 machine in 100, however long one looks. Recordings that follow one another closely resemble one another: then it happens more often.",
  shown: (shown, all) => `The last ${shown} of ${all} rows are shown; the downloads have all.`,
};
const MOST_ROWS = 20_000, MOST_SHOWN = 500, FEW = 20, MOST_BYTES = 100 * 2 ** 20;
const KINDS_OF_DRIFT = { score: "score", level: "level_db" };

class History {
  constructor(root, server) {
    Object.assign(this, { root, server, machine: null, own: new Set(), folder: [] });
    this.status = el("p", { role: "status", class: "asd-hint" });
    new IntersectionObserver(([entry]) => entry.isIntersecting && this.load()).observe(root);
    document.addEventListener("asd-remembered", () => root.offsetParent && this.load());
  }

  // Read everything, ask for the drift, and draw. Of several calls the last one draws.
  async load() {
    const turn = this.turn = {}, own = (await remembered()).map(checkedRow).filter(row => row !== null);
    const { texts, error } = await this.server.kept_in_folder() ?? { texts: null, error: HISTORY_TEXT.silent };
    const rows = mergedRows([...(texts ?? []).map(({ name, text }) => rowsOfText(name, text).rows), own]);
    const machines = Map.groupBy(rows.slice(-MOST_ROWS), row => row.machine);
    const drift = await this.drift(machines);
    if (turn !== this.turn) return;
    this.own = new Set(own.map(row => row.key));
    if (own.length > MOST_ROWS) forget(rows.slice(0, -MOST_ROWS).map(row => row.key));
    Object.assign(this, { machines, found: drift, isFolder: texts !== null, error });
    if (!machines.has(this.machine)) this.machine = rows.at(-1)?.machine ?? null;
    this.draw();
  }

  // What the model's test says of every machine: of its scores and, apart, of its levels; each version by itself.
  async drift(machines) {
    const series = [], found = new Map();
    for (const [machine, rows] of machines) {
      found.set(machine, Object.fromEntries(Object.keys(KINDS_OF_DRIFT).map(kind => [kind, { evidence: rows.map(() => null), changes: [] }])));
      for (const [kind, name] of Object.entries(KINDS_OF_DRIFT)) {
        const used = rows.map((row, index) => ({ row, index })).filter(({ row }) => row.heard_by !== "live" && row.score !== null && row[name] !== null);
        for (const values of Map.groupBy(used, ({ row }) => row.version).values()) series.push({ to: found.get(machine)[kind], values, name });
      }
    }
    const answer = await this.server.drift(series.map(({ values, name }) => values.map(({ row }) => row[name]))) ?? { error: HISTORY_TEXT.silent };
    if (answer.error) return new Map([...machines.keys()].map(machine => [machine, { error: answer.error }]));
    answer.found.forEach((one, at) => {
      const { to, values } = series[at];
      one.evidence.forEach((value, i) => { to.evidence[values[i].index] = value; });
      to.changes.push(...one.changes.map(change => ({ shift: change.shift, since: values[change.since].index })));
    });
    for (const one of found.values()) one.limit = answer.limit;
    return found;
  }

  draw() {
    const all = [...this.machines.values()].flat(), rows = this.machines.get(this.machine);
    const kept = el("p", {}, all.length ? `${count(all.length, "verdict")} of ${count(this.machines.size, "machine")}. ` : "",
      all.length ? HISTORY_TEXT[this.isFolder ? "folder" : "browser"] : HISTORY_TEXT.empty);
    const problem = this.error ? el("p", { role: "alert" }, this.error) : null;
    this.root.replaceChildren(el("div", { class: "asd-answer" }, el("div", { class: "asd-downloads" }, this.importing(), ...this.exports(all)),
      this.status, problem, kept, this.machines.size > 1 ? this.overview() : null, ...(rows ? this.about(rows) : [])));
  }

  importing() {
    const input = el("input", { type: "file", class: "asd-unseen", accept: ".csv,.json,.jsonl", multiple: "", onchange: () => this.import([...input.files]) });
    return el("label", { class: "asd-button asd-file" }, "Import", input);
  }

  exports(rows) {
    if (!rows.length) return [];
    const columns = rows.map(row => Object.fromEntries(HISTORY_COLUMNS.map(name => [name, row[name]])));
    const button = (words, name, type, content) => el("button", { type: "button", class: "asd-button", onclick: () => save(name, type, content()) }, words);
    return [button("Save CSV", "history.csv", "text/csv", () => asCsv(HISTORY_COLUMNS, columns)),
      button("Save JSON", "history.json", "application/json", () => JSON.stringify(columns, null, 2))];
  }

  async import(files) {
    const told = [];
    for (const file of files) {
      const { rows, broken } = file.size > MOST_BYTES ? { rows: [], broken: 0 } : rowsOfText(file.name, await file.text());
      told.push(file.size > MOST_BYTES ? HISTORY_TEXT.tooLarge(file.name) : rows.length ? HISTORY_TEXT.imported(rows.length, broken) : HISTORY_TEXT.nothing(file.name));
      await remember(rows);
    }
    this.status.textContent = told.join(" ");
  }

  async delete(rows) {
    const keys = rows.map(row => row.key).filter(key => this.own.has(key));
    if (!window.confirm(HISTORY_TEXT.confirm(keys.length, this.machine))) return;
    await forget(keys);
    this.load();
  }

  overview() {
    const alarms = rows => rows.filter(row => row.verdict === ANOMALOUS).length, last = rows => rows.at(-1);
    const change = machine => Object.entries(this.found.get(machine)).filter(([, kind]) => kind.changes?.length).map(([kind]) => kind).join(", ") || null;
    return table("Machines", [
      { title: "Machine", isName: true, value: ([machine]) => machine, node: ([machine]) => el("button", { type: "button", class: "asd-link",
        "aria-current": String(machine === this.machine), onclick: () => { this.machine = machine; this.draw(); } }, machine) },
      { title: "Last verdict", value: ([, rows]) => String(ORDER[last(rows).verdict]), node: ([, rows]) => mini(last(rows).verdict) },
      { title: "Alarms", isNumber: true, value: ([, rows]) => alarms(rows) },
      { title: "Changed for good", value: ([machine]) => change(machine) },
      { title: "Recordings", isNumber: true, value: ([, rows]) => rows.length },
      { title: "Last recording", value: ([, rows]) => last(rows).when, text: ([, rows]) => dayAndTime(last(rows).when) },
    ], [...this.machines]);
  }

  // One machine: what to know in words, the picture, and the rows.
  about(rows) {
    const found = this.found.get(this.machine), pick = index => { slider.value = String(index + 1); choose(); };
    const days = new Days(rows, found, pick), own = rows.filter(row => this.own.has(row.key));
    const slider = el("input", { type: "range", min: "1", max: String(rows.length), step: "1", value: String(rows.length), "aria-label": "Recording to read", oninput: () => choose() });
    const label = el("span", { class: "asd-clock" });
    const choose = () => {
      const row = rows[Number(slider.value) - 1];
      label.textContent = `${dayAndTime(row.when)}, ${baseName(row)}: ${WORDS[row.verdict].toLowerCase()}${row.p_value === null ? "" : `, ${pValue(row.p_value)}`}`;
      slider.setAttribute("aria-valuetext", label.textContent);
      days.choose(Number(slider.value) - 1);
    };
    choose();
    const spread = el("select", { "aria-label": "Recordings across the picture", onchange: () => days.spread(spread.value === "time") },
      ...[["time", "by time"], ["order", "one after the other"]].map(([value, words]) => el("option", { value, ...((value === "time") === days.isByTime ? { selected: "" } : {}) }, words)));
    return [this.card(rows, found), days.node,
      el("div", { class: "asd-player" }, el("span", {}, "Recording"), slider, label, el("label", { class: "asd-hint" }, "Across ", spread)),
      this.rowsTable(rows), el("p", { class: "asd-hint" }, this.times(rows)),
      own.length ? el("div", {}, el("button", { type: "button", class: "asd-button", onclick: () => this.delete(own) }, `Delete ${this.machine}'s verdicts`)) : null];
  }

  card(rows, found) {
    const heard = rows.filter(row => row.heard_by !== "live"), alarms = heard.filter(row => row.verdict === ANOMALOUS).length;
    const expected = heard.reduce((sum, row) => sum + (row.p_value === null ? 0 : row.false_alarm_rate), 0), fromLive = rows.length - heard.length;
    const verdict = found.score?.changes.length ? ANOMALOUS : rows.at(-1).verdict;
    return el("section", { class: `asd-card asd-is-${KEYS[verdict]}` }, el("div", { class: "asd-icon" }, icon(verdict)),
      el("div", { class: "asd-words" }, el("h2", { class: "asd-verdict" }, this.machine), ...this.driftWords(rows, found).map(words => el("p", { class: "asd-reason" }, words)),
        heard.length ? el("p", {}, HISTORY_TEXT.span(heard, alarms, expected)) : null, fromLive ? el("p", {}, HISTORY_TEXT.live(fromLive)) : null,
        el("p", {}, HISTORY_TEXT.last(rows.at(-1))),
        el("details", { class: "asd-hint" }, el("summary", {}, "How a lasting change is found"), HISTORY_TEXT.method)));
  }

  driftWords(rows, { error, score, level, limit }) {
    if (error) return [error];
    const told = [...score.changes.map(({ since, shift }) => HISTORY_TEXT.drifted(rows[since], shift)),
      ...level.changes.map(({ since, shift }) => HISTORY_TEXT.louder(rows[since], shift))];
    const values = score.evidence.filter(value => value !== null), latest = ({ evidence }) => Math.max(Math.round(evidence.filter(value => value !== null).at(-1) ?? 1), 1);
    if (told.length) return told;
    return [values.length < FEW ? HISTORY_TEXT.few(values.length) : HISTORY_TEXT.steady(latest(score), latest(level), limit)];
  }

  times(rows) {
    const of = name => rows.filter(row => row.time_of === name).length;
    return (rows.length > MOST_SHOWN ? `${HISTORY_TEXT.shown(MOST_SHOWN, rows.length)} ` : "") + HISTORY_TEXT.times(of("name"), of("file"), of("verdict"));
  }

  rowsTable(rows) {
    const columns = [
      { title: "Time", isName: true, value: row => row.when, text: row => dayAndTime(row.when) },
      { title: "File", isName: true, value: baseName },
      { title: "Verdict", value: row => String(ORDER[row.verdict]), node: row => mini(row.verdict) },
      { title: "p", isNumber: true, value: row => row.p_value, text: row => bare(row.p_value) },
      { title: "Score / alarm from", isNumber: true, value: row => row.score === null ? null : row.score / row.threshold, text: row => `${number(row.score)} / ${number(row.threshold)}` },
      { title: "Why", isLong: true, value: row => row.reason || row.note },
      ...new Set(rows.map(row => row.version)).size > 1 ? [{ title: "Version", value: row => row.version }] : [],
      { unseen: "Delete", node: row => this.own.has(row.key) ? el("button", { type: "button", class: "asd-button", "aria-label": `Delete ${row.file}`, onclick: () => this.delete([row]) }, "Delete") : "" },
    ];
    return table(`Verdicts on ${this.machine}`, columns, rows.slice(-MOST_SHOWN).reverse());
  }
}

function mini(verdict) {
  return el("span", { class: `asd-mini asd-is-${KEYS[verdict]}` }, icon(verdict), WORDS[verdict]);
}

const openHistory = (root, server) => new History(root, server);
