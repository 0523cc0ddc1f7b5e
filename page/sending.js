// Files on their way: dropped or chosen, sent, and read by the service. Shown in a tray over every screen.

import { get, Problem, signedOut, url } from "./api.js";
import { asOneUser, hasDocuments, may } from "./library.js";
import { each, h, signal } from "./reactive.js";
import { announce, bytes, counted, iconButton, pause, toast } from "./ui.js";

const AT_ONCE = 2;
const MOST_FILES = 20_000;
const MOST_SHOWN = 200;
const POLL_MS = 700;
const HIDE_MS = 8000;
// How often a file is sent to a server that asks to wait, and how long it may ask to wait each time.
const MOST_TRIES = 60;
const LONGEST_WAIT_SECONDS = 60;
const sent = signal([]);
const queue = [];
let active = 0;
let lastKey = 0;

/** Counts the uploads that changed on the server, for lists that show them. */
export const changedUploads = signal(0);

/** The collection that new files join; "" for none. */
export const collection = signal("");

/** Sends files, a few at a time. Returns an item for each: its state is a signal. */
export function sendFiles(files) {
  const items = files.map((file) => ({
    key: (lastKey += 1),
    file,
    collection: collection.peek().trim(),
    state: signal({ phase: "waiting", done: 0 }),
  }));
  sent.value = [...sent.peek(), ...items];
  queue.push(...items);
  announce(`Sending ${counted(items.length, "file")}.`);
  pump();
  return items;
}

function pump() {
  while (active < AT_ONCE && queue.length) {
    active += 1;
    send(queue.shift()).finally(() => {
      active -= 1;
      pump();
    });
  }
}

const update = (item, changes) => (item.state.value = { ...item.state.peek(), ...changes });

/** Sends one file; again while the server asks to wait a little, as it does while many files wait. */
async function send(item) {
  for (let tries = 1; ; tries += 1) {
    const { status, body, wait } = await asOneUser(() => post(item)).catch((problem) => problem);
    if (status === 202) return accepted(item, body);
    if (![429, 503].includes(status) || !(wait <= LONGEST_WAIT_SECONDS) || tries === MOST_TRIES) {
      const refusal = body.detail ?? `The server refused the file with status ${status}.`;
      return update(item, {
        phase: "failed",
        error: status ? refusal : "The server cannot be reached. Send the file again when it runs.",
      });
    }
    update(item, { phase: "held", error: body.detail });
    await pause(wait * 1000);
  }
}

/** Posts a file. fetch() does not tell how much is sent, so this is an XMLHttpRequest. A status of 0 is no response. */
function post(item) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url("uploads", { collection: item.collection }));
    request.upload.onprogress = (event) =>
      update(item, { phase: "sending", done: event.loaded / Math.max(event.total, 1) });
    request.onloadend = () => {
      let body = {};
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // a proxy's page: its status says enough
      }
      if (request.status === 401) {
        signedOut.value = true;
        return reject(new Problem(401, body.detail, body));
      }
      return resolve({ status: request.status, body, wait: Number(request.getResponseHeader("Retry-After") ?? NaN) });
    };
    const form = new FormData();
    form.append("file", item.file, item.file.name);
    request.send(form);
  });
}

function accepted(item, body) {
  hasDocuments.value = true;
  update(item, { phase: body.duplicate ? "duplicate" : "reading", done: 0, id: body.upload_id });
  changedUploads.value += 1;
  watch(item);
}

/** Follows the reading of a file that was sent. */
async function watch(item) {
  for (;;) {
    try {
      const one = await get(`uploads/${item.state.peek().id}`);
      const duplicate = item.state.peek().phase === "duplicate";
      if (one.status === "ready") {
        update(item, { phase: duplicate ? "duplicate" : "ready", pages: one.pages, warnings: one.warnings });
        break;
      }
      if (one.status === "failed") {
        update(item, { phase: "failed", error: one.error });
        break;
      }
      update(item, { done: one.pages ? one.pages_done / one.pages : 0, pages: one.pages, read: one.pages_done });
    } catch (problem) {
      if (problem.status === 404) return update(item, { phase: "failed", error: "The document was deleted." });
    }
    await pause(POLL_MS);
  }
  changedUploads.value += 1;
  setTimeout(hideReady, HIDE_MS);
  const { phase, error } = item.state.peek();
  announce(phase === "failed" ? `${item.file.name}: ${error}` : `${item.file.name} is ready.`);
}

/** Waits until a file can be asked about. Throws if it cannot be read. */
export async function whenReady(item) {
  while (!["ready", "failed"].includes(item.state.peek().phase)) {
    if (item.state.peek().phase === "duplicate" && item.state.peek().pages) return;
    await pause(50);
  }
  if (item.state.peek().phase === "failed") throw new Error(item.state.peek().error);
}

/** Lets the user choose files, or a folder. */
export function chooseFiles({ folder = false } = {}) {
  const input = h("input", { type: "file", multiple: true, webkitdirectory: folder });
  input.addEventListener("change", () => sendFiles(shown([...input.files])));
  input.click();
}

/** Leaves out what file systems add to folders. */
const shown = (files) => files.filter((file) => !file.name.startsWith(".")).slice(0, MOST_FILES);

/** Takes files that are dropped anywhere on the window. */
export function takeDrops() {
  const cover = h("div", { class: "drop-cover", hidden: true }, h("p", {}, "Drop files or folders to add them"));
  let depth = 0;
  const files = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const show = (value) => (cover.hidden = !value);
  addEventListener("dragenter", (event) => files(event) && show((depth += 1)));
  addEventListener("dragleave", (event) => files(event) && show((depth = Math.max(depth - 1, 0))));
  addEventListener("dragover", (event) => files(event) && event.preventDefault());
  addEventListener("drop", async (event) => {
    if (!files(event)) return;
    event.preventDefault();
    show((depth = 0));
    if (!may("upload")) return toast("Your key may not add documents. Sign in with a key that may.", { bad: true });
    // Entries are gone after the first await.
    const entries = [...event.dataTransfer.items].map((one) => one.webkitGetAsEntry?.() ?? null);
    const plain = [...event.dataTransfer.files];
    const found = entries.every(Boolean) ? (await Promise.all(entries.map(filesOf))).flat() : plain;
    if (shown(found).length) sendFiles(shown(found));
    else toast("There is no file in what you dropped.", { bad: true });
  });
  return cover;
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return files;
    for (const one of some) if (!one.name.startsWith(".")) files.push(...(await filesOf(one)));
  }
}

const ended = (item) => ["ready", "failed", "duplicate"].includes(item.state.value.phase);

/** Empties the tray once all is well for a while. */
function hideReady() {
  if (sent.peek().every((item) => ["ready", "duplicate"].includes(item.state.peek().phase))) sent.value = [];
}

/** Returns the tray that lists the files on their way. */
export function tray() {
  const close = () =>
    (sent.value = sent.peek().filter((item) => !["ready", "failed", "duplicate"].includes(item.state.peek().phase)));
  const list = each(
    h("ul"),
    () => sent.value.slice(-MOST_SHOWN),
    (item) => item.key,
    (item) => row(item.peek()),
  );
  return h(
    "section",
    { class: "tray", "aria-label": "Files on their way", hidden: () => !sent.value.length },
    h(
      "header",
      {},
      h("h2", {}, () => summary()),
      iconButton("close", "Hide the finished files", close),
    ),
    list,
  );
}

function summary() {
  const items = sent.value;
  const done = items.filter(ended).length;
  const failed = items.filter((item) => item.state.value.phase === "failed").length;
  if (done < items.length) return `${done} of ${counted(items.length, "file")} done`;
  return failed ? `${counted(failed, "file")} failed` : `${counted(items.length, "file")} ready`;
}

function row(item) {
  return h(
    "li",
    { class: () => (["failed", "held"].includes(item.state.value.phase) ? item.state.value.phase : null) },
    h("span", { class: "name", dir: "auto" }, item.file.name),
    h("span", { class: "state" }, () => sentence(item)),
    () => {
      const { phase, done } = item.state.value;
      return (
        ["sending", "reading"].includes(phase) && h("progress", { max: "1", value: done || null, "aria-label": phase })
      );
    },
  );
}

function sentence({ file, state }) {
  const { phase, error, pages, read, warnings, done } = state.value;
  const texts = {
    waiting: `waiting, ${bytes(file.size)}`,
    held: `waiting: ${error}`,
    sending: `sending, ${Math.round(100 * done)} %`,
    reading: pages ? `page ${read} of ${pages}` : "reading",
    ready: counted(pages ?? 0, "page") + (warnings?.length ? `, ${counted(warnings.length, "warning")}` : ""),
    duplicate: "already here",
    failed: error,
  };
  return texts[phase];
}
