// SPDX-License-Identifier: Apache-2.0
// A picture is chosen, dropped or pasted, and classified by the server.
import { find, put, showAnswer } from "./answer.js";

const MIB = 2 ** 20;
const FORM = 1024; // bytes around the picture that count as well
const section = find("#upload");
const preview = find("#preview");
const input = find("#file");
const again = find("#again");
const found = find("#found");
const most = section.dataset.maxBodyMib * MIB - FORM;
let newest; // the AbortController of the newest request
let picture;

function tell(text, isError = false) {
  put(find("#message"), isError ? `✕ ${text}` : text);
  find("#message").className = isError ? "error" : "quiet";
}

function show(file) {
  preview.src = URL.createObjectURL(file);
  preview.alt = `Your picture ${file.name}`;
  preview.hidden = false;
}

preview.onload = preview.onerror = ({ type }) => {
  URL.revokeObjectURL(preview.src);
  preview.hidden = type === "error";
};

async function classify(file) {
  if (!file) return;
  newest?.abort();
  const request = (newest = new AbortController());
  picture = file;
  found.hidden = again.hidden = true;
  show(file);
  if (file.size > most) {
    const size = `${(file.size / MIB).toFixed(1)} MiB`;
    tell(`${file.name} has ${size}. Allowed: ${find("#limit").textContent}.`, true);
    return;
  }
  tell("Classifying …");
  try {
    const answer = await ask(file, request.signal);
    if (request === newest) showResult(answer);
  } catch (problem) {
    if (request !== newest) return; // a newer picture took its place
    tell(problem.message, true);
    again.hidden = !problem.isTemporary;
  }
}

async function ask(file, signal) {
  const body = new FormData();
  body.append("file", file);
  const response = await fetch("/predict", { method: "POST", body, signal }).catch(() => {
    throw trouble("The server cannot be reached. Check that it runs, then try again.", true);
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw trouble(answer.error ?? `The server answered ${response.status}.`, response.status >= 500);
}

function trouble(text, isTemporary) {
  return Object.assign(new Error(text), { isTemporary });
}

function showResult(answer) {
  tell("");
  showAnswer(found, answer, "no class is likely enough");
  put(find("#took"), `${answer.latency_ms.toFixed(1)} ms · ${answer.model}`);
  found.hidden = false;
}

input.onchange = () => {
  classify(input.files[0]);
  input.value = ""; // so that the same file can be chosen again
};
again.onclick = () => classify(picture);
addEventListener("paste", (event) => classify(event.clipboardData.files[0]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  section.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) section.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  event.preventDefault(); // or the browser would leave the page for the picture
  section.classList.remove("dragging");
  classify(event.dataTransfer.files[0]);
});
put(find("#address"), `${location.origin}/predict`);
