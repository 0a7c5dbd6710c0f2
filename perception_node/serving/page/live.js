// SPDX-License-Identifier: Apache-2.0
// The live view: the connection to the server, and what its newest event says.
import { makeCard, showCamera } from "./camera.js";
import { find, make, put } from "./answer.js";

const SILENCE_S = 7; // the server sends an event every 5 s, also if nothing has changed
const RETRY_S = 5;
const ANY = -1; // the next picture is new, whatever its number: a new server counts anew
const SYMBOLS = { ok: "✓", inactive: "○", warn: "▲", degraded: "⚠\uFE0E", error: "✕", absent: "✕" };
const cards = [];
let source;
let view;
let heard_ms = 0; // when the newest event came
let lost_ms = 0; // the same, where nothing came after it; 0: not lost
let isConnected = false;
let refusal = "";
let timer;

function connect() {
  source?.close();
  source = new EventSource("/live/events");
  source.onmessage = (event) => {
    view = JSON.parse(event.data);
    heard_ms = Date.now();
    lost_ms = 0;
    isConnected = true;
    refusal = "";
    render();
  };
  source.onerror = async ({ target }) => {
    if (target !== source) return;
    lose();
    if (target.readyState !== EventSource.CLOSED) return; // it tries again by itself
    refusal = await askWhy();
    render();
    setTimeout(() => target === source && !document.hidden && connect(), RETRY_S * 1000);
  };
}

async function askWhy() {
  try {
    const response = await fetch("/live/events");
    if (!response.ok) return (await response.json()).error;
    await response.body.cancel();
  } catch {
    // not even an answer: no reason to show
  }
  return "";
}

function lose() {
  lost_ms ||= heard_ms;
  isConnected = false;
  for (const card of cards) card.shown &&= ANY;
  render();
}

// Called every second. A connection may break without a word, as radio does.
function tick() {
  if (isConnected && Date.now() - heard_ms > SILENCE_S * 1000) {
    lose();
    connect();
  }
  render();
}

function judge() {
  if (document.hidden) return ["lost", "paused", ""];
  if (!isConnected) {
    const since = new Date(lost_ms).toTimeString().slice(0, 8);
    if (!lost_ms) return ["lost", "… connecting", refusal || "to the server"];
    const hint = "What is below is old. The page tries to connect again by itself.";
    return ["lost", `✕ no connection since ${since}`, refusal || hint];
  }
  let kind = view.level;
  if (view.state === "absent") kind = "absent";
  else if (view.degraded && kind !== "error") kind = "degraded";
  else if (view.state !== "active" && kind === "ok") kind = "inactive";
  const also = view.degraded && kind === "error" ? ", degraded" : "";
  const isSaid = view.alarms.some((alarm) => alarm.message === view.summary); // below
  return [kind, `${SYMBOLS[kind]} ${kind}${also}`, isSaid ? "" : view.summary];
}

function render() {
  const [kind, state, summary] = judge();
  const banner = find("#banner");
  banner.dataset.kind = kind;
  banner.toggleAttribute("data-degraded", isConnected && view.degraded);
  put(find("#state"), state);
  put(find("#summary"), summary);
  document.title = `${state} - ${view?.node ?? "perception"}`;
  if (!view) return;
  put(find("#node"), view.node);
  put(find("#domain"), `ROS domain ${view.domain} · `);
  showAlarms(isConnected ? view.alarms : []);
  showEngine(view.engine);
  const { cameras } = view;
  // A card is not passed on: it shows a picture of the camera it was made for.
  const isSame = cards.every(({ topic }, index) => topic === cameras[index]?.topic);
  while (!isSame && cards.length) cards.pop().root.remove();
  const isLive = isConnected && view.state === "active";
  const waited_s = (Date.now() - heard_ms) / 1000;
  cameras.forEach((camera, index) => {
    cards[index] ??= makeCard(index, camera.topic, cameras.length, render);
    showCamera(cards[index], camera, isLive, waited_s);
  });
}

function showAlarms(alarms) {
  const lines = alarms.map((a) => `${SYMBOLS[a.level]} ${a.level}: ${a.task}: ${a.message}`);
  const list = find("#alarms");
  if (lines.join() === [...list.children].map((line) => line.textContent).join()) return;
  list.replaceChildren();
  for (const line of lines) make(list, "li", line);
}

function showEngine(engine) {
  const list = find("#engine");
  const { level, description, model, reason } = engine ?? {};
  const trouble = engine && level !== "ok" ? `${SYMBOLS[level]} ${level}: ` : "";
  const rows = engine ? ["Engine", trouble + description, "Model", model, "Why this engine", reason] : [];
  if (rows.join("") === list.textContent) return;
  list.replaceChildren();
  for (let at = 0; at < rows.length; at += 2) {
    const row = make(list, "div");
    make(row, "dt", rows[at]);
    make(row, "dd", rows[at + 1]);
  }
}

function watch() {
  clearInterval(timer);
  lost_ms = 0;
  isConnected = false;
  if (document.hidden) {
    source?.close(); // nobody looks, so the node need not draw
  } else {
    connect();
    timer = setInterval(tick, 1000);
  }
  render();
}

document.addEventListener("visibilitychange", watch);
watch();
