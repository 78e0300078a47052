// Fetches the parts of a page that change, and filters the rows of a list. No library, no inline script.
"use strict";

const PAUSE_MS = 1500;

async function refresh(part) {
  if (document.hidden) return;
  const answer = await fetch(part.dataset.live, { headers: { accept: "text/html" } });
  if (!answer.ok) throw new Error(String(answer.status));
  const text = await answer.text();
  if (text === part.dataset.shown) return;
  const first = part.dataset.shown === undefined;
  part.dataset.shown = text;
  if (first && part.innerHTML.trim() === text.trim()) return;
  const open = [...part.querySelectorAll("details[id][open]")].map((d) => d.id);
  const focused = document.activeElement?.closest("[data-key]")?.dataset.key;
  part.innerHTML = text;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) part.querySelector(`[data-key="${CSS.escape(focused)}"] a`)?.focus();
  filter();
}

async function live(part) {
  const note = document.getElementById("live");
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    try {
      await refresh(part);
      note?.replaceChildren();
    } catch {
      note?.replaceChildren("The node does not answer: this page is not being refreshed.");
    }
  }
}

function filter() {
  const field = document.getElementById("filter");
  if (!field) return;
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  const rows = document.querySelectorAll("[data-filtered] tr");
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  const count = document.getElementById("count");
  if (count) count.textContent = words.length ? `${shown} of ${rows.length} shown` : "";
}

document.addEventListener("keydown", (event) => {
  const field = document.getElementById("filter");
  if (event.key === "/" && field && !event.target.matches("input, textarea")) {
    event.preventDefault();
    field.focus();
  } else if (event.key === "Escape" && event.target === field) {
    field.value = "";
    filter();
    field.blur();
  }
});
document.getElementById("filter")?.addEventListener("input", filter);
document.querySelectorAll("[data-live]").forEach(live);
