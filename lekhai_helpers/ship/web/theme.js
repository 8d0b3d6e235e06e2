// Light or dark, before the first paint: this small script blocks, so that a dark room sees no white flash.
"use strict";
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => {
    try {
      return localStorage.getItem("lekhai-theme");
    } catch {
      return null; // storage is forbidden here: the system's choice stands
    }
  };
  const show = () => {
    root.dataset.theme = remembered() ?? (dark.matches ? "dark" : "light");
  };
  dark.addEventListener("change", show);
  show();
})();
