/* The page's address as a link to what is open: tab, example, machine and share of false alarms. */

const LINKED = ["tab", "example", "machine", "rate"];
const chosen = {};  // by tab, the values of its inputs: machine, rate, sounds
let linkable = null;  // what links.py says of the tabs; nothing before the page's own link was opened

const tabButton = name => document.querySelector(name ? `[role=tab][data-tab-id=${CSS.escape(name)}]` : "[role=tab][aria-selected=true]");
const firstTab = () => document.querySelector("[role=tab]").dataset.tabId;
const tabInLink = () => new URLSearchParams(location.search).get("tab")?.toLowerCase() ?? firstTab();

// Opens the link's tab. A visitor may have opened another one already.
function openTab() {
  const button = tabButton(tabInLink());
  if (button && tabButton().dataset.tabId === firstTab()) button.click();
}

function beginAddress(facts) {
  linkable = facts;
  setTimeout(() => writeAddress(false));
}

function inAddress(tab, values) {
  chosen[tab] = values;
  writeAddress(false);
}

// Gradio tells of the choice before it is shown. Another tab is a step for the browser's button back.
function tabInAddress() { setTimeout(() => writeAddress(tabButton().dataset.tabId !== tabInLink())); }

function linkTo(tab) {
  const query = [], { examples, rate } = linkable[tab] ?? {}, [machine, share, ...files] = chosen[tab] ?? [];
  const paths = files.map(file => file?.path ?? "");
  const [example] = Object.entries(examples ?? {}).find(([, ends]) => ends.length === paths.length && ends.every((end, i) => paths[i].endsWith(end))) ?? [];
  if (example) query.push(["example", example]);
  if (machine || (example && machine !== undefined)) query.push(["machine", machine]);
  if (share !== undefined && share !== rate) query.push(["rate", share]);
  if (query.length || tab !== firstTab()) query.unshift(["tab", tab]);
  return new URLSearchParams(query);
}

function writeAddress(isStep) {
  const tab = tabButton()?.dataset.tabId;
  if (!linkable || !tab) return;
  const query = linkTo(tab);
  for (const [name, value] of new URLSearchParams(location.search)) if (!LINKED.includes(name)) query.append(name, value);
  const text = String(query), address = location.pathname + (text && `?${text}`) + location.hash;
  if (address !== location.pathname + location.search + location.hash) history[isStep ? "pushState" : "replaceState"](history.state, "", address);
}

window.addEventListener("popstate", () => {
  if (!linkable) return;
  const button = tabButton(tabInLink());
  if (button?.getAttribute("aria-selected") === "false") button.click(); else writeAddress(false);
});

// The buttons at the head of the page.
function tools(element) {
  const said = el("span", { class: "asd-hint", role: "status" });
  const copy = async () => {
    const query = linkable ? String(linkTo(tabButton().dataset.tabId)) : location.search.slice(1);
    const link = location.origin + location.pathname + (query && `?${query}`);
    try {
      await navigator.clipboard.writeText(link);
      said.textContent = say("link.copied");
    } catch {  // a page without https has no clipboard
      said.replaceChildren(el("input", { readonly: "", "aria-label": say("link.copy_this"), value: link, onfocus: event => event.target.select() }));
      said.firstChild.focus();
    }
  };
  const button = (words, act) => el("button", { type: "button", class: "asd-button", onclick: act }, words);
  const draw = () => {
    document.title = say("page.title");
    said.replaceChildren();
    element.querySelector(".asd").replaceChildren(button(say("link.copy"), copy),
      button(`◐ ${say("page.theme")}`, () => document.body.classList.toggle("dark")), said);
  };
  document.addEventListener("asd-language", draw);
  draw();
}

// What of a link the page does not know, in one sentence.
function unknown({ unknown: parts }) {
  return el("p", { class: "asd-notice", role: "alert" },
    say("link.unknown", { parts: parts.map(({ name, value }) => `${say(`link.${name}`)} “${value}”`).join(", ") }));
}
