// Earlier scripts: search, one industry, older ones by a button; a click shows the script and its address keeps it.

import { both, byId, halves, make, page, pick } from "./dom.js";
import { titleOf } from "./result.js";
import { getJson } from "./service.js";
import { digits, when } from "./words.js";

const PAGE = 20;
const PAUSE = 300; // ms without a key before a search is sent
let next = null;
let asked = 0; // the answer to an older question is not shown over a newer one
let timer = 0;
let onOpen = () => {};
let onTrouble = () => {};

export function watchHistory(open, trouble) {
  onOpen = open;
  onTrouble = trouble;
  byId("query").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, PAUSE);
  });
  byId("only-industry").addEventListener("change", search);
  byId("more").addEventListener("click", () => load(next));
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    search();
  });
}

export function offerIndustries(industries) {
  const options = industries.map((name) => make("option", { value: name }, halves(name)[0]));
  byId("only-industry").append(...options);
}

export const search = () => load(null);

async function load(before) {
  const mine = ++asked;
  const query = byId("query").value.trim();
  const values = { query, industry: byId("only-industry").value, limit: String(PAGE), before: before ?? "" };
  const given = Object.entries(values).filter(([, value]) => value !== "");
  try {
    const found = await getJson(`/v1/scripts?${new URLSearchParams(given)}`);
    if (mine === asked) showFound(found, before, query);
  } catch (trouble) {
    if (mine === asked) onTrouble(trouble, () => load(before));
  }
}

function showFound(found, before, query) {
  const list = byId("history");
  const items = found.scripts.map(item);
  if (before === null) list.replaceChildren(...items);
  else list.append(...items);
  if (before !== null) items[0]?.querySelector("button").focus();
  next = found.next;
  byId("more").hidden = next === null;
  byId("history-words").replaceChildren(...countWords(list.children.length, query));
  markOpen();
}

function countWords(count, query) {
  const filtered = query !== "" || byId("only-industry").value !== "";
  if (count === 0 && filtered) return both("কিছু পাওয়া গেল না। অন্য শব্দ দিয়ে দেখুন।", "Nothing found.");
  if (count === 0) return both("এখনো কিছু লেখা হয়নি।", "Nothing written yet.");
  const [more, english] = next === null ? ["", ""] : [", আরও আছে", ", and more"];
  const [bengali, word] = page.form === "ad_script" ? ["টি চিত্রনাট্য", "script"] : ["টি লেখা", page.unit];
  return both(`${digits(count)}${bengali}${more}`, `${count} ${count === 1 ? word : `${word}s`}${english}`);
}

function item(script) {
  const { industry, tone, duration_seconds: seconds } = script.request;
  const about = [halves(industry ?? "")[0], halves(tone ?? "")[0], seconds ? `${digits(seconds)} সে.` : ""];
  const button = make(
    "button",
    { type: "button", dataset: { id: script.id } },
    make("span", { className: "item-title" }, titleOf(script.request)),
    make("span", { className: "item-about" }, about.filter(Boolean).join(" · ")),
    make("span", { className: "item-about" }, `${when(script.created_at)}${script.valid ? "" : ` · ${pick("ঠিক করতে হবে", "to be put right")}`}`),
  );
  button.addEventListener("click", () => onOpen(script));
  return make("li", {}, button);
}

/** Show which of the list stands above: the one in the page's address. */
export function markOpen() {
  for (const button of byId("history").querySelectorAll("button")) {
    if (button.dataset.id === openId()) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
}

/** Return the id of the script in the page's address ("#script=ID"), or "". */
export const openId = () => new URLSearchParams(location.hash.slice(1)).get("script") ?? "";

/** Keep a script in the address, so that a reload or a link shows it again. */
export function keepInAddress(id) {
  history.replaceState(null, "", id ? `#script=${encodeURIComponent(id)}` : location.pathname + location.search);
  markOpen();
}
