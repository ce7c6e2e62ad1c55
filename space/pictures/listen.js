/* The answer about one sound, and about one window of a long one. */

function listen(payload, choose) {
  const { view, result } = payload;
  const whole = result.windows.length
    ? el("p", { class: "asd-hint" }, say(result.score === null ? "listen.first" : "listen.highest",
      { from: seconds(view.start_s, 1), all: result.windows.length })) : null;
  return el("div", { class: "asd-answer" }, card(payload), falseAlarm(payload, choose), whole, maps(view, result),
    downloads(payload, "listen"));
}

// A machine that was enrolled on this page can learn from an alarm that was none.
function falseAlarm(payload, choose) {
  if (!payload.addable) return null;
  return el("p", {}, el("button", { type: "button", class: "asd-button", onclick: () => choose(0) },
    say("listen.false_alarm", { machine: payload.addable })));
}

// The pictures come first, and under them what alarmed. A click on a region in a picture plays it, as its button does.
function maps(view, result) {
  const list = regionList(view, result), { regions } = result;
  const play = index => list.querySelectorAll("li")[index].querySelector("button").click();
  return new Stack(view, rowsOf(view), { regions, play, normal: view.normal_db, below: list }).node;
}

// One window of a recording, whose verdict stands above.
function part(payload) {
  return el("div", { class: "asd-answer" }, strip(payload), maps(payload.view, payload.result));
}
