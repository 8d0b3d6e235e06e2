// The script's Markdown table, read as it is being written, and shown as a real <table> of two columns.

import { both, make } from "./dom.js";

const RULE = /^:?-+:?$/;

/** Return the cells of one line of a Markdown table ("\|" is a pipe inside a cell), or null where it is none. */
function cells(line) {
  const text = line.trim();
  if (!text.startsWith("|")) return null;
  const parts = text.slice(1).split(/(?<!\\)\|/);
  if (parts.length > 1 && parts[parts.length - 1].trim() === "") parts.pop();
  return parts.map((part) => part.trim().replace(/\\\|/g, "|"));
}

/** Return [{visual, audio}] of the Markdown, also of one that is only half written; header and rule are left out. */
export function readRows(markdown) {
  const rows = [];
  for (const line of markdown.split("\n")) {
    const found = cells(line);
    if (found === null || found.every((cell) => RULE.test(cell) || cell === "")) continue;
    if (rows.length === 0 && /^visual$/i.test(found[0])) continue;
    rows.push({ visual: found[0], audio: found.slice(1).join(" | ") });
  }
  return rows;
}

/** Return a table of any columns: {columns: [...], rows: [[...], ...]} with text in every cell. */
export function plainTable({ columns, rows }, caption) {
  const head = make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))));
  return make(
    "table",
    { className: "script" },
    make("caption", { className: "only-heard" }, caption),
    make("thead", {}, head),
    make("tbody", {}, ...body),
  );
}

/** Return the table of the rows. `caption` is read out first, and not shown: the heading above says the same. */
export function tableOf(rows, caption) {
  const head = make(
    "tr",
    {},
    make("th", { scope: "col" }, ...both("দৃশ্য", "Visual")),
    make("th", { scope: "col" }, ...both("শব্দ", "Audio")),
  );
  const body = rows.map((row) => make("tr", {}, make("td", {}, row.visual), make("td", {}, row.audio)));
  return make(
    "table",
    { className: "script" },
    make("caption", { className: "only-heard" }, caption),
    make("thead", {}, head),
    make("tbody", {}, ...body),
  );
}
