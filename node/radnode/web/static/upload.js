// Sends files that were dragged or chosen, one after another, and shows the node's answer to each.
"use strict";

const drop = document.getElementById("drop");
const bar = document.getElementById("progress");
const sum = document.getElementById("sum");
const body = document.getElementById("answers");
const SHOWN = 2000; // rows; refused files are always shown
const count = { kept: 0, refused: 0 };
let queue = [];
let sending = false;
let sent = 0;
let all = 0; // those on their way among them

async function filesOf(entry, path = "") {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [[path + entry.name, file]];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...await filesOf(one, `${path}${entry.name}/`));
  }
}

function show(answer) {
  count[answer.kept ? "kept" : "refused"] += 1;
  sum.textContent = drop.dataset.done.replace("{kept}", count.kept).replace("{refused}", count.refused);
  if (answer.kept && body.rows.length >= SHOWN) return;
  const row = body.insertRow(answer.kept ? -1 : 0);
  row.insertCell().textContent = answer.name;
  row.insertCell().textContent = answer.kept ? drop.dataset.kept : answer.sentence;
  const place = row.insertCell();
  if (answer.study_uid) {
    const link = document.createElement("a");
    link.href = `/studies/${encodeURIComponent(answer.study_uid)}`;
    link.textContent = drop.dataset.open;
    place.append(link);
  }
}

async function send(name, file) {
  const answer = await fetch("/upload", { method: "POST", body: file, headers: { "x-file-name": encodeURIComponent(name).slice(0, 3000) } });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    return show({ name, kept: false, sentence: told.detail ?? drop.dataset.failed });
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const found = (rest + (value ?? "")).split("\n");
    rest = found.pop();
    for (const line of found) show(JSON.parse(line));
    if (done) return undefined;
  }
}

async function sendAll(files) {
  queue.push(...files);
  bar.hidden = false;
  bar.max = all += files.length;
  if (sending) return;
  sending = true;
  while (queue.length) {
    const [name, file] = queue.shift();
    await send(name, file).catch(() => show({ name, kept: false, sentence: drop.dataset.failed }));
    bar.value = ++sent;
  }
  sending = false;
}

function chosen(event) {
  sendAll([...event.target.files].map((file) => [file.webkitRelativePath || file.name, file]));
  event.target.value = "";
}

drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries) {
    const found = await filesOf(entry).catch(() => null);
    if (found?.length) sendAll(found);
    else {
      show({ name: entry.name, kept: false, sentence: found ? drop.dataset.empty : drop.dataset.failed });
      bar.hidden = false;
      bar.max = ++all;
      bar.value = ++sent;
    }
  }
});
document.getElementById("files").addEventListener("change", chosen);
document.getElementById("folder").addEventListener("change", chosen);
