// SPDX-License-Identifier: Apache-2.0
// One camera of the live view: picture, answer, ages, counters.
import { find, make, percent, put, showAnswer } from "./answer.js";
import { drawHistogram } from "./histogram.js";

const OLD_S = 3;
const PATIENCE_S = 15; // a picture that takes longer is lost on its way
const MOST_OPEN = 2; // of more cameras, only the pictures and answers are open at first
const COUNTERS = {
  received: "from the camera",
  published: "classified in time",
  superseded: "a newer image came first",
  stale: "too old before inference",
  late: "too old after inference",
  malformed: "not a usable image",
  failed: "the engine failed on it",
};

export function makeCard(index, topic, number, render) {
  const root = find("#camera").content.firstElementChild.cloneNode(true);
  const card = { root, index, topic, newest: 0, newest_ms: 0, shown: 0, loads: 0, asked_ms: 0, drawn: "" };
  put(find("h3", root), topic);
  const image = find("img", root);
  image.onload = image.onerror = ({ type }) => {
    card.asked_ms = 0;
    image.hidden = type === "error";
    image.width = image.naturalWidth;
    image.height = image.naturalHeight;
    render(); // a newer one may be there
  };
  for (const [name, meaning] of Object.entries(COUNTERS)) {
    const row = make(find("tbody", root), "tr");
    const head = make(row, "th", name);
    head.scope = "row";
    make(head, "small", meaning);
    make(row, "td");
    make(row, "td");
  }
  find("details", root).open = number <= MOST_OPEN;
  find("#cameras").append(root);
  new ResizeObserver(render).observe(find("svg", root));
  return card;
}

export function showCamera(card, camera, isLive, waited_s) {
  const { root } = card;
  if (camera.picture !== card.newest) {
    card.newest = camera.picture;
    card.newest_ms = Date.now();
  }
  showAnswer(root, camera, "no result");
  showAge(card, camera, isLive, waited_s);
  if (isLive) showPicture(card, camera);
  showCounters(find("tbody", root), camera.counters);
  showAges(card, camera);
}

function showAge({ root, shown, newest_ms }, { result_age_s, rate_hz }, isLive, waited_s) {
  const pictureAge_s = shown ? (Date.now() - newest_ms) / 1000 : 0;
  const age_s = Math.max(result_age_s + waited_s, pictureAge_s);
  const isOld = !isLive || result_age_s === null || age_s > OLD_S;
  root.classList.toggle("old", isOld);
  const old = result_age_s === null ? (shown ? "■ old picture" : "○ no picture") : `■ old: ${Math.round(age_s)} s ago`;
  put(find(".badge", root), isOld ? old : `● live ${rate_hz === null ? "" : `${rate_hz.toFixed(1)} Hz`}`);
}

function showPicture(card, { picture, topic }) {
  const isLoading = Date.now() - card.asked_ms < PATIENCE_S * 1000;
  if (isLoading || !picture || card.shown === picture) return;
  card.shown = picture;
  card.asked_ms = Date.now();
  const image = find("img", card.root);
  image.alt = `Newest picture of ${topic}`;
  image.src = `/live/pictures/${card.index}?n=${++card.loads}`; // for one address browsers ask once
}

function showCounters(table, counters) {
  Object.keys(COUNTERS).forEach((name, index) => {
    const row = table.rows[index];
    put(row.cells[1], counters[name].toLocaleString("en"));
    put(row.cells[2], counters.received ? percent(counters[name] / counters.received) : "");
    row.classList.toggle("none", !counters[name]);
  });
}

function showAges(card, { ages, histogram, deadline_ms }) {
  const svg = find("svg", card.root);
  const drawn = JSON.stringify([svg.clientWidth, ages, histogram, deadline_ms]);
  if (drawn === card.drawn || !svg.clientWidth) return;
  card.drawn = drawn;
  const words = ages
    ? `p50 ${ages.p50_ms.toFixed(1)} ms · p99 ${ages.p99_ms.toFixed(1)} ms · max ${ages.max_ms.toFixed(1)} ms`
    : "nothing published yet";
  put(find(".words", card.root), words);
  svg.setAttribute("aria-label", `Histogram of ages: ${words}`);
  drawHistogram(svg, histogram, deadline_ms);
}
