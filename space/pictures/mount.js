/* Where the app and a saved report come in: draw an answer of some kind into an element. */

function problem(payload) {
  return el("section", { class: "asd-card asd-is-unknown", role: "alert" },
    el("div", { class: "asd-icon" }, icon("cannot tell")),
    el("div", { class: "asd-words" }, el("h2", { class: "asd-verdict" }, say("page.problem")), el("p", {}, telling(payload.error)),
      inEnglish(typeof payload.error === "string")));
}

// Tables come into view once, and stay where they are while they grow.
const COMING_INTO_VIEW = ["listen", "compare", "timeline", "enrolled"], TABLES = ["many", "studied"];
const KINDS = { listen, part, compare, timeline, many, enrolled, studied, live, unknown };

function show(root, kind, payload, choose = () => {}) {
  const node = payload.error ? problem(payload) : KINDS[kind](payload, choose, root);
  if (node !== root.firstChild) root.replaceChildren(node);  // what is live stays, and changes in itself
}

// For a component of the app: draw its value now and whenever it changes. An empty value clears it.
function mount(element, kind, props, watch, trigger, server) {
  const root = element.querySelector(".asd"), hint = JSON.parse(root.dataset.hint);
  const microphone = kind === "live" ? new Microphone(sound => trigger("select", sound)) : null;
  if (microphone) root.before(el("div", { class: "asd" }, microphone.node));
  if (kind === "history") return openHistory(root, server);
  const read = () => props.value ? JSON.parse(props.value) : null;
  const draw = () => {
    const payload = read();
    if (!microphone) stopPlaying();
    microphone?.answered(payload);
    remember([payload, ...(payload?.rows ?? [])].flatMap(one => one?.remember ?? []).map(withKnownTime));
    if (kind === "part") shownPart = payload;
    paint(payload);
    return payload;
  };
  // A new answer below what is on the screen, as on a phone, or under a long table, would go unseen.
  const drawNew = () => {
    const isFirst = !root.querySelector(".asd-answer");
    if (draw() && (COMING_INTO_VIEW.includes(kind) || (TABLES.includes(kind) && isFirst)) && root.getBoundingClientRect().top > 0.7 * window.innerHeight)
      root.scrollIntoView({ behavior: "smooth" });
  };
  const paint = payload => payload ? show(root, kind, payload, index => trigger("select", { index }))
    : root.replaceChildren(el("p", { class: "asd-empty" }, hint ? say(...hint) : ""));
  watch("value", drawNew);
  document.addEventListener("asd-language", () => { root.replaceChildren(); paint(read()); });
  draw();
}

return { mount, show, showReport, keep, kept, forgetDetector, tools, openTab, beginAddress, inAddress, tabInAddress, Microphone };
