/* The answer about one sound, and about one window of a long one. */

function listen(payload, choose) {
  const { view, result } = payload;
  const [list, stack] = regionsAndStack(view, result);
  const whole = result.windows.length
    ? el("p", { class: "asd-hint" }, say(result.score === null ? "listen.first" : "listen.highest",
      { from: seconds(view.start_s, 1), all: result.windows.length })) : null;
  return el("div", { class: "asd-answer" }, card(payload), falseAlarm(payload, choose), list, whole, stack.node,
    downloads(payload, "listen"));
}

// A machine that was enrolled on this page can learn from an alarm that was none.
function falseAlarm(payload, choose) {
  if (!payload.addable) return null;
  return el("p", {}, el("button", { type: "button", class: "asd-button", onclick: () => choose(0) },
    say("listen.false_alarm", { machine: payload.addable })));
}

// A click on a region in a picture plays it, as its button does.
function regionsAndStack(view, result) {
  const list = regionList(view, result), { regions } = result;
  const play = index => list.querySelectorAll("li")[index].querySelector("button").click();
  return [list, new Stack(view, rowsOf(view), { regions, play, normal: view.normal_db })];
}

// One window of a recording, whose verdict stands above.
function part(payload) {
  const [list, stack] = regionsAndStack(payload.view, payload.result);
  return el("div", { class: "asd-answer" }, strip(payload), list, stack.node);
}
