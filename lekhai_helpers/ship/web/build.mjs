// Puts the page together for another host: dist/ holds index.html and static/, with the service's address written in.
// LEKHAI_API is that address, e.g. https://lekhai.example.org. Run by Vercel (vercel.json), or by hand: node build.mjs

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const fonts = join(here, "..", "..", "core", "fonts");
const dist = process.argv[2] ?? join(here, "dist"); // nothing in it is deleted: it may be a folder of yours

function stop(words) {
  console.error(words);
  process.exit(1);
}

function serviceAddress() {
  const given = process.env.LEKHAI_API ?? "";
  if (given === "") stop("LEKHAI_API is not set: give the service's address, e.g. https://lekhai.example.org");
  if (!URL.canParse(given)) stop(`LEKHAI_API is no address: ${given}`);
  const url = new URL(given);
  const local = ["localhost", "127.0.0.1"].includes(url.hostname);
  if (url.protocol !== "https:" && !local) stop("LEKHAI_API must begin with https://: a browser blocks the rest");
  if (url.username || url.password) stop("LEKHAI_API must hold no password: the page is public");
  return url.origin + url.pathname.replace(/\/+$/, "");
}

function pageFor(address) {
  const origin = new URL(address).origin;
  return readFileSync(join(here, "index.html"), "utf8")
    .replace('name="lekhai-api" content=""', () => `name="lekhai-api" content="${address}"`)
    .replace("connect-src 'self'", () => `connect-src ${origin}`);
}

const address = serviceAddress();
if (!existsSync(fonts)) stop("core/fonts is missing: deploy from a clone of the whole repository, not this folder alone");
mkdirSync(join(dist, "static"), { recursive: true });
writeFileSync(join(dist, "index.html"), pageFor(address));
for (const name of readdirSync(here).filter((name) => /\.(css|js|svg)$/.test(name))) {
  cpSync(join(here, name), join(dist, "static", name));
}
cpSync(fonts, join(dist, "static", "fonts"), { recursive: true });
console.log(`The page is in ${dist} and asks ${address}`);
