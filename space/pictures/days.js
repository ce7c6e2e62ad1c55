/* The verdicts on one machine over days: p-values, and below them the evidence that its sound has changed for good. */

const LEAST_P = 1e-4, DAY_MS = 86_400_000, MEDIAN_OF = 9;

// British, as the page's English is of the day before the month.
const dates = () => language() === "en" ? "en-GB" : language();
const day = when => new Date(when).toLocaleDateString(dates(), { day: "numeric", month: "short" });
const dayAndTime = when => new Date(when).toLocaleString(dates(), { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

// Places of rows from 0 to 1: by their times, or one after the other.
function placesOf(rows, isByTime) {
  const first = rows[0].when, span = rows.at(-1).when - first;
  return rows.map((row, index) => rows.length === 1 ? 0.5 : isByTime && span > 0 ? (row.when - first) / span : index / (rows.length - 1));
}

// Labels at the starts of days, or of hours where all is within a day.
function timeTicks(rows, xOf) {
  const ticks = [], isDays = rows.at(-1).when - rows[0].when > DAY_MS;
  const label = when => isDays ? day(when) : new Date(when).toLocaleTimeString(dates(), { hour: "2-digit", minute: "2-digit" });
  rows.forEach((row, index) => {
    const x = xOf(index), text = label(row.when), last = ticks.at(-1);
    if (!last || (x - last.x > 74 && text !== last.text)) ticks.push({ x, text });
  });
  return ticks;
}

function medians(rows) {
  return rows.map((_, index) => {
    const near = rows.slice(Math.max(index - MEDIAN_OF + 1, 0), index + 1).map(row => row.p_value).filter(p => p !== null).sort((a, b) => a - b);
    return near.length < MEDIAN_OF ? null : near[MEDIAN_OF >> 1];
  });
}

// A machine's rows in the order of time; `found` is its drift; `pick(index)` is told what is clicked.
class Days {
  constructor(rows, found, pick) {
    Object.assign(this, { rows, found, chosen: rows.length - 1, isByTime: rows.at(-1).when - rows[0].when > 3_600_000 });
    this.medians = medians(rows);
    this.hasEvidence = (found.score?.evidence.filter(value => value !== null).length ?? 0) > 1;
    this.canvas = el("canvas", { role: "img", "aria-label": this.words() });
    this.below = el("canvas", { role: "img", "aria-label": this.wordsOfEvidence() });
    const caption = (title, hint, ...more) => el("figcaption", {}, el("strong", {}, title), el("span", { class: "asd-hint" }, hint), ...more);
    this.node = el("div", { class: "asd-stack" },
      el("figure", { class: "asd-row" }, caption(say("days.title"), say("days.hint")), el("div", { class: "asd-plot asd-timeline" }, this.canvas)),
      this.hasEvidence ? el("figure", { class: "asd-row" }, caption(say("days.evidence"), say("days.evidence_hint")), el("div", { class: "asd-plot" }, this.below)) : null);
    this.canvas.addEventListener("click", event => pick(this.nearest(event)));
    keepDrawn(this.node, () => this.draw());
  }

  choose(index) { this.chosen = index; if (this.node.isConnected) this.draw(); }
  spread(isByTime) { this.isByTime = isByTime; this.draw(); }
  // The alarm's word stands before the first recording.
  x(index) { return LEFT + this.before + this.places[index] * (this.width - this.before - 8); }
  y(p) { return this.bottom + Math.log10(Math.max(p, LEAST_P)) / 4 * (this.bottom - TOP - 12); }

  nearest({ offsetX, offsetY }) {
    const distance = index => Math.hypot(this.x(index) - offsetX, 0.3 * (this.place(this.rows[index]) - offsetY));
    return this.rows.reduce((best, _, index) => distance(index) < distance(best) ? index : best, 0);
  }

  place(row) { return row.p_value === null ? this.bottom - 2 : this.y(row.p_value); }

  draw() {
    const [context, width] = fit(this.canvas, 230);
    const before = context.measureText(say("days.alarm")).width + 18;
    Object.assign(this, { context, before, width: width - LEFT - RIGHT, bottom: 230 - 22, places: placesOf(this.rows, this.isByTime) });
    this.drawScale();
    this.drawChanges(context, this.bottom);
    this.drawMedian();
    this.rows.forEach((row, index) => index !== this.chosen && this.drawPoint(row, index));
    this.drawPoint(this.rows[this.chosen], this.chosen);
    if (this.hasEvidence) this.drawEvidence();
  }

  drawScale() {
    const { context, width, bottom } = this;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const p of [1, 0.1, 0.01, 0.001, LEAST_P]) {
      context.fillStyle = color(this.canvas, "--asd-line");
      context.fillRect(LEFT, this.y(p), width, 1);
      context.fillStyle = color(this.canvas, "--asd-muted");
      context.fillText(p === LEAST_P ? `≤ ${fixed(LEAST_P, 4)}` : local(p), LEFT - 6, this.y(p));
    }
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const { x, text } of timeTicks(this.rows, index => this.x(index))) context.fillText(text, x, bottom + 6);
    // Each verdict has the alarm that it was given with.
    context.strokeStyle = context.fillStyle = color(this.canvas, "--asd-ink");
    context.lineWidth = 1.5;
    context.setLineDash([6, 4]);
    context.beginPath();
    this.rows.forEach((row, index) => {
      const from = index ? (this.x(index - 1) + this.x(index)) / 2 : LEFT;
      const to = index < this.rows.length - 1 ? (this.x(index) + this.x(index + 1)) / 2 : LEFT + width;
      context.lineTo(from, this.y(row.false_alarm_rate));
      context.lineTo(to, this.y(row.false_alarm_rate));
    });
    context.stroke();
    context.setLineDash([]);
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillText(say("days.alarm"), LEFT + 4, this.y(this.rows[0].false_alarm_rate) - 4);
  }

  // Where the sound changed for good, and where another model or enrollment came.
  drawChanges(context, bottom) {
    const lines = [];
    for (const kind of ["score", "level"]) for (const { since } of this.found[kind]?.changes ?? []) lines.push([since, say("days.since"), "--asd-anomalous", []]);
    this.rows.forEach((row, index) => {
      if (index && row.version !== this.rows[index - 1].version) lines.push([index, say("days.version"), "--asd-muted", [2, 3]]);
    });
    let height = 0;
    for (const [index, words, name, dash] of lines) {
      const x = index ? (this.x(index - 1) + this.x(index)) / 2 : this.x(0);
      context.strokeStyle = context.fillStyle = color(this.canvas, name);
      context.lineWidth = 2;
      context.setLineDash(dash);
      context.beginPath();
      context.moveTo(x, TOP);
      context.lineTo(x, bottom);
      context.stroke();
      context.setLineDash([]);
      if (context !== this.context) continue;
      const isRight = x < LEFT + this.width / 2;
      context.textAlign = isRight ? "left" : "right";
      context.textBaseline = "top";
      context.fillText(words, x + (isRight ? 5 : -5), TOP + height);
      height += 14;
    }
  }

  drawMedian() {
    this.line(this.context, this.medians.map((p, index) => p === null ? null : [this.x(index), this.y(p)]), "--asd-muted", []);
  }

  line(context, points, name, dash) {
    context.strokeStyle = color(this.canvas, name);
    context.lineWidth = 1.5;
    context.setLineDash(dash);
    context.beginPath();
    for (const point of points) if (point) context.lineTo(...point);
    context.stroke();
    context.setLineDash([]);
  }

  drawPoint(row, index) {
    const { context } = this, x = this.x(index), y = this.place(row);
    context.fillStyle = context.strokeStyle = color(this.canvas, `--asd-${KEYS[row.verdict]}`);
    context.beginPath();
    if (row.verdict === ANOMALOUS) { context.moveTo(x - 6, y + 5); context.lineTo(x + 6, y + 5); context.lineTo(x, y - 6); }
    else if (row.verdict === NORMAL) context.arc(x, y, 3.5, 0, 7);
    else context.rect(x - 3.5, y - 3.5, 7, 7);
    context.closePath();
    context.lineWidth = 1.5;
    if (KEYS[row.verdict] === "unknown") context.stroke(); else context.fill();
    if (index !== this.chosen) return;
    context.strokeStyle = color(this.canvas, "--asd-ink");
    context.lineWidth = 2;
    context.beginPath();
    context.arc(x, y, 10, 0, 7);
    context.stroke();
  }

  // From 1, no evidence, to the limit at which a change is reported; on a logarithmic scale.
  drawEvidence() {
    const [context] = fit(this.below, 96), bottom = 96 - 8, { limit } = this.found;
    const y = value => bottom - Math.log(Math.min(Math.max(value, 1), limit)) / Math.log(limit) * (bottom - TOP - 6);
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const value of [1, Math.sqrt(limit), limit]) {
      context.fillStyle = color(this.below, value === limit ? "--asd-ink" : "--asd-line");
      context.fillRect(LEFT, y(value), this.width, 1);
      context.fillStyle = color(this.below, "--asd-muted");
      context.fillText(String(Math.round(value)), LEFT - 6, y(value));
    }
    this.drawChanges(context, bottom);
    for (const [kind, dash] of [["level", [6, 4]], ["score", []]])
      this.line(context, this.found[kind].evidence.map((value, index) => value === null ? null : [this.x(index), y(value)]), "--asd-normal", dash);
  }

  words() {
    const { rows } = this, judged = rows.filter(row => row.p_value !== null);
    const lowest = judged.reduce((least, row) => least && least.p_value <= row.p_value ? least : row, null);
    return [say("days.words", { title: say("days.title"), recordings: counted(rows.length, "recordings"), from: dayAndTime(rows[0].when), to: dayAndTime(rows.at(-1).when),
      alarms: counted(rows.filter(row => row.verdict === ANOMALOUS).length, "alarm_count") }),
    lowest ? say("days.lowest", { p: bare(lowest.p_value), day: dayAndTime(lowest.when) }) : null, say("days.below")].filter(Boolean).join(" ");
  }

  wordsOfEvidence() {
    if (!this.hasEvidence) return "";
    const latest = kind => Math.round(this.found[kind].evidence.filter(value => value !== null).at(-1) ?? 1);
    return say("days.evidence_words", { title: say("days.evidence"), limit: this.found.limit, score: latest("score"), level: latest("level") });
  }
}
