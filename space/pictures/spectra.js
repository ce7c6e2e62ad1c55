/* Mean level by frequency of both sounds. */

// Mean level by frequency of both sounds, in two line styles.
function spectra(payload) {
  const lines = [payload.a.view.mean_db, payload.b.view.mean_db], centers = payload.a.view.mel_hz;
  const values = TICKS_HZ.map(tick => [tick, centers.findIndex(center => center >= tick)]).filter(([, at]) => at >= 0)
    .map(([tick, at]) => say("spectra.value", { at: hertz(tick), first: lines[0][at].toFixed(0), second: lines[1][at].toFixed(0) }));
  const canvas = el("canvas", { role: "img", "aria-label": say("spectra.words", { values: values.join("; ") }) });
  const node = el("figure", { class: "asd-row" },
    el("figcaption", {}, el("strong", {}, say("spectra.title")),
      el("span", { class: "asd-hint" }, say("spectra.hint"))), el("div", { class: "asd-plot" }, canvas));
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
    [["--asd-ink", []], ["--asd-muted", [7, 4]]].forEach(([name, dash], line) => {
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
