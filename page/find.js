// The words of a page over its picture, and the search of the words of a whole document, page by page.

import { h } from "./reactive.js";

const AT_ONCE = 4;
const MOST_PAGES = 2000;

/** Returns where a text holds words, whatever their case, as offsets in code points. */
export function hitOffsets(text, needle) {
  const plain = (one) => Array.from(one, (character) => (/\s/.test(character) ? " " : character.toLowerCase()));
  const [hay, sought] = [plain(text), plain(needle)];
  const offsets = [];
  for (let at = 0; at + sought.length <= hay.length; at += 1) {
    if (sought.every((character, index) => hay[at + index] === character)) offsets.push([at, at + sought.length]);
  }
  return offsets;
}

/** Reads pages until all are read or `signal` is aborted; tells `onHits` of each page with hits; returns how many failed. */
export async function findInDocument(needle, { pages, text, onHits, signal }) {
  const hits = [];
  let next = 1;
  let failed = 0;
  await new Promise((resolve) => setTimeout(resolve, 250)); // the user is still typing
  const read = async () => {
    while (!signal.aborted && next <= Math.min(pages(), MOST_PAGES)) {
      const page = next;
      next += 1;
      const found = await text(page).catch(() => null);
      if (!found) failed += 1;
      const count = found ? hitOffsets(found.text, needle).length : 0;
      if (!count || signal.aborted) continue;
      hits.push({ page, count });
      hits.sort((one, other) => one.page - other.page);
      onHits([...hits]);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, read));
  return failed;
}

/** Puts an element over a rectangle of a page of this size. */
export function place(node, [left, top, right, bottom], width, height) {
  const percent = (part, whole) => `${((100 * part) / whole).toFixed(3)}%`;
  Object.assign(node.style, {
    left: percent(left, width),
    top: percent(top, height),
    width: percent(right - left, width),
    height: percent(bottom - top, height),
  });
}

/** Returns where the words of a run begin and end, each with the spaces behind it. */
function wordsOf(characters) {
  const begins = characters.flatMap((one, at) => (at === 0 || (/\s/.test(characters[at - 1]) && /\S/.test(one)) ? [at] : []));
  return begins.map((begin, number) => [begin, begins[number + 1] ?? characters.length]);
}

const MEASURED_PX = 100;

/** Draws runs of characters as invisible words, each where it stands on the picture, and as wide: they are selected. */
export function drawLayer(layer, { text, runs, width, height }, needle) {
  const characters = Array.from(text);
  const found = needle ? hitOffsets(text, needle) : [];
  const pen = h("canvas").getContext("2d");
  pen.font = `${MEASURED_PX}px system-ui, sans-serif`;
  const nodes = [];
  for (const [start, top, bottom, ...xs] of runs) {
    const run = characters.slice(start, start + xs.length - 1);
    for (const [begin, end] of wordsOf(run)) {
      const word = run.slice(begin, end).join("");
      const edges = xs.slice(begin, end + 1);
      const box = [Math.min(...edges), top, Math.max(...edges), bottom];
      const node = h("span", {}, word);
      place(node, box, width, height);
      const natural = (pen.measureText(word).width * (bottom - top)) / MEASURED_PX;
      node.style.fontSize = `${((100 * (bottom - top)) / width).toFixed(3)}cqw`;
      node.style.width = "auto";
      node.style.transform = `scaleX(${natural ? (box[2] - box[0]) / natural : 1})`;
      nodes.push(node);
    }
    nodes.push(h("br")); // what is copied of two lines is two lines
    for (const [from, to] of found) {
      const [first, last] = [Math.max(from - start, 0), Math.min(to - start, xs.length - 1)];
      if (first >= last) continue;
      const hit = h("span", { class: "hit" });
      place(hit, [Math.min(xs[first], xs[last]), top, Math.max(xs[first], xs[last]), bottom], width, height);
      nodes.push(hit);
    }
  }
  layer.replaceChildren(...nodes);
}

/** Returns a text as nodes, in which the words that are sought are marked. */
export function withHits(text, needle) {
  if (!needle) return [text];
  const characters = Array.from(text);
  const parts = [];
  let at = 0;
  for (const [from, to] of hitOffsets(text, needle)) {
    if (from < at) continue;
    parts.push(characters.slice(at, from).join(""), h("mark", {}, characters.slice(from, to).join("")));
    at = to;
  }
  return [...parts, characters.slice(at).join("")];
}
