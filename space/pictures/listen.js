/* The answer about one sound, and about one window of a long one. */

function listen(payload, choose) {
  const { view, result } = payload, { regions } = result;
  const stack = new Stack(view, rowsOf(view), { regions, normal: view.normal_db });
  const which = result.score === null ? "first window" : "window with the highest score";
  const whole = result.windows.length
    ? el("p", { class: "asd-hint" }, `The pictures show the ${which}, from ${seconds(view.start_s, 1)}. ` +
      `Under Timeline, all ${result.windows.length} can be looked at.`) : null;
  return el("div", { class: "asd-answer" }, card(payload), falseAlarm(payload, choose), regionList(view, regions), whole, stack.node,
    downloads(payload, "listen"));
}

// A machine that was enrolled on this page can learn from an alarm that was none.
function falseAlarm(payload, choose) {
  if (!payload.addable) return null;
  return el("p", {}, el("button", { type: "button", class: "asd-button", onclick: () => choose(0) },
    `It was a false alarm: add it to ${payload.addable}'s normal sounds`));
}

// One window of a recording, whose verdict stands above.
function part(payload) {
  const { view, result } = payload;
  const stack = new Stack(view, rowsOf(view), { regions: result.regions, normal: view.normal_db });
  return el("div", { class: "asd-answer" }, strip(payload), regionList(view, result.regions), stack.node);
}
