// One script on the page: the table, the verdict in words, copy and download.

import { both, byId, halves, make, page, pick, say } from "./dom.js";
import { getFile } from "./service.js";
import { plainTable, readRows, tableOf } from "./table.js";
import { digits, verdictWords, when } from "./words.js";

const body = () => byId("result-body");
let onTrouble = () => {};
let shown = null; // the whole script that stands here, to come back to where writing the next one fails

export function watchResult(trouble) {
  onTrouble = trouble;
}

/** Bring a ScriptResponse (with the brief it answers) and a stored script into one shape. */
export function asScript(answer, brief) {
  const contract = answer.contract ?? { ok: answer.valid, problems: answer.problems ?? [] };
  const rows = answer.rows ?? rowsOf(answer.markdown);
  return { ...answer, request: answer.request ?? brief, rows, ok: contract.ok, problems: contract.problems };
}

/** Only an ad script is a table of Visual and Audio; strokes in any other answer are its own. */
const rowsOf = (text) => (page.form === "ad_script" ? readRows(text) : []);

/** A few words for an order: brand and product, or the beginning of the message. */
export function titleOf({ brand, product, message }) {
  if (brand) return `${brand} · ${product}`;
  const line = (message ?? "").replace(/\s+/g, " ").trim();
  return line.length > 80 ? `${line.slice(0, 79)}…` : line;
}

const NOTHING = {
  ad_script: [
    "চিত্রনাট্য এখানে আসবে, দুই কলামে: কী দেখা যাবে আর কী শোনা যাবে।",
    "The script will stand here: what is seen, what is heard.",
  ],
  prompt: ["উত্তর এখানে আসবে।", "The answer will stand here."],
};

export function showNothing() {
  const [words, english] = NOTHING[page.form];
  body().replaceChildren(make("p", { className: "empty" }, ...both(words, english)));
}

/** Show what is written so far. It is not a live region: a screen reader hears only how many shots there are. */
export function showWriting(text, brief) {
  const rows = rowsOf(text);
  byId("result").setAttribute("aria-busy", "true");
  const words = rows.length ? `লেখা হচ্ছে… ${digits(rows.length)} নম্বর শট` : pick("লেখা হচ্ছে…", "Writing…");
  const pulse = make("span", { className: "pulse", "aria-hidden": "true" });
  const progress = make("p", { className: "writing" }, pulse, words);
  const written = rows.length ? tableOf(rows, "অসমাপ্ত চিত্রনাট্য") : plain(text);
  body().replaceChildren(heading(brief), progress, written);
}

export function showStopped(text) {
  byId("result").setAttribute("aria-busy", "false");
  const words = body().querySelector(".writing");
  if (text.trim() === "" || words === null) return shown === null ? showNothing() : showScript(shown);
  words.className = "hint";
  words.replaceChildren(...both("এটুকু লেখা হয়েছিল; অসমাপ্ত, জমা রাখা হয়নি।", "Unfinished, and not kept."));
}

export function showScript(script) {
  shown = script;
  byId("result").setAttribute("aria-busy", "false");
  const title = titleOf(script.request).replace(" · ", ", ");
  const text = script.rows.length
    ? tableOf(script.rows, `${title}: চিত্রনাট্য, ${digits(script.rows.length)}টি শট`)
    : written(script, title);
  body().replaceChildren(heading(script.request), verdict(script), text, buttons(script), facts(script));
}

const plain = (text) => make("pre", { className: "raw" }, text);

/** A table shows what could be read; of an answer with a fault the text itself stands under it. */
function written(script, title) {
  if (!script.table) return plain(script.markdown);
  const table = plainTable(script.table, title);
  return script.ok ? table : make("div", {}, table, plain(script.markdown));
}

function heading(brief) {
  const [industry] = halves(brief.industry ?? "");
  const [tone] = halves(brief.tone ?? "");
  const length = brief.duration_seconds ? `${digits(brief.duration_seconds)} সেকেন্ড` : "";
  return make(
    "div",
    { className: "title" },
    make("h3", {}, titleOf(brief)),
    make("p", { className: "hint" }, [industry, tone, length].filter(Boolean).join(" · ")),
  );
}

function verdict(script) {
  if (script.ok) {
    const kept = page.form === "ad_script" ? adKept(script) : both("নিয়ম মেনে লেখা।", `It is ${page.one}.`);
    return make("p", { className: "verdict", dataset: { ok: "yes" } }, ...kept);
  }
  const problems = script.problems.map((problem) => {
    const words = verdictWords(problem);
    return words ? make("li", {}, ...both(words, problem)) : make("li", { lang: "en" }, problem);
  });
  const broken = page.form === "ad_script" ? "The script breaks the rules here:" : `It is not ${page.one}:`;
  const title = make("p", {}, ...both("কিছু জায়গা ঠিক করে নিতে হবে:", broken));
  return make("div", { className: "verdict", dataset: { ok: "no" } }, title, make("ul", {}, ...problems));
}

function adKept(script) {
  const words = `নিয়ম মেনে লেখা: দুই কলাম, ${digits(script.rows.length)}টি শট, দৈর্ঘ্য ঠিক আছে।`;
  return both(words, "The script keeps to the rules.");
}

function facts(script) {
  const spent = script.seconds ? digits(script.seconds.toFixed(1)) : "";
  const seconds = spent && pick(`${spent} সেকেন্ডে লেখা`, `written in ${spent} s`);
  const parts = [when(script.created_at ?? ""), seconds].filter(Boolean).join(" · ");
  const model = make("span", { lang: "en" }, parts ? ` · ${script.model}` : script.model);
  return make("p", { className: "facts" }, parts, model);
}

function buttons(script) {
  const copy = make("button", { type: "button" }, ...both("Markdown কপি", page.form === "ad_script" ? "Copy as Markdown" : "Copy"));
  copy.addEventListener("click", () => copyText(script.markdown));
  if (!script.id) {
    const words = both("লেখাটা জমা রাখা যায়নি। এখনই কপি করে রাখুন।", `This ${page.unit} could not be kept. Copy it now.`);
    return make("div", { className: "buttons" }, copy, make("p", { className: "warn" }, ...words));
  }
  const files = [download(script, "docx", "Word ফাইল"), download(script, "csv", "CSV ফাইল")];
  return make("div", { className: "buttons" }, copy, ...files);
}

function download(script, ending, words) {
  const button = make("button", { type: "button", dataset: { file: ending } }, ...both(words, `Download .${ending}`));
  button.addEventListener("click", async () => {
    try {
      // Fetched rather than linked: a link cannot carry the key.
      const blob = await getFile(`/v1/scripts/${encodeURIComponent(script.id)}/${ending}`);
      saveFile(blob, `${fileName(script)}.${ending}`);
      say(pick("ফাইল নামানো হলো", "Downloaded"));
    } catch (trouble) {
      onTrouble(trouble, () => button.click());
    }
  });
  return button;
}

/** Letters, their marks and digits only: what is left is a name on every system. */
function fileName(script) {
  const name = `lekhai-${titleOf(script.request)}`;
  return name.replace(/[^\p{L}\p{M}\p{N}]+/gu, "-").slice(0, 60).replace(/-+$/, "");
}

function saveFile(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // a slow disk may still be reading it
}

async function copyText(text) {
  const done = (await copyNew(text)) || copyOld(text);
  say(done ? pick("কপি হয়েছে", "Copied") : pick("কপি করা গেল না", "Not copied"));
  byId("result-body").querySelector(".copied")?.remove();
  const refused = ["কপি করা গেল না। টেবিলটা নিজে বেছে নিয়ে কপি করুন।", "Not copied: select the text and copy it."];
  const words = both(...(done ? ["কপি হয়েছে।", "Copied."] : refused));
  byId("result-body").querySelector(".buttons").append(make("span", { className: "copied hint" }, ...words));
}

const copyNew = async (text) => {
  try {
    await navigator.clipboard.writeText(text); // is not there at all on plain http: caught here too
    return true;
  } catch {
    return false;
  }
};

function copyOld(text) {
  const area = make("textarea", { value: text, className: "only-heard", readOnly: true });
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  return done;
}
