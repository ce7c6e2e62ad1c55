/* One picture of a stack: the waveform, or a layer of cells under a color scale. */

// One row: a waveform, or a layer of cells (rows, frames) under a color scale.
class Row {
  constructor(stack, options) {
    Object.assign(this, options);
    this.stack = stack;
    this.base = el("canvas", { role: "img" });
    this.over = el("canvas", { tabindex: "0", role: "group", class: "asd-over", "aria-label": say("row.keys", { title: options.title }) });
    this.key = this.layer ? this.colorBar() : null;
    this.node = el("figure", { class: "asd-row" },
      el("figcaption", {}, el("strong", {}, options.title), el("span", { class: "asd-hint" }, options.hint), this.key),
      el("div", { class: "asd-plot" }, this.base, this.over));
    if (this.layer) this.image = this.paint();
    this.base.setAttribute("aria-label", this.words());
    this.over.addEventListener("pointermove", event => stack.point(this, event));
    this.over.addEventListener("pointerdown", event => { stack.point(this, event); if (this.regionAt(event) < 0) stack.seekTo(event.offsetX, this); });
    this.over.addEventListener("click", event => { if (this.regionAt(event) >= 0) stack.play(this.regionAt(event)); });
    this.over.addEventListener("pointerleave", () => stack.leave());
    this.over.addEventListener("keydown", event => this.move(event));
    this.over.addEventListener("blur", () => stack.leave());
  }

  replace(layer) {
    const key = this.key;
    this.layer = layer;
    this.key = this.colorBar();
    key.replaceWith(this.key);
    this.image = this.paint();
    this.base.setAttribute("aria-label", this.words());
  }

  // The arrow keys move the cross, Shift by ten steps; Enter sets the play head, Escape takes the cross away.
  move(event) {
    const { stack } = this, steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const { time, y } = stack.pointed?.row === this ? stack.pointed
      : { time: stack.playhead, y: TOP + this.plotHeight / 2 };
    if (event.key === "Escape") stack.leave();
    else if (event.key === "Enter") stack.seek?.(time);
    else if (steps[event.key]) {
      const [right, up] = steps[event.key], size = event.shiftKey ? 10 : 1, rows = this.layer ? this.layer.rows : 20;
      stack.pointAt(this, Math.min(Math.max(time + right * size * stack.seconds / 100, 0), stack.seconds),
        Math.min(Math.max(y - up * size * this.plotHeight / rows, TOP), TOP + this.plotHeight));
    } else return;
    event.preventDefault();
  }

  // The picture in words, with its values.
  words() {
    const { stack, layer } = this;
    const times = { title: this.title, from: seconds(stack.start, 1), to: seconds(stack.start + stack.seconds, 1) };
    if (!layer) return say("row.wave_words", { ...times, peak: Math.round(20 * Math.log10(this.peak / 32768)) });
    const { rows, frames, low, high, unit, cells } = layer, sums = new Float64Array(rows);
    for (let row = 0; row < rows; row++)
      for (let frame = 0; frame < frames; frame++) sums[row] += cells[row * frames + frame];
    const at = row => layer.axis === "hertz" ? hertz(stack.hertz[row]) : say("row.filter", { number: row + 1 });
    const value = row => low + sums[row] / frames / 255 * (high - low);
    const shown = row => say("row.at", { value: unit === "dB" ? `${value(row).toFixed(0)} dB` : fixed(value(row), 2), place: at(row) });
    const highest = sums.indexOf(Math.max(...sums)), lowest = sums.indexOf(Math.min(...sums));
    const regions = this.hasRegions ? stack.regions.map((region, index) =>
      ` ${say("row.region", { number: index + 1, place: regionWords(region, stack.start), level: this.fromNormal(region.level_db) })}`) : [];
    return say("row.words", { ...times, hint: this.hint, highest: shown(highest), lowest: shown(lowest) }) + regions.join("");
  }

  // A level in dB as so much above or below.
  fromNormal(level, above = say("row.above"), below = say("row.below")) {
    return `${Math.abs(level).toFixed(0)} dB ${level > 0 ? above : below}`;
  }

  get height() { return (window.innerWidth < 700 ? 0.8 : 1) * this.size; }

  colorBar() {
    const table = COLORS[this.colors], stops = [];
    for (let i = 0; i <= 8; i++) {
      const at = 4 * Math.round(i / 8 * 255);
      stops.push(`rgb(${table[at]},${table[at + 1]},${table[at + 2]})`);
    }
    const { unit } = this.layer, sign = value => this.colors === "difference" && value > 0 ? "+" : "";
    const text = value => unit === "dB" ? `${sign(value)}${value.toFixed(0)} dB` : local(Number(value.toPrecision(3)));
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
      if (x < LEFT + this.plotWidth - 14) context.fillText(fixed(time, digits), x, y + 6);
    }
    context.textAlign = "right";
    context.fillText("s", LEFT + this.plotWidth, y + 6);
  }

  // Which region is under the pointer; -1 where there is none, or none can be played.
  regionAt({ offsetX, offsetY }) {
    if (!this.layer || !this.hasRegions || !this.stack.play) return -1;
    const near = 4;  // a region may be as thin as a line
    return this.stack.regions.findIndex(({ start_s, end_s, low_hz, high_hz }) =>
      offsetX >= this.x(start_s) - near && offsetX <= this.x(end_s) + near
      && offsetY >= this.y(this.binOf(high_hz)) - near && offsetY <= this.y(this.binOf(low_hz)) + near);
  }

  // All boxes, then the numbers, so that none is hidden.
  drawRegions(context) {
    const badges = this.stack.regions.map(region => this.drawBoxes(context, region));
    badges.forEach((badge, index) => {
      while (badges.slice(0, index).some(other => Math.hypot(other.x - badge.x, other.y - badge.y) < 20)) badge.x += 20;
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

  // The boxes of one region; returns where its number belongs.
  drawBoxes(context, region) {
    const top = this.y(Math.min(this.binOf(region.high_hz), this.layer.rows)), bottom = this.y(this.binOf(region.low_hz));
    const stretches = region.intervals_s.length ? region.intervals_s : [[region.start_s, region.end_s]];
    const isThin = bottom - top < 14;  // a box would hide the band, and what is beside it
    for (const [start, end] of stretches) {
      const left = this.x(start), right = this.x(Math.min(end, this.stack.seconds));
      for (const [style, width, dash] of [["#000", 4, []], ["#fff", 2, [6, 4]]]) {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.setLineDash(isThin ? [] : dash);
        if (isThin) this.drawBracket(context, left, right, top, bottom);
        // Around the band, not on it.
        else context.strokeRect(left, top - 2, Math.max(right - left, 3), bottom - top + 4);
      }
      context.setLineDash([]);
    }
    return { x: this.x(stretches[0][0]) + 10, y: Math.min(Math.max(top, TOP) + 9, TOP + this.plotHeight - 9) };
  }

  // Both ends of a thin band.
  drawBracket(context, left, right, top, bottom) {
    const arm = Math.min(8, (right - left) / 2);
    context.beginPath();
    for (const [x, inward] of [[left, arm], [right, -arm]]) {
      context.moveTo(x + inward, top - 1);
      context.lineTo(x, top - 1);
      context.lineTo(x, bottom + 1);
      context.lineTo(x + inward, bottom + 1);
    }
    context.stroke();
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
    if (!this.stack.audio) return;  // nothing is played
    line(this.x(playhead), "#000", 4);
    line(this.x(playhead), "#E69F00", 2);
  }

  // What is under the pointer, in words.
  read(time, y) {
    const at = seconds(this.stack.start + time);
    if (!this.layer) {
      const sample = this.stack.samples[Math.min(Math.floor(time * this.stack.rate), this.stack.samples.length - 1)];
      return [at, say("row.amplitude", { value: fixed(sample / 32768, 3) })];
    }
    const { rows, frames, low, high, unit } = this.layer, isDifference = this.colors === "difference";
    const bin = Math.min(Math.max(Math.floor(this.bin(y)), 0), rows - 1);
    const frame = Math.min(Math.round(time / this.stack.hop), frames - 1);
    const value = low + this.layer.cells[bin * frames + frame] / 255 * (high - low);
    const words = [at, this.layer.axis === "hertz" ? hertz(this.stack.hertz[bin]) : say("row.filter", { number: bin + 1 })];
    words.push(isDifference ? this.fromNormal(value, this.above, this.below) : unit === "dB" ? `${value.toFixed(0)} dB`
      : say(this.isWeight ? "row.weight" : "row.value", { value: fixed(value, 2) }));
    if (this.hasRegions && unit === "dB" && !isDifference && this.stack.normal) {
      const above = Math.round(value - this.stack.normal[bin]);
      words.push(above === 0 ? say("row.at_normal") : this.fromNormal(above));
    }
    return words;
  }
}
