// Keeps the parts of a page current that change, and filters the rows of a list. No library, no inline script.
"use strict";

const QUIET_MS = 20000; // without news the page looks by itself: waiting times grow
const note = document.getElementById("live");
const texts = new Map(); // of each list, the rows as they were fetched last

function changed(field) {
  // whether a person chose or typed something here; a select has no default value of its own, its options have
  if (field.type === "checkbox" || field.type === "hidden") return false;
  if (field.tagName !== "SELECT") return field.value !== field.defaultValue;
  return field.selectedIndex !== Math.max(0, [...field.options].findIndex((option) => option.defaultSelected));
}

function busy(part) {
  // what a person is typing or has chosen is not replaced
  return [...part.querySelectorAll("input, textarea, select")].some((field) =>
    field === document.activeElement && field.type !== "checkbox" && field.value !== "" || changed(field));
}

function rowsOf(text) {
  // each row's text by its key: a list of a thousand rows is not parsed to find the few that changed
  const parts = text.split(/(?=<tr[\s>])/).filter((part) => part.startsWith("<tr"));
  return new Map(parts.map((part) => [/^<tr[^>]*? data-key="([^"]*)"/.exec(part)?.[1] ?? "", part]));
}

function parsed(text) {
  const made = document.createElement("template");
  made.innerHTML = text;
  return made.content.firstElementChild;
}

function update(row, wanted) {
  // only the cells that differ
  if (wanted.dataset.level === "STAT" && row.dataset.level !== "STAT") tell(wanted);
  for (const { name, value } of wanted.attributes) if (row.getAttribute(name) !== value) row.setAttribute(name, value);
  [...wanted.cells].forEach((cell, at) => {
    const old = row.cells[at];
    if (old && old.innerHTML !== cell.innerHTML) old.innerHTML = cell.innerHTML;
  });
}

function reconcile(body, text) {
  // table rows by their keys: only rows that changed are touched, and the focus stays where it was
  const before = texts.get(body);
  const wanted = rowsOf(text);
  const here = new Map([...body.rows].map((row) => [row.dataset.key ?? "", row]));
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  const focusedRow = focused?.closest("tr");
  const which = focusedRow ? [...focusedRow.querySelectorAll("a, button")].indexOf(focused) : -1;
  let place = body.firstElementChild;
  for (const [key, part] of wanted) {
    let row = here.get(key);
    here.delete(key);
    if (!row) {
      row = parsed(part);
      if (row.dataset.level === "STAT") tell(row);
    } else if (before?.get(key) !== part) update(row, parsed(part));
    if (row === place) place = place.nextElementSibling;
    else body.insertBefore(row, place);
  }
  for (const gone of here.values()) gone.remove();
  texts.set(body, wanted);
  if (which >= 0 && focusedRow.isConnected) focusedRow.querySelectorAll("a, button")[which]?.focus();
}

function tell(row) {
  note?.replaceChildren(row.dataset.announce ?? "");
}

function warn(words) {
  // that this page is not what the node knows; "": it is again
  if (!note || (!words && !note.classList.contains("problem"))) return;
  note.replaceChildren(words);
  note.classList.toggle("problem", words !== "");
}

function signedOut() {
  // nobody's names stay on the screen after the session, unless what a person wrote would be lost with them
  if (parts.some(busy)) warn(document.body.dataset.over);
  else location.reload();
}

function replace(part, text) {
  const open = [...part.querySelectorAll("details[id][open]")].map((d) => d.id);
  const checked = [...part.querySelectorAll("input[type=checkbox][id]")].map((c) => [c.id, c.checked]);
  const id = part.contains(document.activeElement) ? document.activeElement.id : "";
  part.innerHTML = text;
  for (const name of open) document.getElementById(name)?.setAttribute("open", "");
  for (const [name, on] of checked) if (document.getElementById(name)) document.getElementById(name).checked = on;
  if (id) document.getElementById(id)?.focus();
}

function serialised(text) {
  const parsed = document.createElement("template");
  parsed.innerHTML = text;
  return parsed.innerHTML.trim();
}

async function refresh(part) {
  if (document.hidden) return "";
  const answer = await fetch(part.dataset.live, { headers: { accept: "text/html" } });
  if (answer.status === 401) signedOut();
  if (!answer.ok) throw new Error(String(answer.status));
  const text = await answer.text();
  if (text === shown.get(part)) return "";
  if (busy(part)) return shown.has(part) || part.innerHTML.trim() !== serialised(text) ? document.body.dataset.waiting : "";
  const first = !shown.has(part);
  shown.set(part, text);
  if (part.tagName === "TBODY") reconcile(part, text);
  else if (!first || part.innerHTML.trim() !== serialised(text)) replace(part, text);
  filter();
  return "";
}

const shown = new Map();
const parts = [...document.querySelectorAll("[data-live]")];
let refreshing = false;
let again = false;

async function refreshAll() {
  again = true;
  if (refreshing) return;
  refreshing = true;
  while (again) {
    again = false;
    try {
      let words = "";
      for (const part of parts) {
        const said = await refresh(part);
        words ||= said;
      }
      warn(words);
    } catch (error) {
      warn(error.message === "401" ? document.body.dataset.over : document.body.dataset.silent);
    }
  }
  refreshing = false;
}

let source = null;

function listen() {
  // a hidden page holds no connection: a browser has six for one server
  source?.close();
  source = null;
  if (document.hidden || !parts.length) return;
  source = new EventSource("/changes");
  source.onmessage = refreshAll;
  source.onerror = () => {
    refreshAll(); // says what is the matter
    if (source?.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
}

function filter() {
  const field = document.getElementById("filter");
  if (!field) return;
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  const columns = [...document.querySelectorAll("[data-column]")].filter((f) => f.value.trim());
  let count = 0;
  const rows = document.querySelectorAll("[data-filtered] tr:not(.empty)");
  for (const row of rows) {
    const text = words.length ? row.textContent.toLowerCase() : "";
    const hidden = !words.every((word) => text.includes(word)) ||
      !columns.every((f) => row.cells[f.dataset.column].textContent.toLowerCase().includes(f.value.trim().toLowerCase()));
    if (row.hidden !== hidden) row.hidden = hidden;
    count += hidden ? 0 : 1;
  }
  const said = words.length || columns.length
    ? document.body.dataset.shown.replace("{shown}", count).replace("{all}", rows.length) : "";
  const place = document.getElementById("count");
  if (place && place.textContent !== said) place.textContent = said;
}

function clear() {
  for (const field of document.querySelectorAll("#filter, [data-column]")) field.value = "";
  filter();
}

document.getElementById("filter")?.addEventListener("input", filter);
document.querySelector(".filters")?.addEventListener("input", filter);
document.getElementById("clear")?.addEventListener("click", clear);
document.addEventListener("visibilitychange", listen);
if (parts.length) {
  setInterval(refreshAll, QUIET_MS);
  listen();
}
filter();
