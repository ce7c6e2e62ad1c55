/* Draws what the app answers: the verdict, the pictures on one time axis, the comparison and the timeline.
 *
 * No library and no request: the app, offline, and the report that a reader saves run this same file.
 * Text from outside (file names, machine names) only ever becomes text, never markup. */
window.asd = (() => {
  // viridis, cividis and RdBu_r of matplotlib in 17 steps: readable for color-blind people and in print.
  const COLORS = Object.fromEntries(Object.entries({
    level:
      "44015448186a472d7b4240863b528b33638d2c728e26828e21918c1fa08828ae803fbc735ec96284d44baddc30d8e219fde725",
    attention:
      "00224e002e6a1a386f32436d434e6c535a6d61656f6f70737d7c788c88789b9476aba072bcae6ccdbb63dec958f0d846fee838",
    difference:
      "0530611752902a71b23f8ec06bacd19bc9e0c2ddece0ecf3f7f6f6fbe5d8fbccb4f5aa89e48066d05548ba2832930e2667001f",
  }).map(([name, hex]) => [name, palette(hex)]));
  const NORMAL = "normal", ANOMALOUS = "anomalous";
  const WORDS = { [NORMAL]: "Normal", [ANOMALOUS]: "Anomalous", "cannot tell": "Cannot tell" };
  const KEYS = { [NORMAL]: "normal", [ANOMALOUS]: "anomalous", "cannot tell": "unknown" };
  const ICONS = {
    [NORMAL]: "M9 16.2 4.8 12l-1.9 1.9L9 20 21.1 7.9 19.2 6z",
    [ANOMALOUS]: "M12 2 1 21h22zm-1.2 7h2.4v6h-2.4zm0 7.6h2.4V19h-2.4z",
    "cannot tell": "M12 2a6 6 0 0 0-6 6h3a3 3 0 1 1 4.6 2.5C11.7 11.8 10.5 13 10.5 15.5h3c0-1.4.8-2 2-2.9A6 6 0 0 0 12 2zm-1.7 16h3.4v3.4h-3.4z",
  };
  const TICKS_HZ = [125, 250, 500, 1000, 2000, 4000, 8000];
  const LEFT = 58, RIGHT = 12, TOP = 6;

  // Small things

  function palette(hex) {
    const anchors = hex.match(/../g).map(pair => parseInt(pair, 16)), last = anchors.length / 3 - 1;
    const table = new Uint8ClampedArray(256 * 4);
    for (let value = 0; value < 256; value++) {
      const place = value / 255 * last, from = Math.min(Math.floor(place), last - 1), share = place - from;
      for (let c = 0; c < 3; c++)
        table[4 * value + c] = anchors[3 * from + c] * (1 - share) + anchors[3 * from + 3 + c] * share;
      table[4 * value + 3] = 255;
    }
    return table;
  }

  function el(tag, attributes = {}, ...children) {
    const node = tag === "svg" || tag === "path" ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes))
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value); else node.setAttribute(name, value);
    node.append(...children.filter(child => child !== null && child !== undefined));
    return node;
  }

  function bytes(text) {
    return Uint8Array.from(atob(text), character => character.charCodeAt(0));
  }

  function seconds(value, digits = 2) {
    if (value < 60) return `${value.toFixed(digits)} s`;
    return `${Math.floor(value / 60)}:${(value % 60).toFixed(digits > 1 ? 1 : 0).padStart(digits > 1 ? 4 : 2, "0")} min`;
  }

  function hertz(value) {
    return value >= 1000 ? `${(value / 1000).toFixed(value >= 9950 ? 0 : 1).replace(/\.0$/, "")} kHz` : `${Math.round(value)} Hz`;
  }

  function number(value, digits = 3) {
    if (value === null || value === undefined) return "–";
    return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(digits)));
  }

  function oneIn(share) {
    if (share >= 0.995) return "every";
    const count = 1 / share, digits = Math.pow(10, Math.max(0, Math.floor(Math.log10(count)) - 1));
    return share > 0.3 ? `${Math.round(share * 100)} in 100` : `1 in ${(Math.round(count / digits) * digits).toLocaleString("en")}`;
  }

  function niceStep(span, wanted) {
    const raw = span / wanted, power = 10 ** Math.floor(Math.log10(raw));
    return [1, 2, 5, 10].find(step => step * power >= raw) * power;
  }

  function color(node, name) {
    return getComputedStyle(node).getPropertyValue(name).trim();
  }

  function icon(verdict) {
    return el("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, el("path", { d: ICONS[verdict] }));
  }

  function save(name, type, content) {
    const link = el("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  // What was drawn before is forgotten once it is off the page; what is on it follows its size and the theme.
  function keepDrawn(node, draw) {
    let frame = null;
    const later = () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(() => node.isConnected && draw()); };
    new ResizeObserver(later).observe(node);
    const themes = new MutationObserver(() => node.isConnected ? later() : themes.disconnect());
    themes.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }

  function fit(canvas, height) {
    const width = canvas.parentElement.clientWidth, ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = `11px ${getComputedStyle(canvas).fontFamily}`;
    context.fillStyle = context.strokeStyle = color(canvas, "--asd-muted");
    return [context, width];
  }

  // The verdict

  function explanation(result, name) {
    const machine = result.machine;
    if (result.verdict === NORMAL) return `${name} sounds as ${machine} does in normal operation.`;
    if (result.verdict === ANOMALOUS) return `${name} does not sound as ${machine} does in normal operation.`;
    return `${name}: ${result.note || "there is too little to judge by"}.`;
  }

  function chance(result) {
    if (result.p_value === null) return null;
    // A tail fitted to a few dozen clips knows nothing of one in a million.
    const words = result.p_value >= 0.995 ? "Every normal recording"
      : result.p_value < 1e-4 ? "Fewer than 1 in 10,000 normal recordings" : `About ${oneIn(result.p_value)} normal recordings`;
    return `${words} of this machine would sound as unusual or more so; the alarm is set to ${oneIn(result.false_alarm_rate)}.`;
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
      "aria-label": `Anomaly score ${number(result.score)}, alarm from ${number(result.threshold)}`,
    },
      el("div", { class: "asd-bar" },
        el("div", { class: "asd-bar-normal", style: `width:${place(result.threshold)}%` }),
        el("div", { class: "asd-bar-anomalous" })),
      mark(result.score, `score asd-is-${KEYS[result.verdict]}`, `score ${number(result.score)}`),
      mark(result.threshold, "threshold", `alarm from ${number(result.threshold)}`),
      typical === null || typical === undefined || Math.abs(place(typical) - place(result.threshold)) < 35 ? null
        : mark(typical, "typical", "typical of normal"));
  }

  function facts(result) {
    const method = {
      "own and other machines": "how this machine and the others vary", "other machines": "how other machines vary",
    }[result.method];
    const clips = result.calibration_clips;
    const rows = [
      ["p-value", number(result.p_value)],
      ["Machine", result.machine === null ? "none of the enrolled ones"
        : result.machine + (result.machine === result.predicted_machine ? "" : (result.predicted_machine ? ` (closest: ${result.predicted_machine})` : " (close to none)"))],
      ["Similarity to it", result.similarity === null || result.similarity === undefined ? "–" : result.similarity.toFixed(2)],
      ["Rests on", method ? `${method} (${clips} ${clips === 1 ? "clip" : "clips"})` : "–"],
      ["Duration", seconds(result.duration_s, 1)],
    ];
    return el("dl", { class: "asd-facts" }, ...rows.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
  }

  function card(payload, { isPart = false } = {}) {
    const { result, name, typical } = payload;
    const node = el("section", { class: `asd-card asd-is-${KEYS[result.verdict]}`, role: "status" },
      el("div", { class: "asd-icon" }, icon(result.verdict)),
      el("div", { class: "asd-words" },
        el("h2", { class: "asd-verdict" }, WORDS[result.verdict]),
        el("p", {}, explanation(result, name)),
        result.note && KEYS[result.verdict] !== "unknown" ? el("p", {}, `But ${result.note}.`) : null,
        result.reason ? el("p", { class: "asd-reason" }, result.reason) : null,
        chance(result) ? el("p", { class: "asd-chance" }, chance(result)) : null,
        gauge(result, typical)));
    if (!isPart) node.append(facts(result));
    return node;
  }

  // Pictures on one time axis

  // One row: a waveform, or a layer of cells (rows, frames) under a color scale.
  class Row {
    constructor(stack, options) {
      Object.assign(this, options);
      this.stack = stack;
      this.base = el("canvas", { role: "img", "aria-label": `${options.title}. ${options.hint}` });
      this.over = el("canvas", { "aria-hidden": "true", class: "asd-over" });
      const key = this.layer ? this.colorBar() : null;
      this.node = el("figure", { class: "asd-row" },
        el("figcaption", {}, el("strong", {}, options.title), el("span", { class: "asd-hint" }, options.hint), key),
        el("div", { class: "asd-plot" }, this.base, this.over));
      if (this.layer) this.image = this.paint();
      this.over.addEventListener("pointermove", event => stack.point(this, event));
      this.over.addEventListener("pointerdown", event => { stack.point(this, event); stack.seekTo(event.offsetX, this); });
      this.over.addEventListener("pointerleave", () => stack.leave());
    }

    get height() { return (window.innerWidth < 700 ? 0.8 : 1) * this.size; }

    colorBar() {
      const table = COLORS[this.colors], stops = [];
      for (let i = 0; i <= 8; i++) {
        const at = 4 * Math.round(i / 8 * 255);
        stops.push(`rgb(${table[at]},${table[at + 1]},${table[at + 2]})`);
      }
      const text = value => Number(value.toPrecision(3)) + (this.layer.unit ? ` ${this.layer.unit}` : "");
      return el("span", { class: "asd-key" }, text(this.layer.low),
        el("i", { style: `background:linear-gradient(to right,${stops.join(",")})` }), text(this.layer.high));
    }

    paint() {
      const { rows, frames } = this.layer, cells = this.layer.cells, table = COLORS[this.colors];
      const canvas = el("canvas", { width: frames, height: rows });
      const context = canvas.getContext("2d"), image = context.createImageData(frames, rows);
      for (let row = 0; row < rows; row++)
        for (let frame = 0; frame < frames; frame++) {
          const to = 4 * ((rows - 1 - row) * frames + frame), from = 4 * cells[row * frames + frame];
          image.data.set(table.subarray(from, from + 4), to);
        }
      context.putImageData(image, 0, 0);
      return canvas;
    }

    x(time) { return LEFT + time / this.stack.seconds * this.plotWidth; }
    time(x) { return Math.min(Math.max((x - LEFT) / this.plotWidth, 0), 1) * this.stack.seconds; }
    y(bin) { return TOP + this.plotHeight * (1 - bin / this.layer.rows); }
    bin(y) { return (1 - (y - TOP) / this.plotHeight) * this.layer.rows; }

    // Place of a frequency among the mel bins, whose centers are given.
    binOf(value) {
      const centers = this.stack.hertz;
      let upper = centers.findIndex(center => center >= value);
      if (upper < 0) return centers.length;
      if (upper === 0) return 0.5 * value / centers[0];
      return upper - 1 + (value - centers[upper - 1]) / (centers[upper] - centers[upper - 1]) + 0.5;
    }

    draw() {
      const [context, width] = fit(this.base, this.height + (this.hasTimeAxis ? 18 : 0));
      this.plotWidth = width - LEFT - RIGHT;
      this.plotHeight = this.height - 2 * TOP;
      if (this.layer) this.drawCells(context); else this.drawWaveform(context);
      context.lineWidth = 1;
      context.strokeStyle = color(this.base, "--asd-line");
      context.strokeRect(LEFT - 0.5, TOP - 0.5, this.plotWidth + 1, this.plotHeight + 1);
      if (this.hasTimeAxis) this.drawTimeAxis(context);
      if (this.layer && this.hasRegions) this.drawRegions(context);
      this.drawOver();
    }

    drawCells(context) {
      const { hop } = this.stack, { rows, frames } = this.layer;
      context.imageSmoothingEnabled = false;
      // A frame stands for the hop around its center.
      const shown = Math.min(frames - 0.5, this.stack.seconds / hop);
      context.drawImage(this.image, 0.5, 0, shown, rows, LEFT, TOP, this.x(shown * hop) - LEFT, this.plotHeight);
      context.textAlign = "right";
      context.textBaseline = "middle";
      let lowest = Infinity;
      const ticks = this.layer.axis === "hertz" ? TICKS_HZ.map(value => [this.y(this.binOf(value)), hertz(value)])
        : [0.25, 0.5, 0.75, 1].map(share => [this.y(share * rows - 0.5), `№ ${share * rows}`]);
      for (const [y, label] of ticks) {
        if (lowest - y < 15 || y > TOP + this.plotHeight - 4) continue;
        lowest = y;
        context.fillText(label, LEFT - 6, Math.max(y, TOP + 5));
      }
    }

    drawWaveform(context) {
      const { samples, rate } = this.stack, middle = TOP + this.plotHeight / 2, half = this.plotHeight / 2 - 1;
      context.fillStyle = color(this.base, "--asd-wave");
      const perPixel = samples.length / this.plotWidth;
      for (let x = 0; x < this.plotWidth; x++) {
        let low = 32767, high = -32768;
        const end = Math.min(Math.ceil((x + 1) * perPixel), samples.length);
        for (let i = Math.floor(x * perPixel); i < end; i++) {
          if (samples[i] < low) low = samples[i];
          if (samples[i] > high) high = samples[i];
        }
        const top = middle - high / this.peak * half, bottom = middle - low / this.peak * half;
        context.fillRect(LEFT + x, top, 1, Math.max(bottom - top, 1));
      }
      context.fillStyle = color(this.base, "--asd-muted");
      context.textAlign = "right";
      context.textBaseline = "middle";
      context.fillText(`${Math.round(20 * Math.log10(this.peak / 32768))} dBFS`, LEFT - 5, TOP + 6);
      context.fillText("0", LEFT - 6, middle);
    }

    drawTimeAxis(context) {
      const span = this.stack.seconds, step = niceStep(span, Math.min(10, this.plotWidth / 60)), y = TOP + this.plotHeight;
      context.fillStyle = color(this.base, "--asd-muted");
      context.textAlign = "center";
      context.textBaseline = "top";
      const start = this.stack.start, digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
      for (let time = Math.ceil(start / step - 1e-9) * step; time <= start + span + 1e-9; time += step) {
        const x = this.x(time - start);
        context.fillRect(x, y, 1, 4);
        if (x < LEFT + this.plotWidth - 14) context.fillText(time.toFixed(digits), x, y + 6);
      }
      context.textAlign = "right";
      context.fillText("s", LEFT + this.plotWidth, y + 6);
    }

    drawRegions(context) {
      const badges = [];
      this.stack.regions.forEach((region, index) => {
        const top = this.y(Math.min(this.binOf(region.high_hz), this.layer.rows)), bottom = this.y(this.binOf(region.low_hz));
        const stretches = region.intervals_s.length ? region.intervals_s : [[region.start_s, region.end_s]];
        for (const [start, end] of stretches) {
          const left = this.x(start), right = this.x(Math.min(end, this.stack.seconds));
          for (const [style, width, dash] of [["#000", 4, []], ["#fff", 2, [6, 4]]]) {
            context.strokeStyle = style;
            context.lineWidth = width;
            context.setLineDash(dash);
            // Around the band, not on it.
            context.strokeRect(left, top - 2, Math.max(right - left, 3), bottom - top + 4);
          }
          context.setLineDash([]);
        }
        const badge = { x: this.x(stretches[0][0]) + 10, y: Math.min(Math.max(top, TOP) + 9, TOP + this.plotHeight - 9) };
        while (badges.some(other => Math.hypot(other.x - badge.x, other.y - badge.y) < 20)) badge.x += 20;
        badges.push(badge);
        context.fillStyle = "#000";
        context.beginPath();
        context.arc(badge.x, badge.y, 9, 0, 7);
        context.fill();
        context.fillStyle = "#fff";
        context.textAlign = "center";
        context.textBaseline = "middle";
        context.fillText(index + 1, badge.x, badge.y + 0.5);
      });
    }

    drawOver() {
      const [context] = fit(this.over, this.height + (this.hasTimeAxis ? 18 : 0));
      const line = (x, style, width) => {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.beginPath();
        context.moveTo(x, TOP);
        context.lineTo(x, TOP + this.plotHeight);
        context.stroke();
      };
      const { pointed, playhead } = this.stack;
      if (pointed) {
        line(this.x(pointed.time), "rgba(0,0,0,.6)", 3);
        line(this.x(pointed.time), "#fff", 1);
        if (pointed.row === this) {
          for (const [style, width] of [["rgba(0,0,0,.6)", 3], ["#fff", 1]]) {
            context.strokeStyle = style;
            context.lineWidth = width;
            context.beginPath();
            context.moveTo(LEFT, pointed.y);
            context.lineTo(LEFT + this.plotWidth, pointed.y);
            context.stroke();
          }
        }
      }
      line(this.x(playhead), "#000", 4);
      line(this.x(playhead), "#E69F00", 2);
    }

    // What is under the pointer, in words.
    read(time, y) {
      const at = seconds(this.stack.start + time);
      if (!this.layer) {
        const sample = this.stack.samples[Math.min(Math.floor(time * this.stack.rate), this.stack.samples.length - 1)];
        return [at, `amplitude ${(sample / 32768).toFixed(3)}`];
      }
      const { rows, frames, low, high, unit } = this.layer;
      const bin = Math.min(Math.max(Math.floor(this.bin(y)), 0), rows - 1);
      const frame = Math.min(Math.round(time / this.stack.hop), frames - 1);
      const value = low + this.layer.cells[bin * frames + frame] / 255 * (high - low);
      const words = [at, this.layer.axis === "hertz" ? hertz(this.stack.hertz[bin]) : `filter № ${bin + 1}`];
      words.push(unit === "dB" ? `${value.toFixed(0)} dB` : `${this.valueName || "value"} ${value.toFixed(2)}`);
      if (this.hasRegions && unit === "dB" && this.stack.normal) {
        const above = Math.round(value - this.stack.normal[bin]);
        words.push(above === 0 ? "at its normal level" : `${Math.abs(above)} dB ${above > 0 ? "above" : "below"} normal`);
      }
      return words;
    }
  }

  class Stack {
    constructor(view, rows, { regions = [], normal = null } = {}) {
      const raw = bytes(view.samples);
      this.samples = new Int16Array(raw.buffer);
      Object.assign(this, { rate: view.rate, start: view.start_s, hop: view.hop_s, hertz: view.mel_hz, regions, normal });
      this.seconds = this.samples.length / this.rate;
      this.playhead = 0;
      this.pointed = null;
      this.tip = el("div", { class: "asd-tip", hidden: "" });
      this.rows = rows.map(options => new Row(this, options));
      this.node = el("div", { class: "asd-stack" }, this.player(), ...this.rows.map(row => row.node), this.tip);
      keepDrawn(this.node, () => this.draw());
    }

    draw() { this.rows.forEach(row => row.draw()); }
    drawOver() { this.rows.forEach(row => row.plotWidth && row.drawOver()); }

    // Machines are recorded with room to spare; the ear gets them at full level, and is told by how much.
    player() {
      const peak = Math.max(...peaks(this.samples), 1), gain = Math.min(0.9 * 32767 / peak, 30);
      this.audio = new Audio();
      const load = () => {
        if (!this.audio.src) this.audio.src = URL.createObjectURL(wav(this.samples, this.rate, gain));
      };
      const button = el("button", { type: "button", class: "asd-button", "aria-label": "Play" }, "▶ Play");
      const slider = el("input", {
        type: "range", min: "0", max: String(this.seconds), step: "0.01", value: "0", "aria-label": "Play head, seconds",
      });
      const clock = el("span", { class: "asd-clock" }, seconds(this.start));
      this.follow = () => {
        this.playhead = Math.min(this.audio.currentTime, this.seconds);
        slider.value = String(this.playhead);
        clock.textContent = seconds(this.start + this.playhead);
        this.drawOver();
      };
      this.seek = time => { load(); this.audio.currentTime = time; this.playhead = time; slider.value = String(time);
        clock.textContent = seconds(this.start + time); this.drawOver(); };
      slider.addEventListener("input", () => this.seek(Number(slider.value)));
      const tick = () => {
        if (!this.node.isConnected) this.audio.pause();
        this.follow();
        if (!this.audio.paused) requestAnimationFrame(tick);
      };
      const show = playing => {
        button.textContent = playing ? "❚❚ Pause" : "▶ Play";
        button.setAttribute("aria-label", playing ? "Pause" : "Play");
      };
      this.audio.addEventListener("play", () => { show(true); tick(); });
      this.audio.addEventListener("pause", () => show(false));
      button.addEventListener("click", () => { load(); if (this.audio.paused) this.audio.play(); else this.audio.pause(); });
      const louder = Math.round(20 * Math.log10(gain));
      return el("div", { class: "asd-player" }, button, slider, clock,
        louder > 0 ? el("span", { class: "asd-hint" }, `played ${louder} dB louder`) : null);
    }

    seekTo(x, row) { if (x >= LEFT) this.seek(row.time(x)); }

    point(row, event) {
      const time = row.time(event.offsetX), y = Math.min(Math.max(event.offsetY, TOP), TOP + row.plotHeight);
      this.pointed = { time, y, row };
      this.tip.replaceChildren(...row.read(time, y).map(words => el("span", {}, words)));
      this.tip.hidden = false;
      const own = this.node.getBoundingClientRect(), right = event.clientX - own.left > own.width / 2;
      this.tip.style.top = `${event.clientY - own.top + 14}px`;
      this.tip.style.left = right ? "auto" : `${event.clientX - own.left + 14}px`;
      this.tip.style.right = right ? `${own.right - event.clientX + 14}px` : "auto";
      this.drawOver();
    }

    leave() { this.pointed = null; this.tip.hidden = true; this.drawOver(); }
  }

  function peaks(samples) {
    const found = [];
    for (let i = 0; i < samples.length; i += 4096) {
      let peak = 0;
      for (const sample of samples.subarray(i, i + 4096)) peak = Math.max(peak, Math.abs(sample));
      found.push(peak);
    }
    return found;
  }

  function wav(samples, rate, gain) {
    const buffer = new ArrayBuffer(44 + 2 * samples.length), data = new DataView(buffer);
    const text = (at, words) => [...words].forEach((letter, i) => data.setUint8(at + i, letter.charCodeAt(0)));
    text(0, "RIFF"); data.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
    data.setUint32(16, 16, true); data.setUint16(20, 1, true); data.setUint16(22, 1, true);
    data.setUint32(24, rate, true); data.setUint32(28, 2 * rate, true); data.setUint16(32, 2, true); data.setUint16(34, 16, true);
    text(36, "data"); data.setUint32(40, 2 * samples.length, true);
    samples.forEach((sample, i) => data.setInt16(44 + 2 * i, sample * gain, true));
    return new Blob([buffer], { type: "audio/wav" });
  }

  function decoded(layer) {
    return { ...layer, cells: layer.cells instanceof Uint8Array ? layer.cells : bytes(layer.cells) };
  }

  const ROWS = {
    log_mel: { title: "Log-mel", hint: "level by time and frequency", colors: "level", size: 210, hasRegions: true },
    wavegram: { title: "Wavegram", hint: "what the learned filters detect", colors: "level", size: 120 },
    attention_log_mel: { title: "Attention on the log-mel", hint: "where the network looks", colors: "attention", size: 150, hasRegions: true, valueName: "weight" },
    attention_wavegram: { title: "Attention on the Wavegram", hint: "which filters it follows, when", colors: "attention", size: 120, valueName: "weight" },
  };

  function rowsOf(view, names, changes = {}) {
    const wave = { title: "Waveform", hint: "as the model gets it", size: 90, peak: view.peak };
    const rows = [wave, ...names.filter(name => view.layers[name]).map(name => ({ ...ROWS[name], layer: decoded(view.layers[name]), ...changes }))];
    rows[rows.length - 1].hasTimeAxis = true;
    return rows;
  }

  function regionList(regions, start) {
    if (!regions.length) return null;
    return el("ol", { class: "asd-regions", "aria-label": "Regions of the reason" }, ...regions.map(region => {
      const side = region.level_db > 0 ? "above" : "below";
      const every = region.period_s ? region.kind === "harmonics" ? `, spaced ${hertz(1 / region.period_s)}` : `, every ${number(region.period_s, 2)} s` : "";
      return el("li", {}, el("strong", {}, region.kind),
        ` ${hertz(region.low_hz)} – ${hertz(region.high_hz)}, ${Math.abs(region.level_db).toFixed(0)} dB ${side} normal${every}, ` +
        `${(start + region.start_s).toFixed(1)} – ${(start + region.end_s).toFixed(1)} s`);
    }));
  }

  // The tabs

  function listen(payload) {
    const { view, result } = payload, { regions } = result;
    const stack = new Stack(view, rowsOf(view, Object.keys(ROWS)), { regions, normal: view.normal_db });
    const whole = result.windows.length
      ? el("p", { class: "asd-hint" }, `The pictures show the window with the highest score, from ${seconds(view.start_s, 1)}. ` +
        `Under Long recording, all ${result.windows.length} can be looked at.`) : null;
    return el("div", { class: "asd-answer" }, card(payload), regionList(regions, view.start_s), whole, stack.node,
      downloads(payload, "listen"));
  }

  // One window of a recording, whose own verdict stands above.
  function part(payload) {
    const { view, result } = payload;
    const stack = new Stack(view, rowsOf(view, Object.keys(ROWS)), { regions: result.regions, normal: view.normal_db });
    return el("div", { class: "asd-answer" }, card(payload, { isPart: true }), regionList(result.regions, view.start_s), stack.node);
  }

  function compare(payload) {
    const sides = ["a", "b"].map(side => {
      const one = payload[side], normal = one.view.normal_db, { regions } = one.result;
      const stack = new Stack(one.view, rowsOf(one.view, ["log_mel", "attention_log_mel"]), { regions, normal });
      return [card(one), stack.node];
    }).flat();
    const { view } = payload.a;
    const difference = new Stack({ ...view, samples: payload.difference_samples || view.samples }, [
      { title: "Difference", hint: "second minus first: red is louder in the second, blue in the first", colors: "difference", size: 200, layer: decoded(payload.difference), hasTimeAxis: true },
    ]);
    difference.node.querySelector(".asd-player").remove();
    return el("div", { class: "asd-answer" }, el("div", { class: "asd-sides" }, ...sides), difference.node,
      spectra(payload), downloads(payload, "compare"));
  }

  // Mean level by frequency of both sounds, in two line styles.
  function spectra(payload) {
    const canvas = el("canvas", { role: "img", "aria-label": "Mean level by frequency of both sounds" });
    const node = el("figure", { class: "asd-row" },
      el("figcaption", {}, el("strong", {}, "Mean level by frequency"),
        el("span", { class: "asd-hint" }, "solid: first, dashed: second")), el("div", { class: "asd-plot" }, canvas));
    const lines = [payload.a.view.mean_db, payload.b.view.mean_db], centers = payload.a.view.mel_hz;
    const draw = () => {
      const height = 200, bottom = height - 20, [context, width] = fit(canvas, height), wide = width - LEFT - RIGHT;
      const all = lines.flat(), low = Math.floor(Math.min(...all) / 10) * 10, high = Math.ceil(Math.max(...all) / 10) * 10;
      const x = i => LEFT + (i + 0.5) / centers.length * wide, y = value => bottom - (value - low) / (high - low) * (bottom - TOP);
      context.textBaseline = "middle";
      context.textAlign = "right";
      for (let value = low; value <= high; value += 10) {
        context.fillStyle = color(canvas, "--asd-line");
        context.fillRect(LEFT, y(value), wide, 1);
        context.fillStyle = color(canvas, "--asd-muted");
        if ((value - low) % 20 === 0) context.fillText(`${value} dB`, LEFT - 6, Math.max(y(value), TOP + 5));
      }
      context.textAlign = "center";
      context.textBaseline = "top";
      let right = 0;
      for (const tick of TICKS_HZ) {
        const at = centers.findIndex(center => center >= tick), place = at < 0 ? LEFT + wide - 14 : x(at);
        if (place - right < 40) continue;
        right = place;
        context.fillText(hertz(tick), place, bottom + 6);
      }
      [["--asd-normal", []], ["--asd-anomalous", [7, 4]]].forEach(([name, dash], line) => {
        context.strokeStyle = color(canvas, name);
        context.lineWidth = 2;
        context.setLineDash(dash);
        context.beginPath();
        lines[line].forEach((value, i) => context.lineTo(x(i), y(value)));
        context.stroke();
      });
      context.setLineDash([]);
    };
    keepDrawn(node, draw);
    return node;
  }

  function timeline(payload, choose) {
    const { result } = payload;
    const windows = result.windows.length ? result.windows
      : [{ start_s: 0, end_s: result.duration_s, score: result.score, p_value: result.p_value, verdict: result.verdict }];
    const scores = windows.map(window => window.score).filter(score => score !== null);
    const canvas = el("canvas", { role: "img", "aria-label": `Scores of ${windows.length} windows against the threshold` });
    const alarms = windows.flatMap((window, index) => window.verdict === ANOMALOUS ? [index] : []);
    let chosen = payload.chosen;
    const low = Math.min(...scores, result.threshold ?? Infinity) / 1.3, high = Math.max(...scores, result.threshold ?? 0, FAINTEST) * 1.15;
    const slider = el("input", {
      type: "range", min: "1", max: String(windows.length), step: "1", value: String(chosen + 1), "aria-label": "Window to look at",
    });
    const label = el("span", { class: "asd-clock" });
    const height = 190, bottom = height - 20;
    let geometry = null;
    const draw = () => {
      const [context, width] = fit(canvas, height), wide = width - LEFT - RIGHT, total = windows[windows.length - 1].end_s;
      const x = time => LEFT + time / total * wide;
      const y = score => bottom - onLogScale(score, low, high) * (bottom - TOP - 14);
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
        if (window.verdict === ANOMALOUS) {
          const middle = (left + right) / 2;
          context.beginPath();
          context.moveTo(middle - 5, top - 3);
          context.lineTo(middle + 5, top - 3);
          context.lineTo(middle, top - 11);
          context.fill();
        }
      });
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
        context.fillText("alarm", LEFT - 6, y(result.threshold));
      }
      context.fillStyle = color(canvas, "--asd-muted");
      context.textAlign = "center";
      context.textBaseline = "top";
      const step = niceStep(total, Math.min(10, wide / 70));
      for (let time = 0; time <= total; time += step)
        if (x(time) < LEFT + wide - 20) context.fillText(seconds(time, 0), Math.max(x(time), LEFT + 8), bottom + 6);
    };
    const pick = index => {
      chosen = index;
      slider.value = String(index + 1);
      const window = windows[index];
      label.textContent = `${seconds(window.start_s, 1)} – ${seconds(window.end_s, 1)}: ${WORDS[window.verdict].toLowerCase()}`;
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
    // Alarms in a row are one stretch.
    const stretches = [];
    for (const index of alarms) {
      const last = stretches[stretches.length - 1];
      if (last && last.to === index - 1) last.to = index; else stretches.push({ from: index, to: index });
    }
    const list = alarms.length === 0 ? el("p", {}, "No window raised an alarm.")
      : el("p", { class: "asd-alarms" }, `${alarms.length} of ${windows.length} windows raised an alarm: `,
        ...stretches.slice(0, 12).map(({ from, to }) => el("button", {
          type: "button", class: "asd-button", onclick: () => { pick(from); choose(from); },
        }, `${seconds(windows[from].start_s, 0)} – ${seconds(windows[to].end_s, 0)}`)),
        stretches.length > 12 ? ` and ${stretches.length - 12} more` : null);
    const node = el("figure", { class: "asd-row" },
      el("figcaption", {}, el("strong", {}, "Timeline"), el("span", { class: "asd-hint" }, "anomaly score of each window; choose one to see its maps")),
      el("div", { class: "asd-plot asd-timeline" }, canvas), el("div", { class: "asd-player" }, el("span", {}, "Window"), slider, label));
    keepDrawn(node, draw);
    return el("div", { class: "asd-answer" }, card(payload), list, node, downloads(payload, "timeline"));
  }

  function enrolled(payload) {
    return el("section", { class: "asd-card asd-is-normal", role: "status" },
      el("div", { class: "asd-icon" }, icon(NORMAL)),
      el("div", { class: "asd-words" }, el("h2", { class: "asd-verdict" }, `${payload.machine} is enrolled`),
        ...payload.lines.map(line => el("p", {}, line))));
  }

  function problem(payload) {
    return el("section", { class: "asd-card asd-is-unknown", role: "alert" },
      el("div", { class: "asd-icon" }, icon("cannot tell")),
      el("div", { class: "asd-words" }, el("h2", { class: "asd-verdict" }, "This did not work"), el("p", {}, payload.error)));
  }

  // Reports are made in the browser: nothing is left on the server.

  function downloads(payload, kind) {
    const results = kind === "compare" ? { first: payload.a.result, second: payload.b.result } : payload.result;
    const json = JSON.stringify(results, null, 2), name = (payload.name || "comparison").replace(/\.[^.]*$/, "");
    return el("div", { class: "asd-downloads" },
      el("button", { type: "button", class: "asd-button", onclick: () => save(`${name}.json`, "application/json", json) }, "Save JSON"),
      el("button", { type: "button", class: "asd-button", onclick: () => save(`${name}.html`, "text/html", report(payload, kind)) }, "Save report"),
      el("details", {}, el("summary", {}, "The pipeline's answer"), el("pre", { tabindex: "0", "aria-label": "JSON of the pipeline" }, json)));
  }

  function report(payload, kind) {
    const part = id => document.getElementById(id).textContent, json = JSON.stringify(payload).replaceAll("<", "\\u003c");
    const title = document.createElement("p");
    title.textContent = `Sound report: ${payload.name || "comparison"}`;
    return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
      `<title>${title.innerHTML}</title><style id="asd-style">${part("asd-style")}</style>` +
      `<body class="asd-page"><main class="asd" id="report"></main><script id="asd-script">${part("asd-script")}<\/script>` +
      `<script>if (matchMedia("(prefers-color-scheme: dark)").matches) document.body.classList.add("dark");` +
      `asd.show(document.getElementById("report"), "${kind}", ${json});<\/script></body></html>`;
  }

  const KINDS = { listen, part, compare, timeline, enrolled };

  function show(root, kind, payload, choose = () => {}) {
    root.replaceChildren(payload.error ? problem(payload) : KINDS[kind](payload, choose));
  }

  // For a component of the app: draw its value now and whenever it changes. An empty value clears it.
  function mount(element, kind, props, watch, trigger) {
    const root = element.querySelector(".asd"), hint = [...root.children];
    const draw = () => {
      if (!props.value) return root.replaceChildren(...hint);
      show(root, kind, JSON.parse(props.value), index => trigger("select", { index }));
      // On a phone the answer is below what was asked.
      if (window.innerWidth < 700 && kind !== "part") root.scrollIntoView({ behavior: "smooth" });
    };
    watch("value", draw);
    draw();
  }

  return { mount, show };
})();
