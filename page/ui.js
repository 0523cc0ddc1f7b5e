// What all screens share: icons, buttons, dialogs, toasts, announcements, and how values are written.

import { each, h, onCleanup, scope, signal } from "./reactive.js";

// Drawn for this page on a grid of 24 × 24, as strokes.
const ICONS = {
  ask: "M4 5h16v11H10l-5 4v-4H4z",
  documents: "M6 3h8l4 4v14H6zM14 3v4h4M9 12h6M9 16h6",
  activity: "M3 12h4l3-7 4 14 3-7h4",
  admin: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4v6M9 14v6",
  close: "M6 6l12 12M18 6L6 18",
  previous: "M14 6l-6 6 6 6",
  next: "M10 6l6 6-6 6",
  up: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  search: "M11 4a7 7 0 100 14 7 7 0 000-14zM16 16l5 5",
  again: "M20 11a8 8 0 10-2 6M20 5v6h-6",
  upload: "M12 16V4M7 9l5-5 5 5M4 17v3h16v-3",
  download: "M12 4v12M7 11l5 5 5-5M4 20h16",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  warning: "M12 4l9 16H3zM12 10v4M12 17v.5",
  check: "M5 13l4 4L19 7",
  more: "M5 11v2M12 11v2M19 11v2M4 12h2M11 12h2M18 12h2",
  history: "M4 6h16M4 12h16M4 18h10",
  key: "M14 10a4 4 0 11-8 0 4 4 0 018 0zM13 12l7 7M17 16l2-2",
};

/** Returns an icon, which screen readers skip. */
export function icon(name) {
  return h(
    "svg:svg",
    { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" },
    h("svg:path", { d: ICONS[name] }),
  );
}

/** Returns a button with an icon. Without visible text, `label` is its name and its tooltip. */
export function iconButton(name, label, onclick, properties = {}) {
  return h(
    "button",
    { type: "button", class: "quiet round", "aria-label": label, title: label, onclick, ...properties },
    icon(name),
  );
}

const announcement = h("div", { class: "hidden", role: "log", "aria-live": "polite", id: "announcements" });

/** Has screen readers say a sentence once they have said the earlier ones. */
export function announce(text) {
  if (!text) return;
  announcement.append(h("p", {}, text));
  while (announcement.childNodes.length > 20) announcement.firstChild.remove();
}

export const RETRY_MS = 3000;

/** Returns true for a failure that may pass: no response, too many requests, a server that is busy or starts. */
export const mayPass = ({ status }) => status === 0 || status === 429 || status >= 500;

/**
 * Returns a loader. Its `run` calls `load`, gives the result to `take`, and does so again every few seconds while the
 * failure may pass; a later `run` replaces an earlier one. `notice` says what could not be loaded, and why.
 */
export function loader(what, load, take) {
  const failure = signal(null);
  let timer;
  let newest = 0;
  const run = async (...given) => {
    clearTimeout(timer);
    const turn = (newest += 1);
    const result = await load(...given).catch((problem) => {
      if (turn !== newest) return;
      failure.value = problem;
      if (mayPass(problem)) timer = setTimeout(run, RETRY_MS, ...given);
      newest += 1;
    });
    if (turn !== newest) return;
    failure.value = null;
    take(result, ...given);
  };
  onCleanup(() => (clearTimeout(timer), (newest += 1)));
  return { run, failure, notice: () => failureNotice(what, failure.value) };
}

/** Returns the sentences of a failure to load something; null without a failure. */
export function failureNotice(what, problem) {
  if (!problem) return null;
  const hope = mayPass(problem) ? " This page tries again by itself." : "";
  const text = /[.!?]$/.test(problem.message) ? problem.message : `${problem.message}.`;
  return h("p", { class: "notice bad", role: "alert" }, `${what} could not be loaded. ${text}${hope}`);
}

const toasts = signal([]);
let lastToast = 0;

/** Shows a sentence for a while, with an action if given. `onEnd` is called when it goes without the action. */
export function toast(text, { action, onAction, onEnd = () => {}, seconds = 6, bad = false } = {}) {
  const one = { id: (lastToast += 1), text, action, bad };
  const end = (run) => {
    clearTimeout(timer);
    if (!toasts.peek().includes(one)) return;
    if (document.activeElement?.closest(".toast")) document.getElementById("main")?.focus();
    toasts.value = toasts.peek().filter((other) => other !== one);
    run?.();
  };
  const timer = setTimeout(() => end(onEnd), seconds * 1000);
  one.act = () => end(onAction);
  one.dismiss = () => end(onEnd);
  toasts.value = [...toasts.peek(), one];
  announce(text);
}

/** Shows what went wrong. */
export const complain = (problem) => toast(problem.message, { bad: true, seconds: 12 });

/** Runs what a click starts; shows its failure. */
export const attempt = (run) => (event) => Promise.resolve(run(event)).catch(complain);

/** Returns the elements that the functions above write to. They lie over everything else. */
export function overlays() {
  const list = h("section", { class: "toasts", "aria-label": "Messages" });
  each(
    list,
    () => toasts.value,
    (one) => one.id,
    (one) => {
      const { text, action, act, dismiss, bad } = one.peek();
      return h(
        "div",
        { class: bad ? "toast bad" : "toast" },
        h("span", { dir: "auto" }, text),
        action && h("button", { type: "button", class: "quiet", onclick: act }, action),
        iconButton("close", "Dismiss", dismiss),
      );
    },
  );
  return [announcement, list];
}

/** Opens a dialog; `content` gets the function that closes it. Escape and a click beside it close it, too. */
export function openDialog(title, content, { onClose = () => {}, wide = false, closable = true } = {}) {
  const dialog = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": "dialog-title" });
  const close = () => dialog.close();
  const [body, end] = scope(() => content(close));
  dialog.append(
    h(
      "header",
      {},
      h("h2", { id: "dialog-title", dir: "auto" }, title),
      closable ? iconButton("close", "Close", close) : "",
    ),
    body,
  );
  const left = new AbortController();
  // Back, forward and links lead away from a dialog, too.
  if (closable) addEventListener("popstate", close, { signal: left.signal });
  dialog.addEventListener("close", () => (left.abort(), end(), dialog.remove(), onClose()));
  dialog.addEventListener("cancel", (event) => closable || event.preventDefault());
  dialog.addEventListener("click", (event) => closable && event.target === dialog && close());
  document.body.append(dialog);
  dialog.showModal();
  return close;
}

/** Returns a field with its label. */
export function field(label, control, hint) {
  return h("label", { class: "field" }, h("span", {}, label), control, hint && h("small", {}, hint));
}

/** Returns a name, without its middle if it is long. */
export const shortName = (name) => (name.length > 60 ? `${name.slice(0, 40)} … ${name.slice(-15)}` : name);

/** Returns a number with its noun, such as "1 page". */
export const counted = (number, noun) => `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;

/** Returns a size such as "1.2 MB". */
export function bytes(size) {
  if (size === 1) return "1 byte";
  const units = ["bytes", "KB", "MB", "GB"];
  const step = Math.min(Math.floor(Math.log10(Math.max(size, 1)) / 3), 3);
  return `${(size / 1000 ** step).toFixed(step && size / 1000 ** step < 10 ? 1 : 0)} ${units[step]}`;
}

/** Returns a duration such as "0.8 s" or "3 min". */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

/** Returns an element with the time since `when`, and the whole date as its tooltip. */
export function ago(when) {
  const date = new Date(when);
  const seconds = (Date.now() - date) / 1000;
  const [unit, size] = [
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
  ].find(([, size]) => seconds >= size) ?? ["second", 1];
  const text =
    seconds < 60
      ? "just now"
      : new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" }).format(
          -Math.floor(seconds / size),
          unit,
        );
  return h("time", { datetime: when, title: date.toLocaleString() }, text);
}

/** Copies text, also on pages without https, where browsers have no clipboard for scripts. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.body.appendChild(h("textarea", { value: text, class: "hidden" }));
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast("Copied");
}

/** Returns an id that nobody guesses; also without https, where crypto.randomUUID is missing. */
export const randomId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Waits, or until `abort` is aborted. */
export function pause(milliseconds, abort) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    abort?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** Calls `run` now and every so often while the page is seen, until `end()`, which is returned, is called. */
export function repeat(milliseconds, run) {
  let ended = false;
  let timer;
  const turn = async () => {
    if (!document.hidden) await run().catch(() => {});
    if (!ended) timer = setTimeout(turn, milliseconds);
  };
  turn();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}
