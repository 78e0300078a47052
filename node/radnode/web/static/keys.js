// The keyboard: j, k, arrows, Enter, v, h, p, /, Esc, w, o, ?. Keys with Ctrl, Alt or Meta are the browser's.
"use strict";

const help = document.getElementById("help");

function links() {
  return [...document.querySelectorAll("[data-filtered] tr:not([hidden]) a.row")];
}

function move(step) {
  const all = links();
  if (!all.length) return false;
  const here = all.indexOf(document.activeElement?.closest("tr")?.querySelector("a.row"));
  const there = step === "first" ? 0 : step === "last" ? all.length - 1
    : here < 0 ? 0 : Math.min(all.length - 1, Math.max(0, here + step));
  all[there].focus();
  all[there].closest("tr").scrollIntoView({ block: "nearest" });
  return true;
}

function follow(selector) {
  const link = (document.activeElement?.closest("tr") ?? document.querySelector(".bar"))?.querySelector(selector);
  if (!link) return false;
  link.click();
  return true;
}

function priority() {
  const field = document.getElementById("priority-level");
  field?.scrollIntoView({ block: "nearest" });
  field?.focus();
  return field ? true : follow("a.priority");
}

function outlines() {
  const boxes = [...document.querySelectorAll("input.outlines")];
  const on = boxes.some((box) => !box.checked);
  for (const box of boxes) box.checked = on;
  return boxes.length > 0;
}

const KEYS = {
  j: () => move(1),
  ArrowDown: () => move(1),
  k: () => move(-1),
  ArrowUp: () => move(-1),
  Home: () => move("first"),
  End: () => move("last"),
  v: () => follow("a.viewer"),
  h: () => follow("a.history"),
  p: priority,
  w: () => { location.href = "/"; return true; },
  o: outlines,
  "?": () => { help.showModal(); return true; },
  "/": () => { const field = document.getElementById("filter"); field?.focus(); return Boolean(field); },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || help.open) return;
  if (event.isComposing) return; // of an input method, as Chinese is typed: its arrows choose characters
  const typing = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (typing && event.key === "Escape" && event.target.closest(".bar, .filters")) {
    event.target.value = "";
    filter();
    event.target.blur();
  } else if (typing && event.key === "ArrowDown" && event.target.closest(".bar, .filters")) {
    if (move("first")) event.preventDefault();
  } else if (!typing && KEYS[event.key]?.()) event.preventDefault();
});
document.getElementById("help-button").addEventListener("click", () => help.showModal());
