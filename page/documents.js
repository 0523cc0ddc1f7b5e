// The documents: sending, finding, watching, previewing, deleting. Only the rows in sight are in the page.

import { call, capitalised, get } from "./api.js";
import { showDetails } from "./document-details.js";
import { searchOnly } from "./filters.js";
import { hasDocuments, may } from "./library.js";
import { computed, each, effect, h, onCleanup, scope, signal } from "./reactive.js";
import { change, go, link, route } from "./route.js";
import { changedUploads, chooseFiles, collection } from "./sending.js";
import {
  ago,
  bytes,
  complain,
  counted,
  icon,
  iconButton,
  loader,
  repeat,
  shortName,
  toast,
} from "./ui.js";

const ROW_PX = 64;
const HEAD = 100;
const MORE = 500;
const BEYOND_SIGHT = 6;
const POLL_MS = 1500;
const UNDO_SECONDS = 10;
const UNFINISHED = new Set(["queued", "processing", "deleting"]);

// Uploads that the user deleted and may still take back: the function that deletes each at once.
const leaving = signal(new Map());
addEventListener("pagehide", () => leaving.peek().forEach((remove) => remove()));

class Documents extends HTMLElement {
  connectedCallback() {
    [, this.end] = scope(() => this.build());
  }

  disconnectedCallback() {
    this.end();
  }

  build() {
    this.rows = signal([]);
    this.next = null;
    this.name = signal("");
    this.status = signal("");
    this.loaded = signal(false);
    this.head = loader(
      "The documents",
      (query) => get("uploads", { ...query, limit: HEAD }),
      (page, query, take) => {
        take(page);
        this.shownQuery = query;
        this.loaded.value = true;
        this.measure();
      },
    );
    this.more = loader(
      "More documents",
      async (cursor, query) => query === this.query && get("uploads", { ...query, limit: MORE, cursor }),
      (page, _, query) => query === this.query && this.take(page),
    );
    this.range = signal([0, 40]);
    const pane = h("aside", { class: "pane", "aria-label": "Document" });
    this.append(h("section", { class: "column wide" }, h("div", { class: "stack" }, this.toolbar(), this.head.notice, this.more.notice), this.list()), pane);
    const viewing = computed(() => Boolean(route.value.params.view));
    effect(() => {
      this.classList.toggle("viewing", viewing.value);
      pane.replaceChildren(...(viewing.value ? [document.createElement("rag-viewer")] : []));
      requestAnimationFrame(() => this.measure());
    });
    effect(() => {
      const query = { name: this.name.value, status: this.status.value };
      this.reload(query);
    });
    let changes = changedUploads.peek();
    effect(() => changedUploads.value !== changes && ((changes = changedUploads.value), this.refresh()));
    onCleanup(repeat(POLL_MS, () => this.watch()));
    const resized = new ResizeObserver(() => this.measure());
    resized.observe(this.scroller);
    onCleanup(() => resized.disconnect());
  }

  toolbar() {
    const statuses = { "": "Any status", ready: "Ready", processing: "Being read", queued: "Waiting", failed: "Failed" };
    let typing;
    const search = h("input", {
      type: "search",
      placeholder: "Find by name",
      "aria-label": "Find documents by name",
      oninput: () => (clearTimeout(typing), (typing = setTimeout(() => (this.name.value = search.value.trim()), 150))),
    });
    return h(
      "header",
      { class: "toolbar" },
      h("h1", {}, "Documents"),
      h("span", { class: "spacer" }),
      search,
      h(
        "select",
        { "aria-label": "Status", onchange: (event) => (this.status.value = event.target.value) },
        Object.entries(statuses).map(([value, text]) => h("option", { value }, text)),
      ),
      () => may("upload") && adding(),
    );
  }

  list() {
    const shown = () => this.rows.value.filter((one) => !leaving.value.has(one.upload_id));
    const list = h("ul", { class: "rows", style: { height: "0px" } });
    this.scroller = h(
      "div",
      {
        class: "scroller",
        tabindex: "0",
        role: "region",
        "aria-label": "List of documents",
        onscroll: () => this.measure(),
      },
      list,
      () =>
        this.loaded.value &&
        !shown().length &&
        h(
          "div",
          { class: "empty" },
          this.name.value || this.status.value
            ? "No document has this name and status."
            : "No documents yet. Drop files or folders anywhere on this page.",
        ),
    );
    effect(() => (list.style.height = `${shown().length * ROW_PX}px`));
    each(
      list,
      () => {
        const rows = shown();
        const [first, last] = this.range.value;
        return rows.slice(first, last).map((upload, index) => ({ upload, at: first + index, of: rows.length }));
      },
      (item) => item.upload.upload_id,
      (item) => this.row(item),
    );
    return this.scroller;
  }

  measure() {
    const { scrollTop, clientHeight } = this.scroller;
    const first = Math.max(Math.floor(scrollTop / ROW_PX) - BEYOND_SIGHT, 0);
    const last = Math.ceil((scrollTop + clientHeight) / ROW_PX) + BEYOND_SIGHT;
    const [before, after] = this.range.peek();
    if (before !== first || after !== last) this.range.value = [first, last];
    if (this.next && last > this.rows.peek().length - HEAD) this.loadMore();
  }

  async reload(query) {
    this.query = query;
    this.next = null;
    await this.head.run(query, (page) => {
      this.rows.value = page.uploads;
      this.next = page.next ?? null;
      this.scroller.scrollTop = 0;
      if (page.uploads.length) hasDocuments.value = true;
    });
  }

  async loadMore() {
    const cursor = this.next;
    this.next = null;
    await this.more.run(cursor, this.query);
  }

  take(page) {
    this.rows.value = [...this.rows.peek(), ...page.uploads];
    this.next = page.next ?? null;
    this.measure();
  }

  /** Reads the newest uploads again, and keeps the older ones that are shown. */
  async refresh() {
    // Rows of another name or status are still shown while a list is on its way.
    if (this.query !== this.shownQuery) return this.reload(this.query);
    await this.head.run(this.query, (page) => {
      const rows = this.rows.peek();
      const last = page.uploads.at(-1)?.upload_id;
      const at = rows.findIndex((one) => one.upload_id === last);
      if (at < 0 || !page.next) this.next = page.next ?? null;
      this.rows.value = page.next && at >= 0 ? [...page.uploads, ...rows.slice(at + 1)] : page.uploads;
    });
  }

  /** Reads the rows in sight that are being worked on. */
  async watch() {
    const [first, last] = this.range.peek();
    const unfinished = this.rows
      .peek()
      .slice(first, last)
      .filter((one) => UNFINISHED.has(one.status));
    // The list says that a document is gone; to ask for the document would be an error.
    const inHead = new Set(this.rows.peek().slice(0, HEAD));
    const going = unfinished.filter((one) => one.status === "deleting" && inHead.has(one));
    if (going.length) await this.refresh();
    const working = unfinished.filter((one) => !going.includes(one));
    const news = await Promise.all(
      working
        .slice(0, 20)
        .map((one) =>
          get(`uploads/${one.upload_id}`).catch((problem) => (problem.status === 404 ? { gone: one.upload_id } : one)),
        ),
    );
    if (!news.length) return;
    const byId = new Map(news.map((one) => [one.gone ?? one.upload_id, one]));
    this.rows.value = this.rows
      .peek()
      .map((one) => byId.get(one.upload_id) ?? one)
      .filter((one) => !one.gone);
  }

  row(item) {
    const upload = () => item.value.upload;
    const open = () => change({ view: upload().upload_id, page: 1, job: null, n: null });
    return h(
      "li",
      {
        class: "document",
        style: () => ({ transform: `translateY(${item.value.at * ROW_PX}px)` }),
        "aria-setsize": () => item.value.of,
        "aria-posinset": () => item.value.at + 1,
      },
      h(
        "button",
        {
          type: "button",
          class: "name",
          dir: "auto",
          onclick: () => (upload().searched ? open() : this.details(upload())),
        },
        () => upload().name,
      ),
      h(
        "span",
        { class: () => `state ${upload().status}` },
        () => stateSentence(upload()),
        () =>
          upload().warnings?.length > 0 && h("span", { class: "tag" }, counted(upload().warnings.length, "warning")),
      ),
      () =>
        upload().status === "processing" &&
        h("progress", {
          max: "1",
          value: upload().pages ? upload().pages_done / upload().pages : null,
          "aria-label": "Read",
        }),
      h(
        "span",
        { class: "buttons" },
        iconButton("ask", "Ask about this document", () => this.askAbout(upload()), {
          disabled: () => !upload().searched,
        }),
        () => may("upload") && iconButton("trash", "Delete", () => this.remove(upload())),
        iconButton("more", "More about this document", () => this.details(upload())),
      ),
    );
  }

  askAbout(upload) {
    searchOnly([upload]);
    go(link("ask"));
  }

  details(upload) {
    showDetails(upload, () => this.remove(upload));
  }

  remove(upload) {
    this.scroller.focus({ preventScroll: true }); // the button that has the focus goes with its row
    remove(upload, () => this.refresh());
  }
}

function adding() {
  return [
    h("input", {
      placeholder: "Into collection",
      "aria-label": "Collection that new files join",
      maxlength: "255",
      dir: "auto",
      value: collection.peek(),
      oninput: (event) => (collection.value = event.target.value),
    }),
    h("button", { type: "button", onclick: () => chooseFiles({ folder: true }) }, "Add folder"),
    h("button", { type: "button", class: "primary", onclick: () => chooseFiles() }, icon("upload"), "Add files"),
  ];
}

function stateSentence({ status, pages, pages_done: done, bytes: size, created_at: when, error }) {
  if (status === "failed") return capitalised(error ?? "failed");
  if (status === "processing") return pages ? `page ${done} of ${pages}` : "being read";
  if (status === "queued") return "waiting";
  if (status === "deleting") return "being deleted";
  return [pages == null ? null : counted(pages, "page"), " · ", bytes(size), " · ", ago(when)];
}

/** Deletes an upload unless the user takes it back within ten seconds. */
function remove(upload, done) {
  const id = upload.upload_id;
  const without = () => {
    const others = new Map(leaving.peek());
    others.delete(id);
    leaving.value = others;
  };
  const send = () =>
    call("DELETE", `uploads/${encodeURIComponent(id)}`, { keepalive: true })
      .then(done, complain)
      .finally(without);
  leaving.value = new Map(leaving.peek()).set(id, send);
  toast(`${shortName(upload.name)} is deleted.`, { action: "Undo", onAction: without, onEnd: send, seconds: UNDO_SECONDS });
}

customElements.define("rag-documents", Documents);
