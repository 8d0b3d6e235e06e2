// Small helpers for building the page. Everything that comes from the service goes in as text, never as HTML.

export const byId = (id) => document.getElementById(id);

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

/** Bengali with its English subtitle, as the whole page has it. */
export function both(bengali, english) {
  return english ? [bengali, " ", make("span", { className: "sub", lang: "en" }, english)] : [bengali];
}

/** A name of a list is "রং ও গৃহসজ্জা (Paint & Home)": return its two halves. */
export function halves(name) {
  const found = /^(.*?)\s*\(([^()]*)\)\s*$/.exec(name);
  return found ? [found[1], found[2]] : [name, ""];
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
