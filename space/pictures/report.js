/* Reports and JSON. Both are made in the browser: nothing is left on the server. */

// The window of a long recording that is on the page, for the recording's report.
let shownPart = null;

function downloads(payload, kind) {
  const results = kind === "compare" ? { first: payload.a.result, second: payload.b.result } : payload.result;
  const json = JSON.stringify(results, null, 2), name = (payload.name || say("report.comparison")).replace(/\.[^.]*$/, "");
  const print = el("button", { type: "button", class: "asd-button asd-only-report", onclick: () => window.print() }, say("report.print"));
  return el("div", { class: "asd-downloads" },
    el("button", { type: "button", class: "asd-button", onclick: () => save(`${name}.json`, "application/json", json) }, say("save.json")),
    el("button", { type: "button", class: "asd-button asd-not-report", onclick: () => save(`${name}.html`, "text/html", report(payload, kind)) }, say("save.report")),
    print,
    el("details", {}, el("summary", {}, say("report.answer")), el("pre", { tabindex: "0", "aria-label": say("report.json") }, json)));
}

// What a report begins with, so that it can be filed: what was judged, when, by which model.
function reportHead(payload, kind, date) {
  const results = kind === "compare" ? [payload.a, payload.b] : [payload], { result } = results[0];
  const rows = [
    [say("report.date"), date], [say("column.file"), results.map(one => one.name).join("; ")], [say("column.machine"), result.machine ?? say("report.not_known")],
    [say("rate.label"), say("report.rate", { rate: oneIn(result.false_alarm_rate) })], [say("report.model"), MODEL.model],
    [say("report.version"), MODEL.version],
  ];
  return el("header", { class: "asd-report-head" }, el("h1", {}, say("page.title")),
    el("dl", { class: "asd-facts" }, ...rows.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value)))));
}

function showReport(root, kind, payload, date) {
  show(root, kind, payload);
  root.prepend(reportHead(payload, kind, date));
}

function report(payload, kind) {
  const part = id => document.getElementById(id).textContent;
  const whole = kind === "timeline" ? { ...payload, url: null, part: shownPart } : { ...payload, addable: null, remember: null };
  const inScript = content => JSON.stringify(content).replaceAll("<", "\\u003c");
  const date = new Date().toISOString().slice(0, 16).replace("T", " ") + " UTC", title = document.createElement("p");
  title.textContent = say("report.title", { name: payload.name || say("report.comparison"), date });
  return `<!doctype html><html lang="${language()}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
    `<title>${title.innerHTML}</title><style id="asd-style">${part("asd-style")}</style>` +
    `<body class="asd-page"><main class="asd" id="report"></main><script id="asd-script">${part("asd-script")}<\/script>` +
    `<script>if (matchMedia("(prefers-color-scheme: dark)").matches) document.body.classList.add("dark");` +
    `asd.showReport(document.getElementById("report"), "${kind}", ${inScript(whole)}, ${inScript(date)});<\/script></body></html>`;
}
