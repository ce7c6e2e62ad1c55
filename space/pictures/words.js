/* The page's words, in the language that Gradio chose for the page, or that a report was saved in. */

// Gradio writes its choice into the document, and so does a report.
const language = () => { const asked = document.documentElement.lang.split("-")[0]; return asked in TEXTS ? asked : "en"; };

// A text in parts: words, and what stands for its values. Some have forms for one and for many.
function pieces(key, values) {
  const found = TEXTS[language()][key];
  const text = typeof found === "string" ? found : found[new Intl.PluralRules(language()).select(values.count) === "one" ? "one" : "other"];
  return text.split(/(\{\w+\})/).map((part, index) => index % 2 ? values[part.slice(1, -1)] ?? part : part);
}

function say(key, values = {}) { return pieces(key, values).join(""); }

// The same with elements among its values.
function saying(key, values) { return pieces(key, values).filter(part => part !== ""); }

// No line ends between a number and its unit.
const unbroken = text => text.split(/([\d.]+ (?:(?:k?Hz|dB|s|min)\b|%))/).map((part, index) => index % 2 ? el("span", { class: "asd-unbroken" }, part) : part);

// What the model's code said is English; what the app said is a text and its values.
const english = text => el("span", { lang: "en" }, ...unbroken(text));
const told = said => typeof said === "string" ? said : say(...said);
const telling = said => typeof said === "string" ? english(said) : say(...said);
const inEnglish = isSaid => isSaid && language() !== "en" ? el("p", { class: "asd-hint" }, say("page.english")) : null;

// What the microphone recorded has a name by reading.py, or by live_tab.py.
function named(name) {
  const live = /^Live, from (\d+) s on$/.exec(name);
  return live ? say("live.row", { from: live[1] }) : name === "The recording" ? say("sound.recording") : name;
}

// The decimal sign is the language's own, too.
const local = text => String(text).replace(".", say("page.decimal"));
const fixed = (value, digits) => local(value.toFixed(digits));

// Gradio's settings change the language while the page is open.
let shownLanguage = language();
new MutationObserver(() => {
  if (language() === shownLanguage) return;
  shownLanguage = language();
  document.dispatchEvent(new Event("asd-language"));
}).observe(document.documentElement, { attributes: true, attributeFilter: ["lang"] });
