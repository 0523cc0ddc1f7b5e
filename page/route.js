// Where the user is: `#/screen/id?name=value`. Back, forward, reload and a second tab all read the same address.

import { signal } from "./reactive.js";

export const route = signal(parse(location.hash));

window.addEventListener("hashchange", () => (route.value = parse(location.hash)));

function parse(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  const [screen, id] = path.split("/").map(decoded);
  return { screen: screen || "ask", id: id || null, params: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** Returns the address of a place; parameters that are null or "" are left out. */
export function link(screen, id = null, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value != null && value !== "");
  const query = new URLSearchParams(given).toString();
  return `#/${screen}${id ? `/${encodeURIComponent(id)}` : ""}${query ? `?${query}` : ""}`;
}

/** Goes to a place; with `replace`, back does not lead here. */
export function go(hash, { replace = false } = {}) {
  if (hash === location.hash) return;
  history[replace ? "replaceState" : "pushState"](null, "", hash);
  route.value = parse(hash);
}

/** Stays on the screen and changes parameters of the address. */
export function change(params, options) {
  const { screen, id, params: now } = route.peek();
  go(link(screen, id, { ...now, ...params }), options);
}

window.addEventListener("popstate", () => (route.value = parse(location.hash)));

/** The parameters that open the viewer. */
export const CLOSED = { view: null, page: null, job: null, n: null };
export const viewSource = (jobId, source) =>
  change({ view: source.upload_id, page: source.page, job: jobId, n: source.n });
