/* What the microphone hears now: a log-mel that rolls, the verdict on the last window, and the alarms so far. */

// The elements stay while the answers change: a screen reader is told of a verdict once, and no button loses its focus.
class LiveAnswer {
  constructor(payload) {
    this.status = el("div", { role: "status" });
    this.clock = el("p", { class: "asd-hint" });
    this.stack = new Stack(payload.view, rowsOf(payload.view, ["log_mel"]).filter(row => row.layer), { hasPlayer: false });
    this.log = el("div");
    this.node = el("div", { class: "asd-answer" }, this.status, this.clock, this.stack.node, this.log);
    this.judged = this.alarms = null;
  }

  update(payload) {
    const { view, latest, counts, alarms } = payload, total = Object.values(counts).reduce((sum, count) => sum + count, 0);
    this.stack.update(view);
    const words = [ANOMALOUS, NORMAL, "cannot tell"].filter(verdict => counts[verdict]).map(verdict => `${counts[verdict]} ${WORDS[verdict].toLowerCase()}`);
    this.clock.replaceChildren(
      el("span", { class: "asd-listening" }, say("live.clock", { heard: seconds(payload.heard_s, 0), next: Math.ceil(payload.next_s) }), " "),
      total ? say("live.counts", { count: total, verdicts: words.join(", ") }) : "");
    if (total !== this.judged) {
      this.judged = total;
      this.status.replaceChildren(latest ? this.verdict(latest) : el("p", { class: "asd-empty" }, say("live.first")));
    }
    const last = alarms.length ? alarms[alarms.length - 1].time : 0;
    if (last !== this.alarms) {
      this.alarms = last;
      this.log.replaceChildren(...this.table(alarms, counts));
    }
  }

  verdict(latest) {
    const name = say("live.sound", { from: seconds(latest.start_s, 0), to: seconds(latest.end_s, 0) });
    return el("section", { class: `asd-card asd-is-${KEYS[latest.verdict]}` }, el("div", { class: "asd-icon" }, icon(latest.verdict)),
      el("div", { class: "asd-words" }, el("h2", { class: "asd-verdict" }, WORDS[latest.verdict]), el("p", {}, ...explanation(latest, name)),
        latest.reason ? el("p", { class: "asd-reason", lang: "en" }, ...unbroken(latest.reason)) : null, gauge(latest)));
  }

  table(alarms, counts) {
    if (!alarms.length) return [];
    const time = alarm => new Date(alarm.time * 1000), rows = [...alarms].reverse();
    const lines = alarms.map(alarm => ({ ...alarm, time: time(alarm).toISOString() }));
    const left = counts[ANOMALOUS] - alarms.length;
    return [
      el("div", { class: "asd-downloads" }, el("strong", {}, say("live.alarms")),
        el("button", { type: "button", class: "asd-button", onclick: () => save("alarms.json", "application/json", JSON.stringify(lines, null, 2)) }, say("save.json"))),
      left ? el("p", { class: "asd-hint" }, say("live.left", { shown: alarms.length, left })) : null,
      table(say("live.alarms"), [
        { title: say("column.time"), value: alarm => alarm.time, isName: true, text: alarm => time(alarm).toLocaleTimeString(dates()) },
        { title: say("column.from"), value: alarm => alarm.start_s, isNumber: true, text: alarm => seconds(alarm.start_s, 0) },
        { title: "p", value: alarm => alarm.p_value, isNumber: true, text: alarm => bare(alarm.p_value) },
        { title: say("column.machine"), value: alarm => alarm.machine, isName: true },
        { title: say("live.why"), value: alarm => alarm.reason, isLong: true, node: alarm => english(alarm.reason ?? "–") },
      ], rows),
    ].filter(Boolean);
  }
}

const liveAnswers = new WeakMap();

function live(payload, choose, root) {
  const shown = liveAnswers.get(root), isOn = shown && root.firstChild === shown.node;
  const answer = isOn ? shown : new LiveAnswer(payload);
  liveAnswers.set(root, answer);
  answer.update(payload);
  return answer.node;
}
