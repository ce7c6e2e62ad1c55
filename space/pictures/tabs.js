/* What Gradio's own page lacks for people who use the keyboard. */

document.addEventListener("keydown", event => {
  const tab = event.target.closest?.("[role=tab]"), step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!tab || !(step || event.key === "Home" || event.key === "End")) return;
  const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")].filter(other => other.offsetParent);
  const to = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1 : (tabs.indexOf(tab) + step + tabs.length) % tabs.length;
  event.preventDefault();
  tabs[to].focus();
  tabs[to].click();
});

// Areas that scroll take the focus, so that the arrow keys scroll them.
const SCROLLING = ".asd-about pre, .asd-about table, .cm-scroller, .file-preview-holder";
new MutationObserver(() => {
  const waveforms = [...document.querySelectorAll(".waveform-container div")].map(host => host.shadowRoot?.querySelector(".scroll"));
  for (const area of [...document.querySelectorAll(SCROLLING), ...waveforms])
    if (area?.tabIndex < 0) area.tabIndex = 0;
}).observe(document.documentElement, { childList: true, subtree: true });
