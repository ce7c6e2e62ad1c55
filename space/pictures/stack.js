/* Pictures on one time axis, with a player whose play head they share. */

class Stack {
  constructor(view, rows, { regions = [], play = null, normal = null, below = null, hasPlayer = true } = {}) {
    this.samples = new Int16Array(bytes(view.samples || "").buffer);
    Object.assign(this, { rate: view.rate, start: view.start_s, hop: view.hop_s, hertz: view.mel_hz, regions, play, normal });
    this.seconds = view.seconds ?? this.samples.length / this.rate;
    this.playhead = 0;
    this.pointed = null;
    this.tip = el("div", { class: "asd-tip", role: "status", hidden: "" });
    this.rows = rows.map(options => new Row(this, options));
    const [first, research] = [false, true].map(kind => this.rows.filter(row => Boolean(row.isResearch) === kind));
    [first, research].forEach(group => group.length && (group[group.length - 1].hasTimeAxis = true));
    this.node = el("div", { class: "asd-stack" }, hasPlayer ? this.player() : null, ...first.map(row => row.node), below,
      research.length ? this.forResearchers(research) : null, this.tip);
    keepDrawn(this.node, () => this.draw());
  }

  // A later view of the same kind in place of this one.
  update(view) {
    Object.assign(this, { start: view.start_s, seconds: view.seconds });
    for (const row of this.rows) row.replace(decoded(view.layers[row.name]));
    this.draw();
  }

  // A closed part has no width, and nothing to draw.
  draw() { this.rows.forEach(row => row.base.parentElement.clientWidth && row.draw()); }
  drawOver() { this.rows.forEach(row => row.plotWidth && row.base.parentElement.clientWidth && row.drawOver()); }

  forResearchers(rows) {
    return el("details", { class: "asd-research", ontoggle: () => this.draw() },
      el("summary", {}, say("stack.research")),
      el("p", { class: "asd-hint" }, say("stack.research_hint")),
      ...rows.map(row => row.node));
  }

  // The ear gets a recording at full level, and is told by how much.
  player() {
    const gain = fullGain(this.samples);
    this.audio = new Audio();
    const load = () => {
      if (!this.audio.src) this.audio.src = URL.createObjectURL(wav(this.samples, this.rate, gain));
    };
    const button = el("button", { type: "button", class: "asd-button", "aria-label": say("play.play") }, `▶ ${say("play.play")}`);
    const slider = el("input", {
      type: "range", min: "0", max: String(this.seconds), step: "0.01", value: "0", "aria-label": say("play.head"),
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
      button.textContent = playing ? `❚❚ ${say("play.pause")}` : `▶ ${say("play.play")}`;
      button.setAttribute("aria-label", say(playing ? "play.pause" : "play.play"));
    };
    this.audio.addEventListener("play", () => { show(true); tick(); });
    this.audio.addEventListener("pause", () => show(false));
    // A pause before the sound has begun is no fault, and the player says by itself that nothing plays.
    button.addEventListener("click", () => { load(); if (this.audio.paused) this.audio.play().catch(() => {}); else this.audio.pause(); });
    const louder = Math.round(20 * Math.log10(gain));
    return el("div", { class: "asd-player" }, button, slider, clock,
      louder > 0 ? el("span", { class: "asd-hint" }, say("play.louder", { louder })) : null);
  }

  seekTo(x, row) { if (this.audio && x >= LEFT) this.seek(row.time(x)); }

  point(row, event) {
    const time = row.time(event.offsetX), y = Math.min(Math.max(event.offsetY, TOP), TOP + row.plotHeight);
    this.pointAt(row, time, y);
  }

  pointAt(row, time, y) {
    this.pointed = { time, y, row };
    this.tip.replaceChildren(...row.read(time, y).map(words => el("span", {}, words)));
    this.tip.hidden = false;
    const own = this.node.getBoundingClientRect(), plot = row.over.getBoundingClientRect();
    const left = plot.left - own.left + row.x(time), isRight = left > own.width / 2;
    this.tip.style.top = `${plot.top - own.top + y + 14}px`;
    this.tip.style.left = isRight ? "auto" : `${left + 14}px`;
    this.tip.style.right = isRight ? `${own.width - left + 14}px` : "auto";
    this.drawOver();
  }

  leave() { this.pointed = null; this.tip.hidden = true; this.drawOver(); }
}
