// The page, put together: choose, write, see, find again. One error has one place, in words, with a way on.

import { both, byId, make, page, pick, remember, say } from "./dom.js";
import { brief, complete, fill, markErrors, setChoices, setForm, watchForm } from "./form.js";
import { keepInAddress, offerIndustries, openId, search, watchHistory } from "./history.js";
import { asScript, showNothing, showScript, showStopped, showWriting, watchResult } from "./result.js";
import { getJson, health, onKeyNeeded, Trouble, write } from "./service.js";
import { digits, troubleWords } from "./words.js";

const TRIES = 4; // a busy service is asked so many times by itself
const HEALTH_EVERY = 30_000; // ms
let stopper = null; // an AbortController while a script is being written

// --- writing

async function start(event) {
  event.preventDefault();
  if (stopper !== null || !complete()) return;
  hideNotice();
  stopper = new AbortController();
  setWriting(true);
  let text = "";
  const asked = brief();
  try {
    const onText = (piece) => {
      text += piece;
      showWriting(text, asked);
    };
    await patiently(async () => {
      text = "";
      showWriting(text, asked);
      byId("result").scrollIntoView({ block: "nearest" }); // on a phone it stands below the button
      finish(asScript(await write(asked, { signal: stopper.signal, onText }), asked));
    });
  } catch (trouble) {
    showStopped(text);
    if (trouble.name === "AbortError") say(pick("থামানো হয়েছে", "Stopped"));
    else showTrouble(trouble, () => byId("brief").requestSubmit());
  } finally {
    stopper = null;
    setWriting(false);
  }
}

/** Do it; where the service is busy, wait as long as it asks for and try again. */
async function patiently(work) {
  for (let left = TRIES; ; left -= 1) {
    try {
      return await work();
    } catch (trouble) {
      if (trouble.status !== 429 || left <= 1) throw trouble;
      await waitFor(trouble.wait, stopper.signal);
    }
  }
}

async function waitFor(seconds, signal) {
  const left = make("span", { "aria-hidden": "true" }, digits(seconds));
  const [before, after] = pick(["নিজে থেকেই আবার চেষ্টা হবে ", " সেকেন্ড পর।"], ["Trying again in ", " seconds."]);
  const sentence = make("p", {}, before, left, after);
  const below = page.english ? [] : [english(`Busy; trying again in ${seconds} s.`)];
  const title = pick("এখন অনেকে লিখছেন", "Many are writing now");
  showNotice("busy", title, [sentence, ...below]);
  say(`${title}${pick("। ", ". ")}${before}${digits(seconds)}${after}`);
  try {
    for (let rest = seconds; rest > 0; rest -= 1) {
      left.textContent = digits(rest);
      await pause(1000, signal);
    }
  } finally {
    hideNotice(); // also where somebody stopped the waiting
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });
}

function finish(script) {
  const waited = [byId("stop"), byId("write"), document.body].includes(document.activeElement);
  showScript(script);
  keepInAddress(script.id);
  const shots = `চিত্রনাট্য তৈরি, ${digits(script.rows.length)}টি শট।`;
  say(page.form === "ad_script" ? shots : pick("উত্তর তৈরি।", "The answer is there."));
  // Only somebody who waited is taken there; whoever went on to another field is left in peace.
  if (waited) byId("result-title").focus();
  search();
}

function setWriting(on) {
  const hadFocus = document.activeElement === byId(on ? "write" : "stop");
  byId("write").disabled = on;
  byId("stop").hidden = !on;
  if (hadFocus) byId(on ? "stop" : "write").focus();
  if (on) say(pick("লেখা হচ্ছে", "Writing"));
  window.onbeforeunload = on ? (event) => event.preventDefault() : null;
}

// --- troubles

const english = (words) => make("p", { className: "sub", lang: "en" }, words);

function showTrouble(trouble, again) {
  if (!(trouble instanceof Trouble)) throw trouble; // a fault of the page itself: the browser's console shows it
  const words = troubleWords(trouble);
  const others = trouble.status === 422 ? markErrors(trouble.errors) : [];
  const button = make("button", { type: "button" }, ...both("আবার চেষ্টা করুন", "Try again"));
  button.addEventListener("click", () => {
    hideNotice();
    again();
  });
  const parts = [make("p", {}, words.advice), english(words.english)];
  parts.push(...others.map(({ field, problem }) => english(`${field}: ${problem}`)));
  showNotice("error", words.title, trouble.status === 422 ? parts : [...parts, button]);
  say(`${words.title}${pick("।", ".")} ${words.advice}`);
  checkHealth();
}

function showNotice(kind, title, parts) {
  const notice = byId("notice");
  notice.dataset.kind = kind;
  notice.replaceChildren(make("h2", { id: "notice-title" }, title), ...parts);
  notice.hidden = false;
  notice.scrollIntoView({ block: "nearest" });
}

const hideNotice = () => {
  byId("notice").hidden = true;
};

// --- the engine's state, in the head of the page

const STATES = {
  ok: ["ready", "লেখার জন্য তৈরি", "Ready"],
  starting: ["starting", "চালু হচ্ছে…", "Starting…"],
  "engine down": ["down", "ইঞ্জিন বন্ধ", "The engine is down"],
};

async function checkHealth() {
  let state;
  try {
    state = await health();
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
    state = { status: "unreachable", model: "" };
  }
  const [name, bengali, inEnglish] = STATES[state.status] ?? ["down", "সাড়া নেই", "No answer"];
  const words = pick(bengali, inEnglish);
  if (byId("engine-words").textContent === words && byId("engine-model").textContent === (state.model ?? "")) return;
  byId("engine").dataset.state = name;
  byId("engine-words").textContent = words;
  byId("engine-model").textContent = state.model ?? "";
}

// --- opening an earlier script

function open(script) {
  if (stopper !== null) return say(pick("আগে লেখাটা শেষ হোক", "Let it be finished first"));
  showScript(asScript(script));
  fill(script.request);
  keepInAddress(script.id);
  byId("result-title").focus();
}

async function openFromAddress() {
  const id = openId();
  if (stopper !== null) return; // what is being written has the place
  if (id === "") return showNothing();
  try {
    const script = await getJson(`/v1/scripts/${encodeURIComponent(id)}`);
    showScript(asScript(script));
  } catch (trouble) {
    showNothing();
    showTrouble(trouble, openFromAddress);
  }
}

// --- the key, asked for once

function askForKey(refused) {
  const dialog = byId("key-dialog");
  byId("key").value = "";
  byId("key-words").textContent = refused
    ? pick("key মেলেনি। আরেকবার দেখে দিন।", "That key does not fit. Look once more.")
    : pick(
        "যিনি সেবাটি চালান, তাঁর কাছ থেকে নিন। এই ট্যাব বন্ধ করলেই মুছে যাবে।",
        "Ask whoever runs the service for it. It is forgotten when this tab is closed.",
      );
  return new Promise((resolve) => {
    let key = null;
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      key = byId("key").value.trim() || null;
      dialog.close();
    };
    byId("key-cancel").onclick = () => dialog.close();
    dialog.onclose = () => resolve(key);
    dialog.showModal();
  });
}

// --- light and dark

function showTheme() {
  const dark = document.documentElement.dataset.theme === "dark";
  byId("theme-words").replaceChildren(...(dark ? both("দিনের রং", "Light") : both("রাতের রং", "Dark")));
}

function watchTheme() {
  const root = document.documentElement;
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    remember("localStorage", "lekhai-theme", root.dataset.theme);
  });
  new MutationObserver(showTheme).observe(root, { attributeFilter: ["data-theme"] });
  showTheme();
}

// --- begin

async function begin() {
  try {
    const choices = await getJson("/v1/choices");
    setForm(choices);
    showTheme();
    checkHealth();
    setChoices(choices);
    offerIndustries(choices.industries);
    byId("write").disabled = false;
  } catch (trouble) {
    byId("write").disabled = true;
    return showTrouble(trouble, begin);
  }
  await openFromAddress();
  await search();
}

showNothing();
watchTheme();
watchForm();
watchResult(showTrouble);
watchHistory(open, showTrouble);
onKeyNeeded(askForKey);
byId("brief").addEventListener("submit", start);
byId("stop").addEventListener("click", () => stopper?.abort());
window.addEventListener("hashchange", openFromAddress);
window.addEventListener("online", checkHealth);
setInterval(() => document.hidden || checkHealth(), HEALTH_EVERY);
checkHealth();
begin();
