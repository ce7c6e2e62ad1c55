/* The scores of all windows of a long recording. */

function timeline(payload, choose) {
  const { result } = payload;
  const windows = result.windows.length ? result.windows
    : [{ start_s: 0, end_s: result.duration_s, score: result.score, p_value: result.p_value, verdict: result.verdict }];
  const scores = windows.map(window => window.score).filter(score => score !== null);
  const alarms = windows.flatMap((window, index) => window.verdict === ANOMALOUS ? [index] : []);
  let chosen = payload.chosen;
  const highest = windows[payload.chosen], hasScores = scores.length > 0;
  const canvas = el("canvas", { role: "img", "aria-label": [
    say("timeline.scores", { count: windows.length }),
    hasScores ? say("timeline.highest", { score: number(highest.score), at: seconds(highest.start_s, 1) }) : say("timeline.no_score"),
    result.threshold === null ? null : say("timeline.from", { threshold: number(result.threshold) }), say("timeline.below")].filter(Boolean).join(" ") });
  const low = Math.min(...scores, result.threshold ?? Infinity) / 1.3, high = Math.max(...scores, result.threshold ?? 0, FAINTEST) * 1.15;
  const slider = el("input", {
    type: "range", min: "1", max: String(windows.length), step: "1", value: String(chosen + 1), "aria-label": say("timeline.window_label"),
  });
  const label = el("span", { class: "asd-clock" });
  const height = 190, bottom = height - 20;
  let geometry = null;
  const draw = () => {
    const [context, width] = fit(canvas, height), wide = width - LEFT - RIGHT, total = windows[windows.length - 1].end_s;
    const x = time => LEFT + time / total * wide;
    const y = score => bottom - onLogScale(score, low, high) * (bottom - TOP - 14);
    const marks = [];  // drawn when all windows are: the last one may cover a part of the one before
    geometry = { total, wide };
    windows.forEach((window, index) => {
      const left = x(window.start_s), right = Math.max(x(window.end_s) - 1, left + 1);
      if (index === chosen) {
        context.fillStyle = color(canvas, "--asd-chosen");
        context.fillRect(left, TOP, right - left, bottom - TOP);
      }
      context.fillStyle = color(canvas, `--asd-${KEYS[window.verdict]}`);
      const top = window.score === null ? bottom - 4 : y(window.score);
      context.fillRect(left, top, right - left, bottom - top);
      if (window.verdict === ANOMALOUS) marks.push([(left + right) / 2, top]);
    });
    context.fillStyle = color(canvas, "--asd-anomalous");
    for (const [middle, top] of marks) {
      context.beginPath();
      context.moveTo(middle - 5, top - 3);
      context.lineTo(middle + 5, top - 3);
      context.lineTo(middle, top - 11);
      context.fill();
    }
    context.strokeStyle = context.fillStyle = color(canvas, "--asd-ink");
    if (result.threshold !== null) {
      context.setLineDash([6, 4]);
      context.lineWidth = 1.5;
      context.beginPath();
      context.moveTo(LEFT, y(result.threshold));
      context.lineTo(LEFT + wide, y(result.threshold));
      context.stroke();
      context.setLineDash([]);
      context.textAlign = "right";
      context.textBaseline = "middle";
      context.fillText(number(result.threshold), LEFT - 6, y(result.threshold));
      context.textAlign = "left";
      context.fillText(say("timeline.alarm"), LEFT + 4, y(result.threshold) - 8);
    }
    context.fillStyle = color(canvas, "--asd-muted");
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const score of hasScores ? new Set([Math.max(...scores), Math.min(...scores)]) : [])
      if (result.threshold === null || Math.abs(y(score) - y(result.threshold)) > 14) context.fillText(number(score), LEFT - 6, y(score));
    context.textAlign = "center";
    context.textBaseline = "top";
    const step = niceStep(total, Math.min(10, wide / 70));
    for (let time = 0; time <= total; time += step)
      if (x(time) < LEFT + wide - 20) context.fillText(seconds(time, step < 1 ? 1 : 0), Math.max(x(time), LEFT + 8), bottom + 6);
  };
  const pick = index => {
    chosen = index;
    slider.value = String(index + 1);
    const window = windows[index];
    label.textContent = `${seconds(window.start_s, 1)} – ${seconds(window.end_s, 1)}: ${WORDS[window.verdict].toLowerCase()}` +
      scoreWords(window);
    if (canvas.isConnected) draw();
  };
  pick(chosen);
  canvas.addEventListener("click", event => {
    const time = (event.offsetX - LEFT) / geometry.wide * geometry.total;
    // The last window may reach back into the one before it.
    const index = windows.findIndex(window => time >= window.start_s && time < window.end_s);
    if (index >= 0) { pick(index); choose(index); }
  });
  slider.addEventListener("input", () => pick(Number(slider.value) - 1));
  slider.addEventListener("change", () => choose(Number(slider.value) - 1));
  const brief = time => seconds(time, Number.isInteger(time) ? 0 : 1);
  // Alarms in a row are one stretch. A report has all of them.
  const isReport = payload.part !== undefined, most = isReport ? Infinity : 12, stretches = [];
  for (const index of alarms) {
    const last = stretches[stretches.length - 1];
    if (last && last.to === index - 1) last.to = index; else stretches.push({ from: index, to: index });
  }
  const list = alarms.length === 0 ? el("p", {}, say(hasScores ? "timeline.no_alarm" : "timeline.none_judged"))
    : el("p", { class: "asd-alarms" }, `${say("timeline.alarms", { alarms: alarms.length, count: windows.length })} `,
      ...stretches.slice(0, most).map(({ from, to }) => el(isReport ? "span" : "button", {
        type: "button", class: "asd-button", onclick: () => { pick(from); choose(from); },
      }, `${brief(windows[from].start_s)} – ${brief(windows[to].end_s)}`)),
      stretches.length > most ? ` ${say("timeline.more", { more: stretches.length - most })}` : null);
  const values = table(say("timeline.table"), [
    { title: say("column.from_s"), value: window => window.start_s, isNumber: true, text: window => fixed(window.start_s, 1) },
    { title: say("column.to_s"), value: window => window.end_s, isNumber: true, text: window => fixed(window.end_s, 1) },
    { title: say("column.verdict"), value: window => WORDS[window.verdict].toLowerCase() },
    { title: say("column.score"), value: window => window.score, isNumber: true },
    { title: "p", value: window => window.p_value, isNumber: true, text: window => bare(window.p_value) },
  ], windows);
  const node = el("figure", { class: "asd-row" },
    el("figcaption", {}, el("strong", {}, say("tab.timeline")),
      el("span", { class: "asd-hint" }, say(isReport ? "timeline.row" : "timeline.row_choose"))),
    el("div", { class: "asd-plot asd-timeline" }, canvas),
    isReport ? null : el("div", { class: "asd-player" }, payload.url ? playButton(payload, say("play.all")) : null, el("span", {}, say("timeline.window")), slider, label),
    el("details", isReport ? { open: "" } : {}, el("summary", {}, say("timeline.values")), values));
  keepDrawn(node, draw);
  return el("div", { class: "asd-answer" }, card(payload), list, node, isReport ? part(payload.part) : null,
    downloads(payload, "timeline"));
}
