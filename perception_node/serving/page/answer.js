// SPDX-License-Identifier: Apache-2.0
// How an answer is shown. Data is only ever set as text, never as HTML: labels are foreign.

const BARS = 5;

export const find = (selector, root = document) => root.querySelector(selector);

// Touches the page only for something new, so that nothing is laid out or read aloud in vain.
export const put = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

export function make(parent, tag, text = "") {
  const node = parent.appendChild(document.createElement(tag));
  node.textContent = text;
  return node;
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

export function showAnswer(root, { label, score, results }, otherwise) {
  put(find(".label", root), label ?? otherwise);
  put(find(".score", root), label === null ? "" : percent(score));
  const list = find(".bars", root);
  const best = results.slice(0, BARS);
  while (list.children.length > best.length) list.lastChild.remove();
  best.forEach((result, index) => showBar(list.children[index] ?? makeBar(list), result));
}

function makeBar(list) {
  const row = make(list, "li");
  for (const tag of ["span", "b", "i"]) make(row, tag);
  row.firstChild.dir = "auto"; // labels of every script
  return row;
}

function showBar(row, { label, score }) {
  put(row.children[0], label);
  put(row.children[1], percent(score));
  row.style.setProperty("--share", Math.min(Math.max(score, 0), 1));
}
