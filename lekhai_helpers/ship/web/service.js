// Everything the page asks of the service: JSON in and out, a script as a stream, files, and one kind of error.

import { recall, remember } from "./dom.js";

const BASE = document.querySelector('meta[name="lekhai-api"]').content.replace(/\/+$/, "");
const KEY = "lekhai-key";
const USUAL_WAIT = 5; // seconds, where a busy service does not say how long

/** What went wrong: `kind` is "offline", "unreachable", "cut", or "store" and "problem" with `status` and `detail`. */
export class Trouble extends Error {
  constructor(kind, { status = 0, detail = "", errors = [], wait = 0 } = {}) {
    super(detail || kind);
    Object.assign(this, { kind, status, detail, errors, wait });
  }
}

let askForKey = async () => null;

/** Name the function that asks a person for the key; it gets whether a key was refused, and returns text or null. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

let keyHere = recall("sessionStorage", KEY);
let asking = null; // one question at a time, however many requests were refused

async function newKey() {
  asking ??= askForKey(keyHere !== null).finally(() => {
    asking = null;
  });
  const key = await asking;
  if (key === null) return false;
  keyHere = key;
  remember("sessionStorage", KEY, key);
  return true;
}

async function send(path, options) {
  const headers = { ...options.headers };
  if (keyHere !== null) headers.Authorization = `Bearer ${keyHere}`;
  try {
    return await fetch(BASE + path, { ...options, headers, credentials: "omit", referrerPolicy: "no-referrer" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(navigator.onLine ? "unreachable" : "offline");
  }
}

async function problemOf(response, reading) {
  const found = await response.json().catch(() => ({})); // a proxy between us may answer with HTML
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  // Only writing needs the engine: where a reading is refused with 503, the store is what does not answer.
  return new Trouble(reading && response.status === 503 ? "store" : "problem", {
    status: response.status,
    detail: typeof found.detail === "string" ? found.detail : "",
    errors: Array.isArray(found.errors) ? found.errors : [],
    wait: Number.isFinite(wait) && wait > 0 ? wait : USUAL_WAIT,
  });
}

async function request(path, options = {}) {
  const response = await send(path, options);
  if (response.status === 401 && (await newKey())) return request(path, options);
  if (!response.ok) throw await problemOf(response, options.method === undefined);
  return response;
}

export const getJson = async (path, options) => (await request(path, options)).json();
export const getFile = async (path) => (await request(path)).blob();

/** Return /health's answer, also where the status is 503: that is an answer too. */
export async function health() {
  const response = await send("/health", { cache: "no-store" });
  return response.json().catch(() => ({ status: "engine down", model: "" }));
}

/**
 * Write one script. `onText` gets each piece of text as it is written; the finished ScriptResponse is returned.
 * Throws Trouble, or AbortError where `signal` stopped it.
 */
export async function write(brief, { signal, onText }) {
  const response = await request("/v1/scripts", {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream, application/json" },
    body: JSON.stringify({ ...brief, stream: true }),
    signal,
  });
  if (!(response.headers.get("Content-Type") ?? "").includes("text/event-stream")) return response.json();
  for await (const { name, data } of events(response.body)) {
    if (name === "delta") onText(data.text);
    if (name === "done") return data;
    if (name === "problem") throw new Trouble("problem", data);
  }
  throw new Trouble("cut");
}

/** Read Server-Sent Events as they arrive: yields {name, data} with data parsed from JSON. */
async function* events(body) {
  let waiting = "";
  for await (const piece of pieces(body)) {
    waiting = (waiting + piece).replace(/\r\n/g, "\n");
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const event = readEvent(block);
      if (event !== null) yield event;
    }
  }
}

async function* pieces(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(navigator.onLine ? "cut" : "offline");
  } finally {
    reader.cancel().catch(() => {}); // already closed, or broken: nothing is left to read either way
  }
}

function readEvent(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  if (data.length === 0) return null; // a comment that keeps the connection open
  try {
    return { name, data: JSON.parse(data.join("\n")) };
  } catch {
    throw new Trouble("cut");
  }
}
