// What the page says: Bengali digits, dates, and the service's sentences in the words of somebody in Dhaka.

import { page } from "./dom.js";

const DIGITS = "০১২৩৪৫৬৭৮৯";

export const digits = (value) =>
  page.english ? String(value) : String(value).replace(/[0-9]/g, (digit) => DIGITS[digit]);

/** "2026-01-05T09:30:00Z" -> "৫ জানুয়ারি, ১৫:৩০" in the reader's own time zone, the year only where it is another. */
export function when(iso) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return "";
  const sameYear = date.getFullYear() === new Date().getFullYear();
  const year = sameYear ? {} : { year: "numeric" };
  const write = (parts) => new Intl.DateTimeFormat(page.english ? "en-GB" : "bn-BD", parts).format(date);
  const day = write({ day: "numeric", month: "long", ...year });
  return `${day}, ${write({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" })}`;
}

// The checker writes English; each pattern is one of its sentences. What is not known here is shown as it came.
const VERDICTS = [
  [/^there is no table$/, () => "লেখাটায় কোনো টেবিল নেই"],
  [/^(\d+) line\(s\) stand outside the table$/, (n) => `টেবিলের বাইরে ${n}টি লাইন রয়ে গেছে`],
  [/^the header is not \| Visual \| Audio \|$/, () => "টেবিলের মাথায় Visual আর Audio লেখা নেই"],
  [/^the line \|---\|---\| is missing under the header$/, () => "টেবিলের মাথার নিচের দাগটা নেই"],
  [/^row (\d+) has (\d+) cell\(s\) instead of 2$/, (row, n) => `${row} নম্বর সারিতে ২টির জায়গায় ${n}টি ঘর`],
  [/^row (\d+) has an empty cell$/, (row) => `${row} নম্বর সারির একটা ঘর খালি`],
  [/^(\d+) row\(s\); a script has (\d+) to (\d+)$/, (n, least, most) => `শট ${n}টি, থাকার কথা ${least} থেকে ${most}টি`],
  [
    /^(\d+) rows; a film of (\d+) s has (\d+) to (\d+)$/,
    (n, s, least, most) => `শট ${n}টি; ${s} সেকেন্ডের ছবিতে থাকে ${least} থেকে ${most}টি`,
  ],
  [
    /^(\d+) spoken words do not fit (\d+) s \(most: (\d+)\)$/,
    (n, s, most) => `মুখের কথা ${n} শব্দ; ${s} সেকেন্ডে ${most} শব্দের বেশি আঁটে না`,
  ],
];

/** Return one problem of the contract in Bengali, or "" where the sentence is new to the page. */
export function verdictWords(problem) {
  for (const [pattern, write] of VERDICTS) {
    const found = pattern.exec(problem);
    if (found) return write(...found.slice(1).map(digits));
  }
  return "";
}

const FIELD_PROBLEMS = [
  [/^(must not be empty|is missing)$/, () => "এই ঘরটা খালি রাখা যাবে না"],
  [/^is too long: at most (\d+) characters$/, (n) => `বেশি লম্বা হয়ে গেছে, সর্বোচ্চ ${n} অক্ষর`],
  [/^must be at least (\d+)$/, (n) => `কমপক্ষে ${n} হতে হবে`],
  [/^must be at most (\d+)$/, (n) => `${n}-এর বেশি হতে পারবে না`],
];

/** Return what is wrong with a field; the service's own words where the page has none better. */
export function fieldWords(problem) {
  if (page.english) return `This ${problem}.`;
  for (const [pattern, write] of FIELD_PROBLEMS) {
    const found = pattern.exec(problem);
    if (found) return write(...found.slice(1).map(digits));
  }
  return problem;
}

// What went wrong, what stays, what to do next: Bengali first, English below.
const TROUBLES = {
  offline: [
    "ইন্টারনেট নেই",
    "সংযোগ ফিরলে আবার চেষ্টা করুন। আপনি যা লিখেছেন, সব এখানেই আছে।",
    "You are offline. What you typed is still here; try again when the connection is back.",
  ],
  unreachable: [
    "সেবাটিতে পৌঁছানো যাচ্ছে না",
    "হয়তো এখন বন্ধ আছে। একটু পরে আবার চেষ্টা করুন। আপনি যা লিখেছেন, সব এখানেই আছে।",
    "The service does not answer. What you typed is still here; try again in a moment.",
  ],
  cut: [
    "লেখা মাঝপথে থেমে গেছে",
    "সংযোগ কেটে যাওয়ায় পুরোটা আসেনি। আবার চেষ্টা করুন।",
    "The connection broke in the middle of the script. Try again.",
  ],
  store: ["আগের লেখাগুলো এখন আনা যাচ্ছে না", "একটু পরে আবার চেষ্টা করুন। জমা রাখা কোনো লেখা হারায়নি।"],
  502: ["লেখার ইঞ্জিন সাড়া দিচ্ছে না", "একটু পরে আবার চেষ্টা করুন। আপনি যা লিখেছেন, সব এখানেই আছে।"],
  503: ["লেখার ইঞ্জিন এখন বন্ধ", "একটু পরে আবার চেষ্টা করুন। আপনি যা লিখেছেন, সব এখানেই আছে।"],
  504: ["লিখতে বেশি সময় লেগে গেছে", "ছোট দৈর্ঘ্য বেছে নিন, অথবা একটু পরে আবার চেষ্টা করুন।"],
  429: ["এখন অনেকে লিখছেন", "কয়েক মিনিট পরে আবার চেষ্টা করুন। আপনি যা লিখেছেন, সব এখানেই আছে।"],
  401: ["API key লাগবে", "যিনি সেবাটি চালান, তাঁর কাছ থেকে key নিয়ে আবার চেষ্টা করুন।"],
  403: ["এই key দিয়ে ঢোকা যাবে না", "যিনি সেবাটি চালান, তাঁর সঙ্গে কথা বলুন।"],
  404: ["লেখাটা পাওয়া গেল না", "হয়তো মুছে ফেলা হয়েছে।"],
  413: ["লেখা বেশি বড় হয়ে গেছে", "মূল বার্তা ছোট করে আবার চেষ্টা করুন।"],
  422: ["কয়েকটা ঘর ঠিক করতে হবে", "লাল দাগ দেওয়া ঘরগুলো দেখুন।"],
};
const KEPT = "What you typed is still here; try again in a moment.";
const ENGLISH = {
  offline: ["You are offline", "Try again when the connection is back. What you typed is still here."],
  unreachable: ["The service does not answer", KEPT],
  cut: ["The answer broke off", "The connection was lost in the middle. Try again."],
  store: ["Earlier answers cannot be fetched now", "Try again in a moment. Nothing that was kept is lost."],
  502: ["The engine does not answer", KEPT],
  503: ["The engine is down", KEPT],
  504: ["It took too long", "Ask for something shorter, or try again later."],
  429: ["Many are writing now", KEPT],
  401: ["An API key is needed", "Ask whoever runs the service for it, then try again."],
  403: ["This key is not let in", "Speak to whoever runs the service."],
  404: ["It was not found", "Perhaps it was deleted."],
  413: ["That is too long", "Make the message shorter and try again."],
  422: ["Something has to be put right", "See the fields that are marked."],
};
const UNKNOWN_ENGLISH = ["That did not work", "Try again; if it happens again, tell whoever runs the service."];
const UNKNOWN = ["কাজটা হলো না", "আবার চেষ্টা করুন। বারবার হলে যিনি সেবাটি চালান, তাঁকে জানান।"];

/** Return {title, advice, english} for a Trouble of service.js. */
export function troubleWords(trouble) {
  if (page.english) {
    const [title, advice] = ENGLISH[trouble.kind] ?? ENGLISH[trouble.status] ?? UNKNOWN_ENGLISH;
    return { title, advice, english: trouble.detail || "" };
  }
  const [title, advice, english] = TROUBLES[trouble.kind] ?? TROUBLES[trouble.status] ?? UNKNOWN;
  return { title, advice, english: trouble.detail || english || "" };
}
