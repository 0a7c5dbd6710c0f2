// SPDX-License-Identifier: Apache-2.0
// Ages against the deadline, as SVG in the size it has on the page.

const LEFT = 36;
const RIGHT = 10;
const TOP = 26;
const FLOOR = 150;
const BEYOND = 1.08; // of the deadline
const BETWEEN_NUMBERS = 64; // pixels
const LEAST_HEIGHT = 2; // so that a single late result is seen
const NONE = { bin_ms: 1, counts: [] };

export function drawHistogram(svg, histogram, deadline_ms) {
  const { bin_ms, counts } = histogram ?? NONE;
  const end_ms = BEYOND * (Math.max(deadline_ms ?? 0, bin_ms * counts.length) || 100);
  const width = svg.clientWidth - LEFT - RIGHT;
  const x = (age_ms) => LEFT + (width * age_ms) / end_ms;
  const highest = Math.max(...counts, 1);
  svg.replaceChildren();
  draw(svg, "path", { class: "grid", d: `M${LEFT} ${TOP}h${width}M${LEFT} ${FLOOR}h${width}` });
  write(svg, LEFT - 6, TOP + 4, highest, "end");
  write(svg, LEFT - 6, FLOOR + 4, 0, "end");
  const wide = Math.max(1, x(bin_ms) - LEFT - 1);
  const bars = counts.map((count, index) => {
    const height = Math.max(LEAST_HEIGHT, ((FLOOR - TOP) * count) / highest);
    return count ? `M${x(index * bin_ms)} ${FLOOR}v${-height}h${wide}v${height}z` : "";
  });
  draw(svg, "path", { class: "ages", d: bars.join("") });
  const step_ms = roundUp((end_ms * BETWEEN_NUMBERS) / width);
  for (let age_ms = 0; age_ms < end_ms; age_ms += step_ms)
    write(svg, x(age_ms), FLOOR + 18, `${+age_ms.toFixed(6)} ms`, "middle");
  if (!deadline_ms) return;
  draw(svg, "path", { class: "deadline", d: `M${x(deadline_ms)} ${FLOOR + 4}V6` });
  write(svg, x(deadline_ms) - 6, 16, `deadline ${+deadline_ms.toFixed(1)} ms`, "end", "strong");
}

function roundUp(value) {
  const ten = 10 ** Math.floor(Math.log10(value));
  return ten * [1, 2, 5, 10].find((factor) => factor * ten >= value);
}

function write(svg, x, y, text, anchor, look = "") {
  draw(svg, "text", { x, y, "text-anchor": anchor, class: look }, text);
}

function draw(svg, tag, attributes, text = "") {
  const node = svg.appendChild(document.createElementNS(svg.namespaceURI, tag));
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
}
