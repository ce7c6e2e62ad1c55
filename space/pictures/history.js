/* The tab History: the verdicts on each machine over days, and whether its sound has changed for good. */

// "12 verdicts", in the page's language.
const counted = (number, what) => say(`history.${what}`, { count: number }).replace(String(number), number.toLocaleString(language()));
const rowName = row => named(baseName(row));
const HISTORY_TEXT = {
  imported: (rows, broken) => say("history.imported", { verdicts: counted(rows, "verdicts") }) + (broken ? ` ${say("history.left_out", { count: broken })}` : ""),
  span: (rows, alarms, expected) => say(day(rows[0].when) === day(rows.at(-1).when) ? "history.span_day" : "history.span", { recordings: counted(rows.length, "recordings"), from: day(rows[0].when), to: dayAndTime(rows.at(-1).when),
    alarms: counted(alarms, "alarm_count"), expected: number(expected, 2) }),
  last: row => [say("history.last", { verdict: WORDS[row.verdict].toLowerCase() + (row.p_value === null ? "" : `, ${pValue(row.p_value)}`) }),
    ...row.reason ? [" ", english(row.reason)] : []],
  drifted: (row, shift) => say(shift > 0 ? "history.higher" : "history.lower", { file: rowName(row), day: day(row.when) }),
  louder: (row, shift) => say(shift > 0 ? "history.louder" : "history.softer", { file: rowName(row), day: day(row.when), shift: fixed(Math.abs(shift), 1) }),
  times: numbers => say("history.times", { times: Object.entries(numbers).filter(([, number]) => number)
    .map(([of, number]) => say(`history.time_of_${of}`, { number })).join(", ") }),
};
const MOST_ROWS = 20_000, MOST_SHOWN = 500, FEW = 20, MOST_BYTES = 100 * 2 ** 20;
const KINDS_OF_DRIFT = { score: "score", level: "level_db" };

class History {
  constructor(root, server) {
    Object.assign(this, { root, server, machine: null, own: new Set(), folder: [] });
    this.status = el("p", { role: "status", class: "asd-hint" });
    new IntersectionObserver(([entry]) => entry.isIntersecting && this.load()).observe(root);
    for (const event of ["asd-remembered", "asd-language"])
      document.addEventListener(event, () => root.offsetParent && this.load());
  }

  // Read everything, ask for the drift, and draw. Of several calls the last one draws.
  async load() {
    const turn = this.turn = {}, own = (await remembered()).map(checkedRow).filter(row => row !== null);
    const { texts, error } = await this.server.kept_in_folder() ?? { texts: null, error: ["history.silent", {}] };
    const rows = mergedRows([...(texts ?? []).map(({ name, text }) => rowsOfText(name, text).rows), own]);
    const machines = Map.groupBy(rows.slice(-MOST_ROWS), row => row.machine);
    const drift = await this.drift(machines);
    if (turn !== this.turn) return;
    this.own = new Set(own.map(row => row.key));
    if (own.length > MOST_ROWS) forget(own.sort((one, other) => one.when - other.when).slice(0, -MOST_ROWS).map(row => row.key));
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
    const answer = await this.server.drift(series.map(({ values, name }) => values.map(({ row }) => row[name]))) ?? { error: ["history.silent", {}] };
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
    const kept = el("p", all.length ? {} : { class: "asd-empty" }, all.length
      ? `${say("history.all", { verdicts: counted(all.length, "verdicts"), machines: counted(this.machines.size, "machines") })} ` : "",
      say(all.length ? this.isFolder ? "history.folder" : "history.browser" : "history.empty"));
    const problem = this.error ? el("p", { role: "alert" }, telling(this.error)) : null;
    this.root.replaceChildren(el("div", { class: "asd-answer" }, el("div", { class: "asd-downloads" }, this.importing(), ...this.exports(all)),
      this.status, problem, kept, this.machines.size > 1 ? this.overview() : null, ...(rows ? this.about(rows) : [])));
  }

  importing() {
    const input = el("input", { type: "file", class: "asd-unseen", accept: ".csv,.json,.jsonl", multiple: "", onchange: () => this.import([...input.files]) });
    return el("label", { class: "asd-button asd-file" }, say("history.import"), input);
  }

  exports(rows) {
    if (!rows.length) return [];
    const columns = rows.map(row => Object.fromEntries(HISTORY_COLUMNS.map(name => [name, row[name]])));
    const button = (words, name, type, content) => el("button", { type: "button", class: "asd-button", onclick: () => save(name, type, content()) }, words);
    return [button(say("save.csv"), "history.csv", "text/csv", () => asCsv(HISTORY_COLUMNS, columns)),
      button(say("save.json"), "history.json", "application/json", () => JSON.stringify(columns, null, 2))];
  }

  async import(files) {
    const words = [];
    for (const file of files) {
      const { rows, broken } = file.size > MOST_BYTES ? { rows: [], broken: 0 } : rowsOfText(file.name, await file.text());
      const isKept = await remember(rows);
      words.push(file.size > MOST_BYTES ? say("history.too_large", { name: file.name })
        : !rows.length ? say("history.nothing", { name: file.name })
        : isKept ? HISTORY_TEXT.imported(rows.length, broken) : say("history.not_kept", { name: file.name }));
    }
    this.status.textContent = words.join(" ");
  }

  async delete(rows) {
    const keys = rows.map(row => row.key).filter(key => this.own.has(key));
    if (!window.confirm(say("history.confirm", { verdicts: counted(keys.length, "verdicts"), machine: this.machine }))) return;
    await forget(keys);
    this.load();
  }

  overview() {
    const alarms = rows => rows.filter(row => row.verdict === ANOMALOUS).length, last = rows => rows.at(-1);
    const change = machine => Object.entries(this.found.get(machine)).filter(([, kind]) => kind.changes?.length).map(([kind]) => say(`history.of_${kind}`)).join(", ") || null;
    return table(say("history.table"), [
      { title: say("column.machine"), isName: true, value: ([machine]) => machine, node: ([machine]) => el("button", { type: "button", class: "asd-link",
        "aria-current": String(machine === this.machine), onclick: () => { this.machine = machine; this.draw(); } }, machine) },
      { title: say("history.last_verdict"), value: ([, rows]) => String(ORDER[last(rows).verdict]), node: ([, rows]) => mini(last(rows).verdict) },
      { title: say("history.alarms"), isNumber: true, value: ([, rows]) => alarms(rows) },
      { title: say("history.changed"), value: ([machine]) => change(machine) },
      { title: say("history.recordings_column"), isNumber: true, value: ([, rows]) => rows.length },
      { title: say("history.last_recording"), value: ([, rows]) => last(rows).when, text: ([, rows]) => dayAndTime(last(rows).when) },
    ], [...this.machines]);
  }

  // One machine: what to know in words, the picture, and the rows.
  about(rows) {
    const found = this.found.get(this.machine), pick = index => { slider.value = String(index + 1); choose(); };
    const days = new Days(rows, found, pick), own = rows.filter(row => this.own.has(row.key));
    const slider = el("input", { type: "range", min: "1", max: String(rows.length), step: "1", value: String(rows.length), "aria-label": say("history.read"), oninput: () => choose() });
    const label = el("span", { class: "asd-clock" });
    const choose = () => {
      const row = rows[Number(slider.value) - 1];
      label.textContent = `${dayAndTime(row.when)}, ${rowName(row)}: ${WORDS[row.verdict].toLowerCase()}${row.p_value === null ? "" : `, ${pValue(row.p_value)}`}`;
      slider.setAttribute("aria-valuetext", label.textContent);
      days.choose(Number(slider.value) - 1);
    };
    choose();
    const spread = el("select", { "aria-label": say("history.across_label"), onchange: () => days.spread(spread.value === "time") },
      ...[["time", say("history.by_time")], ["order", say("history.by_order")]].map(([value, words]) => el("option", { value, ...((value === "time") === days.isByTime ? { selected: "" } : {}) }, words)));
    return [this.card(rows, found), days.node,
      el("div", { class: "asd-player" }, el("span", {}, say("history.recording")), slider, label, el("label", { class: "asd-hint" }, say("history.across"), " ", spread)),
      this.rowsTable(rows), el("p", { class: "asd-hint" }, this.times(rows)),
      own.length ? el("div", {}, el("button", { type: "button", class: "asd-button", onclick: () => this.delete(own) }, say("history.delete_all", { machine: this.machine }))) : null];
  }

  card(rows, found) {
    const heard = rows.filter(row => row.heard_by !== "live"), alarms = heard.filter(row => row.verdict === ANOMALOUS).length;
    const expected = heard.reduce((sum, row) => sum + (row.p_value === null ? 0 : row.false_alarm_rate), 0), fromLive = rows.length - heard.length;
    const isChanged = Boolean(found.score?.changes.length || found.level?.changes.length);
    const verdict = found.score?.changes.length ? ANOMALOUS : rows.at(-1).verdict;
    return el("section", { class: `asd-card asd-is-${KEYS[verdict]}` }, el("div", { class: "asd-icon" }, icon(verdict)),
      el("div", { class: "asd-words" }, el("h2", { class: "asd-verdict" }, this.machine), ...this.driftWords(rows, found).map(words => el("p", { class: isChanged ? "asd-reason" : "" }, words)),
        heard.length ? el("p", {}, HISTORY_TEXT.span(heard, alarms, expected)) : null, fromLive ? el("p", {}, say("history.live", { alarms: counted(fromLive, "alarm_count") })) : null,
        el("p", {}, ...HISTORY_TEXT.last(rows.at(-1))), inEnglish(rows.at(-1).reason),
        el("details", { class: "asd-hint" }, el("summary", {}, say("history.how")), say("history.method"))));
  }

  driftWords(rows, { error, score, level, limit }) {
    if (error) return [telling(error)];
    const changes = [...score.changes.map(({ since, shift }) => HISTORY_TEXT.drifted(rows[since], shift)),
      ...level.changes.map(({ since, shift }) => HISTORY_TEXT.louder(rows[since], shift))];
    const values = score.evidence.filter(value => value !== null), latest = ({ evidence }) => Math.max(Math.round(evidence.filter(value => value !== null).at(-1) ?? 1), 1);
    if (changes.length) return changes;
    return [values.length < FEW ? say("history.few", { recordings: counted(values.length, "recordings") })
      : say("history.steady", { score: latest(score), level: latest(level), limit })];
  }

  times(rows) {
    const of = name => rows.filter(row => row.time_of === name).length;
    return (rows.length > MOST_SHOWN ? `${say("history.shown", { shown: MOST_SHOWN, all: rows.length })} ` : "") + HISTORY_TEXT.times({ name: of("name"), file: of("file"), verdict: of("verdict") });
  }

  rowsTable(rows) {
    const columns = [
      { title: say("column.time"), isName: true, value: row => row.when, text: row => dayAndTime(row.when) },
      { title: say("column.file"), isName: true, value: rowName },
      { title: say("column.verdict"), value: row => String(ORDER[row.verdict]), node: row => mini(row.verdict) },
      { title: "p", isNumber: true, value: row => row.p_value, text: row => bare(row.p_value) },
      { title: say("history.score_of"), isNumber: true, value: row => row.score === null ? null : row.score / row.threshold, text: row => `${number(row.score)} / ${number(row.threshold)}` },
      { title: say("column.why"), isLong: true, value: row => row.reason || row.note, node: row => english(row.reason || row.note || "–") },
      ...new Set(rows.map(row => row.version)).size > 1 ? [{ title: say("column.version"), value: row => row.version }] : [],
      { unseen: say("history.delete"), node: row => this.own.has(row.key) ? el("button", { type: "button", class: "asd-button", "aria-label": say("history.delete_row", { row: rowName(row) }), onclick: () => this.delete([row]) }, say("history.delete")) : "" },
    ];
    return table(say("history.rows", { machine: this.machine }), columns, rows.slice(-MOST_SHOWN).reverse());
  }
}

function mini(verdict) {
  return el("span", { class: `asd-mini asd-is-${KEYS[verdict]}` }, icon(verdict), WORDS[verdict]);
}

const openHistory = (root, server) => new History(root, server);
