// The brief: sliders that step through names, the fields, what is wrong with them, and what was typed before a reload.

import { both, byId, halves, make, page, pick, recall, remember, speakEnglish } from "./dom.js";
import { digits, fieldWords } from "./words.js";

const FIELDS = ["industry", "tone", "duration_seconds", "brand", "product", "message"];
const FORMS = {
  ad_script: { fields: FIELDS, required: ["brand", "product"] },
  prompt: { fields: ["message"], required: ["message"] },
};
const MOST = 8000; // characters of a message that is all there is
const DRAFT = "lekhai-draft";
const lists = { industry: [], tone: [] };

/** Take what the service is for: the words of the page, its language, and which fields there are. */
export function setForm(choices) {
  // A page elsewhere may meet a service that is older than itself, which says nothing of these.
  const { form = "ad_script", language = "bn", unit = "script", one = "" } = choices;
  Object.assign(page, { form, unit, one });
  if (language !== "bn") speakEnglish();
  if (form === "ad_script") return;
  for (const field of document.querySelectorAll("[data-form]")) field.hidden = field.dataset.form !== form;
  document.title = `LekhAI: ${choices.title}`;
  byId("tagline").textContent = `${choices.title}.`;
  byId("brief-title").replaceChildren(...both("কী জানতে চান?", "What is it about?"));
  byId("message-label").replaceChildren(...both("বার্তা", "Message"));
  byId("message-hint").textContent = pick("নিজের মতো করে লিখুন।", "In your own words.");
  Object.assign(byId("message"), { maxLength: MOST, required: true, rows: 7 });
  byId("write").replaceChildren(...both("পাঠান", "Send"));
  byId("result-title").replaceChildren(...both("উত্তর", unit[0].toUpperCase() + unit.slice(1)));
  byId("history-title").replaceChildren(...both("আগের লেখা", "Earlier"));
}

/** Set the sliders up from the service's /v1/choices and bring back what was typed before a reload. */
export function setChoices(choices) {
  lists.industry = choices.industries;
  lists.tone = choices.tones;
  for (const name of ["industry", "tone"]) {
    byId(name).max = String(lists[name].length - 1);
    byId(name).disabled = lists[name].length === 0;
  }
  const length = byId("duration_seconds");
  Object.assign(length, { min: choices.duration_seconds.least, max: choices.duration_seconds.most });
  length.value = choices.duration_seconds.usual;
  fill(draft());
}

export function watchForm() {
  byId("brief").addEventListener("input", (event) => {
    mark(event.target.id, "");
    showChosen();
    remember("sessionStorage", DRAFT, JSON.stringify(brief()));
  });
}

function draft() {
  try {
    return JSON.parse(recall("sessionStorage", DRAFT)) ?? {};
  } catch {
    return {}; // not ours, or half written
  }
}

/** Put a brief into the form: the draft, or one from the history. Names that are no longer offered are left alone. */
export function fill(values) {
  for (const name of FIELDS) {
    const value = values[name];
    if (value === undefined || value === null) continue;
    const place = name in lists ? lists[name].indexOf(value) : value;
    if (place !== -1) byId(name).value = String(place);
  }
  showChosen();
}

/** Return the brief as POST /v1/scripts wants it. */
export function brief() {
  if (page.form === "prompt") return { message: byId("message").value.trim() };
  const name = (field) => lists[field][Number(byId(field).value)] ?? "";
  return {
    industry: name("industry"),
    tone: name("tone"),
    brand: byId("brand").value.trim(),
    product: byId("product").value.trim(),
    duration_seconds: Number(byId("duration_seconds").value),
    message: byId("message").value.trim(),
  };
}

function showChosen() {
  for (const field of ["industry", "tone"]) {
    const [bengali, english] = halves(lists[field][Number(byId(field).value)] ?? "…");
    const place = `${digits(Number(byId(field).value) + 1)}/${digits(lists[field].length)}`;
    show(field, bengali, english, place);
  }
  const seconds = byId("duration_seconds").value;
  show("duration_seconds", `${digits(seconds)} সেকেন্ড`, `${seconds} seconds`, "");
}

function show(field, bengali, english, place) {
  byId(`${field}-name`).replaceChildren(
    make("span", { className: "chosen-name" }, bengali),
    make("span", { className: "sub", lang: "en" }, english),
    make("span", { className: "place", "aria-hidden": "true" }, place),
  );
  byId(field).setAttribute("aria-valuetext", english ? `${bengali}, ${english}` : bengali);
}

/** Mark one field as wrong in words, or as right with "". Returns false where the page has no such field. */
function mark(field, words) {
  const input = FORMS[page.form].fields.includes(field) ? byId(field) : null;
  if (input === null) return false;
  byId(`${field}-error`).textContent = words;
  byId(`${field}-error`).hidden = words === "";
  if (words) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
  return true;
}

/** Mark each of the service's errors at its field and go to the first. Returns those that belong to no field. */
export function markErrors(errors) {
  for (const field of FIELDS) mark(field, "");
  const others = errors.filter(({ field, problem }) => !mark(field, fieldWords(problem)));
  const first = FIELDS.map(byId).sort(inOrder).find((input) => input.getAttribute("aria-invalid"));
  if (first) first.focus();
  return others;
}

const inOrder = (a, b) => (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1);

/** Say whether the required fields are filled, and mark those that are not. */
export function complete() {
  const values = brief();
  const empty = FORMS[page.form].required.filter((field) => values[field] === "");
  markErrors(empty.map((field) => ({ field, problem: "must not be empty" })));
  return empty.length === 0;
}
