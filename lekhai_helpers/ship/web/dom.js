// Small helpers for building the page. Everything that comes from the service goes in as text, never as HTML.

export const byId = (id) => document.getElementById(id);

/** What the page is for, as /v1/choices says it; until then an agency's page in Bengali. */
export const page = { form: "ad_script", english: false, unit: "script", one: "" };

/** Return the words in the page's language. */
export const pick = (bengali, english) => (page.english ? english : bengali);

/** Return a new element: make("p", {className: "hint"}, "text", child). Strings become text nodes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "lang" || name === "scope") element.setAttribute(name, value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

/** Bengali with its English subtitle, as the whole page has it; on an English page the English alone. */
export function both(bengali, english) {
  if (page.english) return [english || bengali];
  return english ? [bengali, " ", make("span", { className: "sub", lang: "en" }, english)] : [bengali];
}

/** A name of a list is "রং ও গৃহসজ্জা (Paint & Home)": return its two halves. */
export function halves(name) {
  const found = /^(.*?)\s*\(([^()]*)\)\s*$/.exec(name);
  return found ? [found[1], found[2]] : [name, ""];
}

/** Turn the page English: what stands in both languages keeps its English half, the rest says its `data-en`. */
export function speakEnglish() {
  page.english = true;
  document.documentElement.lang = "en";
  for (const half of document.querySelectorAll(".sub:not([id]), .latin")) half.parentElement.replaceChildren(half.textContent);
  for (const element of document.querySelectorAll("[data-en]")) element.textContent = element.dataset.en;
}

/** Say something to a screen reader, once, without moving the focus. */
export function say(words) {
  byId("live").textContent = words;
}

/** What the browser refuses to store (private window, storage forbidden) is simply not remembered. */
export function remember(storage, name, value) {
  try {
    if (value === null) window[storage].removeItem(name);
    else window[storage].setItem(name, value);
  } catch {
    return false;
  }
  return true;
}

export function recall(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch {
    return null;
  }
}
