// A page of a document as a picture, with the quotes of an answer marked on it. Kinds without pictures show their text.

import { computed, effect, h, onCleanup, scope, signal } from "./reactive.js";
import { get, Problem, url } from "./api.js";
import { quoteNodes } from "./answer.js";
import { sourcesOf } from "./conversations.js";
import { change, CLOSED, route } from "./route.js";
import { drawLayer, findInDocument, place, withHits } from "./find.js";
import { counted, failureNotice, icon, iconButton, loader, mayPass, RETRY_MS } from "./ui.js";

const WIDTHS = [640, 960, 1280, 1920, 2400];
const ZOOMS = [1, 1.25, 1.5, 2, 3];
const REMEMBERED = 40;
const MOST_TRIES = 2;
const CANNOT_DRAW = new Problem(422, "This browser cannot draw it. Download the document to see it.");
const remembered = new Map();

/** Returns what `load` promises, once for each key; a failure is not remembered. */
function once(key, load) {
  if (!remembered.has(key)) {
    const promise = load();
    remembered.set(key, promise);
    promise.catch(() => remembered.delete(key));
    if (remembered.size > REMEMBERED) remembered.delete(remembered.keys().next().value);
  }
  return remembered.get(key);
}

const pagePath = (id, page) => `uploads/${encodeURIComponent(id)}/pages/${page}`;
const pageText = (id, page) => once(`text ${id} ${page}`, () => get(`${pagePath(id, page)}/text`));
const boxesOf = (id, { page, start, end, quote }) =>
  once(`boxes ${id} ${page} ${start} ${end}`, () =>
    get(`${pagePath(id, page)}/boxes`, { start, end, quote: quote.length <= 2000 ? quote : null }),
  );

/** Returns the part of a source that fits the question best, as a source; null if that is all of it, or unknown. */
function sentenceOf({ page, start, quote, highlight }) {
  const characters = Array.from(quote);
  if (!highlight || highlight[1] - highlight[0] >= characters.length) return null;
  const [from, to] = highlight;
  return { page, start: start + from, end: start + to, quote: characters.slice(from, to).join("") };
}

/** Returns the boxes of a quote and, if a part of it is its sentence, of that. */
async function quoteBoxes(id, source) {
  const sentence = sentenceOf(source);
  const [quote, part] = await Promise.all([boxesOf(id, source), sentence && boxesOf(id, sentence)]);
  return { ...quote, sentence: part?.boxes ?? [] };
}

const upload = (id) => once(`upload ${id}`, () => get(`uploads/${encodeURIComponent(id)}`));

/** Gets the picture and the boxes of a source before they are asked for. */
export async function prepare(source) {
  const id = source.upload_id;
  const document = await upload(id).catch(() => null);
  if (!document || !hasPictures(document)) return;
  quoteBoxes(id, source).catch(() => {});
  const picture = new Image();
  once(
    `picture ${id} ${source.page}`,
    () => (setPicture(picture, id, source.page, paneWidth()), picture.decode()),
  ).catch(() => {});
}

const PICTURED = /^(application\/pdf|image\/(png|jpeg|tiff|webp|bmp|gif))$/; // as the service draws them
const hasPictures = (document) => PICTURED.test(document.media_type);

function setPicture(image, id, page, width) {
  image.sizes = `${Math.round(width)}px`;
  image.srcset = WIDTHS.map((one) => `${url(pagePath(id, page), { width: one })} ${one}w`).join(", ");
}

const paneWidth = () => (innerWidth >= 1000 ? innerWidth * 0.46 : innerWidth) - 34;

class Viewer extends HTMLElement {
  connectedCallback() {
    [, this.end] = scope(() => this.build());
  }

  disconnectedCallback() {
    this.end();
  }

  build() {
    this.zoom = signal(1);
    this.document = signal(null);
    this.pages = signal(null);
    this.hits = signal([]);
    this.needle = signal("");
    this.sources = signal([]);
    this.failed = signal(0); // pages that a search could not read
    this.looking = signal(false); // a search is under way
    this.tries = signal(0);
    this.undrawn = new Map(); // by path of a picture: how often it came and could not be drawn
    this.heading = h("h2", { dir: "auto", tabindex: "-1" }, "Document");
    this.stage = h("div", { class: "stage", tabindex: "0", role: "region", "aria-label": "Page" });
    this.addEventListener("keydown", (event) => this.onKey(event));
    const id = computed(() => route.value.params.view);
    const job = computed(() => route.value.params.job);
    this.loadDocument(id);
    this.loadSources(job);
    this.append(this.header(), this.tools(), this.quoteBar(), this.stage);
    effect(() => this.showPage());
    onCleanup(() => (this.abort?.abort(), clearTimeout(this.later)));
    queueMicrotask(() => this.heading.focus({ preventScroll: true }));
  }

  header() {
    const close = iconButton("close", "Close the document", () => change(CLOSED));
    const zoom = (step) => () =>
      (this.zoom.value = ZOOMS[Math.min(Math.max(ZOOMS.indexOf(this.zoom.peek()) + step, 0), ZOOMS.length - 1)]);
    return h(
      "header",
      {},
      this.heading,
      iconButton("minus", "Smaller", zoom(-1)),
      iconButton("plus", "Larger", zoom(1)),
      close,
    );
  }

  tools() {
    const number = h("input", {
      type: "number",
      min: "1",
      "aria-label": "Page number",
      value: () => route.value.params.page ?? 1,
      onchange: (event) => this.turnTo(Number(event.target.value)),
    });
    const search = h("input", {
      type: "search",
      placeholder: "Find in document",
      "aria-label": "Find in the document",
      oninput: () => this.find(search.value),
      onkeydown: (event) => event.key === "Enter" && this.nextHit(event.shiftKey ? -1 : 1),
    });
    return h(
      "div",
      { class: "tools" },
      h(
        "span",
        { class: "pager" },
        iconButton("previous", "Previous page (left arrow)", () => this.turn(-1)),
        number,
        h("span", {}, () => (this.pages.value ? `of ${this.pages.value}` : "")),
        iconButton("next", "Next page (right arrow)", () => this.turn(1)),
      ),
      h(
        "span",
        { class: "find" },
        icon("search"),
        search,
        h("span", { class: "hits", role: "status" }, () => this.hitsSentence()),
      ),
    );
  }

  get place() {
    const { view, page, n } = route.value.params;
    return { id: view, page: Math.max(Number(page) || 1, 1), n: Number(n) || null };
  }

  turn(step) {
    this.turnTo(this.place.page + step);
  }

  turnTo(page) {
    const last = this.pages.peek() ?? Infinity;
    if (page >= 1 && page <= last) change({ page, n: null }, { replace: true });
  }

  onKey(event) {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "Escape") change(CLOSED);
    else if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "ArrowRight" || event.key === "ArrowLeft") this.turn(event.key === "ArrowRight" ? 1 : -1);
    else if (event.key === "n" || event.key === "p") this.turnQuote(event.key === "n" ? 1 : -1);
    else return;
    event.preventDefault();
  }

  loadDocument(id) {
    const { run, failure, notice } = loader("The document", upload, (found) => {
      this.document.value = found;
      this.heading.textContent = found.name;
    });
    effect(() => {
      this.pages.value = null;
      this.document.value = null;
      this.hits.value = [];
      if (id.value) run(id.value);
    });
    effect(() => {
      if (!failure.value) return;
      const gone = failure.value.status === 404;
      this.heading.textContent = gone ? "This document was deleted" : "Document";
      this.complain(gone ? h("p", { class: "empty" }, "The answer keeps the quote, but its page is gone.") : notice());
    });
  }

  loadSources(job) {
    // The sources of an old answer are kept no longer: its document is shown all the same.
    const read = async (id) => {
      if (!id) return [];
      return sourcesOf(id).catch((problem) => (problem.status === 404 ? [] : Promise.reject(problem)));
    };
    this.quotes = loader("The quotes of the answer", read, (found) => (this.sources.value = found));
    effect(() => this.quotes.run(job.value));
  }

  /** Shows a failure in place of the page. */
  complain(notice) {
    this.shownPage = null;
    this.stage.replaceChildren(notice);
  }

  /** Shows the page again after a while. */
  tryAgain() {
    clearTimeout(this.later);
    this.later = setTimeout(() => (this.tries.value += 1), RETRY_MS);
  }

  turnQuote(step) {
    const sources = this.sources.peek();
    if (!sources.length) return;
    const at = sources.findIndex((one) => one.n === this.place.n);
    const source = sources[(at + step + sources.length) % sources.length];
    change({ view: source.upload_id, page: source.page, n: source.n }, { replace: true });
  }

  /** Returns what says which quote is shown. Its parts stay as they are: a button that is made again loses the focus. */
  quoteBar() {
    const source = computed(() => this.sources.value.find((one) => one.n === this.place.n) ?? null);
    const none = () => !this.sources.value.length;
    const text = () =>
      source.value
        ? [`[${source.value.n}] `, quoteNodes(source.value, { fromSentence: true })]
        : `${counted(this.sources.value.length, "quote")} in this answer`;
    const count = () =>
      source.value ? `${this.sources.value.indexOf(source.value) + 1} / ${this.sources.value.length}` : "";
    const turn = (step) => () => this.turnQuote(step);
    return h(
      "div",
      { class: "quote-bar", hidden: () => none() && !this.quotes.failure.value },
      this.quotes.notice,
      h("p", { class: "quote", dir: "auto", "aria-live": "polite", hidden: none }, text),
      iconButton("previous", "Previous quote (p)", turn(-1), { hidden: none }),
      h("span", { class: "count" }, count),
      iconButton("next", "Next quote (n)", turn(1), { hidden: none }),
    );
  }

  async showPage() {
    const { id, page, n } = this.place;
    const source = this.sources.value.find((one) => one.n === n && one.upload_id === id && one.page === page);
    const zoom = this.zoom.value;
    const needle = this.needle.value;
    this.tries.value;
    if (this.document.value?.upload_id !== id) return;
    const turn = (this.turnNumber = (this.turnNumber ?? 0) + 1);
    const current = () => turn === this.turnNumber;
    if (this.shownPage !== `${id} ${page}`) this.drawPicture(id, page);
    this.figure.style.width = `${zoom * 100}%`;
    const width = this.stage.clientWidth * zoom || paneWidth();
    if (this.image) setPicture(this.image, id, page, width);
    this.loadLayer(id, page, current, { source, needle });
    if (!source) return this.marks.replaceChildren();
    try {
      const found = await quoteBoxes(id, source);
      if (current()) this.drawBoxes(found);
    } catch (problem) {
      if (!current()) return;
      this.marks.replaceChildren();
      if (mayPass(problem)) this.tryAgain();
    }
  }

  drawPicture(id, page) {
    this.shownPage = `${id} ${page}`;
    this.marks = h("div", { class: "marks", "aria-hidden": "true" });
    this.layer = h("div", { class: "layer", dir: "auto" });
    // A picture of another kind of file does not exist: its passage is shown instead.
    const image = hasPictures(this.document.peek()) ? h("img", { alt: `Page ${page}` }) : null;
    const figure = h("figure", {}, image, this.marks, this.layer);
    // The picture may arrive, or be lost, when another page is shown.
    image?.addEventListener("load", () => figure.classList.add("loaded"));
    image?.addEventListener("error", () => this.onLostPicture(image, pagePath(id, page)));
    this.image = image;
    this.figure = figure;
    this.stage.replaceChildren(figure);
    this.stage.scrollTo(0, 0);
  }

  /** Says why a picture did not arrive: the server may be too busy to draw pages. */
  async onLostPicture(image, path) {
    const width = new URL(image.currentSrc || location.href).searchParams.get("width") ?? WIDTHS[0];
    const problem = await get(path, { width }).then(
      () => null,
      (reason) => reason,
    );
    if (image !== this.image || !image.isConnected) return;
    // A picture that the server gives, but the browser cannot draw, is not asked for without end.
    const undrawn = problem ? 0 : (this.undrawn.get(path) ?? 0) + 1;
    this.undrawn.set(path, undrawn);
    const reason = undrawn > MOST_TRIES ? CANNOT_DRAW : problem;
    this.complain(failureNotice("The picture of this page", reason) ?? "");
    if (!reason || mayPass(reason)) this.tryAgain();
  }

  drawBoxes({ boxes, sentence, width, height }) {
    const draw = (name) => (box) => {
      const mark = h("span", { class: name });
      place(mark, [box.left, box.top, box.right, box.bottom], width, height);
      return mark;
    };
    const marks = [...boxes.map(draw(sentence.length ? "mark around" : "mark")), ...sentence.map(draw("mark"))];
    this.marks.replaceChildren(...marks);
    this.marks.querySelector(".mark:not(.around)")?.scrollIntoView({ block: "center", inline: "nearest" });
  }

  /** Lays the words over the picture, invisible, so that they can be selected, read aloud and found. */
  async loadLayer(id, page, current, { source, needle }) {
    let text;
    try {
      text = await pageText(id, page);
    } catch (problem) {
      if (!current()) return;
      this.complain(failureNotice("This page", problem));
      if (mayPass(problem)) this.tryAgain();
      return;
    }
    if (!current()) return;
    this.pages.value = text.pages;
    if (text.picture) drawLayer(this.layer, text, needle);
    else this.drawText(text, source, needle);
  }

  drawText(page, source, needle) {
    const characters = Array.from(page.text);
    const text = (from, to) => characters.slice(from, to).join("");
    const parts = () => {
      const { start, end } = source;
      const sentence = sentenceOf(source);
      const around = sentence && [text(start, sentence.start), h("strong", {}, text(sentence.start, sentence.end)), text(sentence.end, end)];
      const passage = h("mark", { class: sentence && "around" }, around ?? text(start, end));
      return [text(0, start), passage, text(end)];
    };
    const article = h("article", { class: "plain", dir: "auto" }, source ? parts() : withHits(page.text, needle));
    this.figure.replaceChildren(article);
    this.figure.classList.add("loaded", "text-only");
    const passage = article.querySelector("strong") ?? article.querySelector("mark");
    if (source) passage?.scrollIntoView({ block: "center" });
  }

  find(needle) {
    this.abort?.abort();
    this.hits.value = [];
    this.failed.value = 0;
    this.needle.value = needle.trim();
    this.looking.value = Boolean(needle.trim());
    if (!needle.trim()) return;
    this.abort = new AbortController();
    this.searching = findInDocument(needle.trim(), {
      pages: () => this.pages.peek() ?? 1,
      text: (page) => pageText(this.place.id, page),
      onHits: (hits) => (this.hits.value = hits),
      signal: this.abort.signal,
    });
    const { signal: aborted } = this.abort;
    this.searching.then((failed) => {
      if (aborted.aborted) return;
      this.failed.value = failed;
      this.looking.value = false;
      if (this.hits.peek().length) this.nextHit(0);
    });
  }

  nextHit(step) {
    const pages = this.hits.peek().map((hit) => hit.page);
    if (!pages.length) return;
    const { page } = this.place;
    const after =
      step < 0
        ? (pages.findLast((one) => one < page) ?? pages.at(-1))
        : (pages.find((one) => (step ? one > page : one >= page)) ?? pages[0]);
    this.turnTo(after);
  }

  hitsSentence() {
    if (!this.needle.value) return "";
    const count = this.hits.value.reduce((sum, hit) => sum + hit.count, 0);
    const unread = this.failed.value ? `, ${counted(this.failed.value, "page")} not read` : "";
    if (!count && this.looking.value) return "…";
    return `${count ? `${count} on ${counted(this.hits.value.length, "page")}` : "none"}${unread}`;
  }
}

customElements.define("rag-viewer", Viewer);
