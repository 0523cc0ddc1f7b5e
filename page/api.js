// The public API, and nothing else: requests, problems, the stream of a job.

import { signal } from "./reactive.js";
import { pause } from "./ui.js";

/** Where the API is, also behind a reverse proxy that adds a path. */
export const ROOT = new URL("..", import.meta.url);

/** True after a request was refused because no key, or no valid key, came with it. */
export const signedOut = signal(false);

let interrupted = [];

/** Resolves once somebody has signed in after a refusal. */
export const signedIn = () => new Promise((resolve) => interrupted.push(resolve));

/** Goes on with all that waits for somebody to sign in. */
export function goOn() {
  signedOut.value = false;
  interrupted.splice(0).forEach((resolve) => resolve());
}

const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 5000;

/** Returns a reason of the API as a sentence: with a capital, unless it begins with a name such as index.py. */
export const capitalised = (text) => (/^[a-z]+[\s,:;]/.test(text ?? "") ? text[0].toUpperCase() + text.slice(1) : text);

/** A failure with a sentence for the user in `message`. `status` is 0 if no response came. */
export class Problem extends Error {
  constructor(status, message, body = {}) {
    super(capitalised(message));
    this.status = status;
    this.body = body;
  }
}

/** Returns the URL of a route; parameters that are null, undefined or "" are left out. */
export function url(path, parameters = {}) {
  const result = new URL(path, ROOT);
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one != null && one !== "") result.searchParams.append(name, one);
  }
  return result.href;
}

/**
 * Makes a request and returns the response. Throws Problem for every failure. A request that only reads, and is refused
 * for lack of a key, waits until somebody has signed in, and is made again.
 */
async function request(method, path, { query, json, ...options } = {}) {
  const headers = { ...options.headers };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  const body = json === undefined ? options.body : JSON.stringify(json);
  let response;
  try {
    response = await fetch(url(path, query), { ...options, method, headers, body, credentials: "same-origin" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Problem(
      0,
      "The server cannot be reached. Check that it runs and that you are connected.",
    );
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (problem.status !== 401 || method !== "GET") throw problem;
  await signedIn();
  return request(method, path, { query, json, ...options });
}

/** Makes a request and returns its JSON; null if there is none. */
export async function call(method, path, options) {
  const response = await request(method, path, options);
  const text = await response.text();
  return text && (response.headers.get("Content-Type") ?? "").includes("json") ? JSON.parse(text) : null;
}

export const get = (path, query, options) => call("GET", path, { query, ...options });

/** Returns what `get` returns; null if the server has no such route, or the key does not open it. */
export async function getIfOffered(path, query) {
  try {
    return await get(path, query);
  } catch (problem) {
    if ([403, 404, 405].includes(problem.status)) return null;
    throw problem;
  }
}

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) signedOut.value = true;
  return new Problem(response.status, sentence(response.status, body), body);
}

/** Returns the sentence of a problem document, or of an error under /v1. */
function sentence(status, body) {
  const text = body.detail ?? body.error?.message ?? body.title;
  return text ? text[0].toUpperCase() + text.slice(1) : `The server answered with status ${status}. Try again later.`;
}

/** Follows a job until it ends. A stream that is cut goes on after the last event seen; `onCut` is told when it is. */
export async function follow(jobId, { onEvent, onCut = () => {}, signal: abort }) {
  let seen = null;
  let delay = FIRST_DELAY_MS;
  while (!abort?.aborted) {
    try {
      const headers = seen === null ? {} : { "Last-Event-ID": seen };
      const response = await request("GET", `jobs/${encodeURIComponent(jobId)}/events`, { headers, signal: abort });
      if (response.status === 204) return;
      for await (const event of readEvents(response.body)) {
        seen = event.id;
        delay = FIRST_DELAY_MS;
        onCut(false);
        onEvent(event.type, event.data);
        if (event.id === "end") return;
      }
    } catch (error) {
      if (abort?.aborted) return;
      if (error instanceof Problem && error.status && error.status !== 429 && error.status < 500) throw error;
    }
    onCut(true);
    await pause(delay, abort);
    delay = Math.min(2 * delay, LONGEST_DELAY_MS);
  }
}

/** Yields the events of a stream. An event whose end is missing was cut, and is not yielded. */
export async function* readEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r\n\r\n|\n\n/);
      rest = parts.pop();
      for (const part of parts) {
        const fields = {};
        for (const line of part.split(/\r\n|\n/)) {
          const colon = line.indexOf(":");
          if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
        }
        if (fields.data !== undefined) yield { id: fields.id, type: fields.event, data: JSON.parse(fields.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
