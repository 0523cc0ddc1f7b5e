// An answer as DOM nodes: the Markdown that models write, citations, and links that are withheld until clicked.
// HTML in an answer stays text.

import { h } from "./reactive.js";
import { copyText, openDialog } from "./ui.js";

const INLINE = new RegExp(
  [
    "(?<code>`+)(?<verbatim>.+?)\\k<code>",
    '(?<image>!)?\\[(?<text>(?:[^\\[\\]]|\\[[^\\[\\]]*\\])*)\\]\\((?<target>[^\\s()]*(?:\\([^\\s()]*\\)[^\\s()]*)*)(?:\\s+"[^"]*")?\\)',
    "\\[(?<cites>\\d+(?:\\s*,\\s*\\d+)*)\\]",
    "(?<removed>\\[\\?\\])",
    "\\*\\*(?<bold>\\S(?:.*?\\S)?)\\*\\*",
    "(?<![\\w*])[*_](?<italic>[^\\s*_](?:[^*_]*[^\\s*_])?)[*_](?![\\w*])",
    '<?(?<bare>https?://[^\\s<>"]*[^\\s<>".,;:!?)\\]])>?',
  ].join("|"),
  "su",
);
const LONGEST_URL = 2000;
const LONGEST_LEAD = 60;

/** Shows `text` in `container`. Blocks that are as before stay, so that what is selected in them stays selected. */
export function showAnswer(container, text, context) {
  const blocks = splitBlocks(text);
  const mark = `${context.sources?.length ?? "-"} ${context.done}`;
  const shown = container.shownBlocks ?? [];
  blocks.forEach((block, index) => {
    const before = shown[index];
    const id = `${mark} ${block.type} ${block.lines.join("\n")}`;
    if (before?.id === id) return;
    const node = renderBlock(block, context);
    if (before) before.node.replaceWith(node);
    else container.append(node);
    shown[index] = { id, node };
  });
  shown.splice(blocks.length).forEach((block) => block.node.remove());
  container.shownBlocks = shown;
}

/** Returns what a page is called. The label of a file without pages has a space: "Sheet Q3, rows 2–41". */
export function pageName({ page, page_label: label }) {
  if (label?.includes(" ")) return label;
  return label && label !== String(page) ? `page ${label} (${page} of the file)` : `page ${page}`;
}

/** Returns the answer as text with the list of its sources. */
export function withSources(text, sources) {
  const lines = sources.map(
    (one) => `[${one.n}] ${one.name}, ${pageName(one)}: “${one.quote.replace(/\s+/g, " ").trim()}”`,
  );
  return lines.length ? `${text.trim()}\n\n${lines.join("\n")}\n` : `${text.trim()}\n`;
}

/** Returns the nodes of a quote, in which the sentence that fits the question best is marked. */
export function quoteNodes({ quote, highlight }, { fromSentence = false } = {}) {
  const characters = Array.from(quote);
  const part = (...range) => characters.slice(...range).join("").replace(/\s+/g, " ");
  if (!highlight) return [part(0).trim()];
  const [start, end] = highlight;
  // Where there is room for a few lines, they are to hold the sentence.
  const before = fromSentence && start > LONGEST_LEAD ? "… " : part(0, start).trimStart();
  const whole = start === 0 && end >= characters.length;
  return whole ? [part(0).trim()] : [before, h("mark", {}, part(start, end)), part(end).trimEnd()];
}

/** Returns the sentences of a text as they are read aloud: without marks, addresses and numbers of sources. */
export function sentences(text) {
  const plain = text
    .replace(/^\s*\|[\s:|-]+\|?\s*$/gm, "")
    .replace(/!?\[([^\]]*)\]\([^)\s]*[^)]*\)/g, "$1")
    .replace(/\s*\[(?:\d+(?:\s*,\s*\d+)*|\?)\]/g, "")
    .replace(/^\s*(?:[-*+]|#+|>)\s+/gm, "")
    .replace(/[*`]+/g, "")
    .replaceAll("|", " ");
  const parts = [...new Intl.Segmenter(undefined, { granularity: "sentence" }).segment(plain)];
  return parts.map((part) => part.segment.replace(/\s+/g, " ").trim()).filter(Boolean);
}

const KINDS = [
  ["fence", /^\s*(```|~~~)/],
  ["heading", /^#{1,6}\s/],
  ["rule", /^\s*([-*_])(\s*\1){2,}\s*$/],
  ["quote", /^\s*>/],
  ["item", /^\s*(?:[-*+•]|\d{1,9}[.)])\s+/],
  ["table", /^\s*\|.*\|/],
];

/** Returns the blocks of a text: their type and lines. */
function splitBlocks(text) {
  const blocks = [];
  let open = null;
  const start = (type, line) => blocks.push((open = { type, lines: [line] }));
  for (const line of text.split(/\r?\n/)) {
    if (open?.type === "fence" && !open.closed) {
      open.lines.push(line);
      open.closed = /^\s*(```|~~~)\s*$/.test(line);
      continue;
    }
    if (!line.trim()) {
      open = null;
      continue;
    }
    const type = KINDS.find(([, pattern]) => pattern.test(line))?.[0] ?? "text";
    const goesOn =
      open &&
      ((type === open.type && ["quote", "item", "table", "text"].includes(type)) ||
        (type === "text" && ["item", "quote"].includes(open.type)));
    if (goesOn) open.lines.push(line);
    else start(type, line);
  }
  return blocks;
}

function renderBlock({ type, lines }, context) {
  const first = lines[0];
  switch (type) {
    case "fence":
      return h(
        "pre",
        { dir: "auto", tabindex: "0" },
        h(
          "code",
          {},
          lines
            .slice(1)
            .filter((line) => !/^\s*(```|~~~)\s*$/.test(line))
            .join("\n"),
        ),
      );
    case "heading":
      return h("h4", { dir: "auto" }, inline(first.replace(/^#+\s+/, "").replace(/\s#+$/, ""), context));
    case "rule":
      return h("hr");
    case "quote":
      return h(
        "blockquote",
        { dir: "auto" },
        inline(lines.map((line) => line.replace(/^\s*>\s?/, "")).join("\n"), context),
      );
    case "item":
      return renderList(lines, context);
    case "table":
      return renderTable(lines, context);
    default:
      return supported(h("p", { dir: "auto" }, inline(lines.join("\n"), context)), context);
  }
}

function renderList(lines, context) {
  const items = [];
  for (const line of lines) {
    const found = /^(\s*)(?:[-*+•]|(\d{1,9})[.)])\s+(.*)$/.exec(line);
    if (found) items.push({ deep: found[1].length > 1, number: found[2], text: found[3] });
    else items.at(-1).text += `\n${line.trim()}`;
  }
  const ordered = items[0].number !== undefined;
  const list = h(ordered ? "ol" : "ul", ordered ? { dir: "auto", start: items[0].number } : { dir: "auto" });
  for (const item of items) {
    list.append(supported(h("li", { class: item.deep ? "deep" : null }, inline(item.text, context)), context));
  }
  return list;
}

function renderTable(lines, context) {
  const rows = lines
    .filter((line) => !/^\s*\|[\s:|-]+\|?\s*$/.test(line))
    .map((line) =>
      line
        .trim()
        .replace(/^\||\|$/g, "")
        .split("|"),
    );
  const cells = (row, tag) =>
    h(
      "tr",
      {},
      row.map((cell) => h(tag, {}, inline(cell.trim(), context))),
    );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" },
    h(
      "table",
      { dir: "auto" },
      h("thead", {}, cells(rows[0] ?? [], "th")),
      h(
        "tbody",
        {},
        rows.slice(1).map((row) => cells(row, "td")),
      ),
    ),
  );
}

/** Marks a block of an answer with sources that cites none of them. */
function supported(node, { sources, done }) {
  const leadsIn = /[:：]\s*$/.test(node.textContent);
  if (!done || !sources?.length || leadsIn || node.querySelector(".cite, .removed")) return node;
  node.classList.add("uncited");
  node.append(
    " ",
    h("span", { class: "tag", title: "No source is given for this part. Check it yourself." }, "no source"),
  );
  return node;
}

/** Returns the nodes of one line of text. */
function inline(text, context) {
  const found = INLINE.exec(text);
  if (!found) return [text];
  const part = found.groups;
  let node;
  if (part.code) node = h("code", {}, part.verbatim);
  else if (part.target !== undefined) node = withheld(part.image ? "image" : "link", part.text, part.target);
  else if (part.cites) node = part.cites.split(/\s*,\s*/).map((n) => citation(Number(n), context));
  else if (part.removed)
    node = h(
      "span",
      { class: "tag removed", title: "A citation was removed here: its source does not support the sentence." },
      "unsupported",
    );
  else if (part.bold) node = h("strong", {}, inline(part.bold, context));
  else if (part.italic) node = h("em", {}, inline(part.italic, context));
  else node = withheld("link", part.bare, part.bare);
  const rest = text.slice(found.index + found[0].length);
  // The full stop after a number does not begin a line.
  const stop = part.cites ? (/^[.,;:!?)]+/.exec(rest)?.[0] ?? "") : "";
  if (stop) node = h("span", { class: "together" }, node, stop);
  return [text.slice(0, found.index), node, ...inline(rest.slice(stop.length), context)];
}

function citation(n, { sources, onCite }) {
  const source = sources?.find((one) => one.n === n);
  if (!source) return h("span", { class: "cite waiting" }, String(n));
  const label = `Source ${n}: ${source.name}, ${pageName(source)}`;
  return h(
    "button",
    { type: "button", class: "cite", "aria-label": label, title: label, onclick: () => onCite(source) },
    String(n),
  );
}

/** Returns a button in place of a link or image of an answer: a document may have talked the model into writing it. */
function withheld(kind, text, target) {
  const name = kind === "image" ? `image: ${text || "without a name"}` : text || target;
  return h(
    "button",
    {
      type: "button",
      class: "withheld",
      title: `Show where this ${kind} leads`,
      onclick: () => showTarget(kind, target),
    },
    name,
  );
}

function showTarget(kind, target) {
  const shown = target.slice(0, LONGEST_URL);
  const safe = /^(https?|mailto):/i.test(target);
  openDialog(kind === "image" ? "An image in the answer" : "A link in the answer", (close) =>
    h(
      "div",
      { class: "stack" },
      h(
        "p",
        {},
        "The answer gives this address. Opening it tells its server that you did, and all that the address says.",
      ),
      h("p", { class: "address", dir: "ltr" }, shown),
      h(
        "footer",
        {},
        h("button", { type: "button", onclick: () => (copyText(target), close()) }, "Copy"),
        safe &&
          h(
            "a",
            { class: "button", href: target, target: "_blank", rel: "noopener noreferrer", onclick: close },
            "Open",
          ),
      ),
    ),
  );
}
