// What this server has: documents, models, the user's rights. Screens show only what there is.

import { get, signedIn } from "./api.js";
import { signal } from "./reactive.js";
import { loader } from "./ui.js";

/** Who the user is, as GET /me says; null while unknown. */
export const me = signal(null);
/** True once there are documents, false while there are none, null while that is unknown. */
export const hasDocuments = signal(null);
/** The chat models that may be chosen; empty when answers are quotes; null while unknown. */
export const models = signal(null);
/** A model provider found beside a service that has none, as GET /settings/suggested tells it; null if there is none. */
export const suggestion = signal(null);

/** Returns true if the user may do what needs a scope; also while that is unknown. */
export const may = (scope) => !me.value || me.value.is_admin || me.value.scopes.includes(scope);

/** Asks the server for all of this; says why it is not told. */
export const { run: loadLibrary, notice: libraryNotice } = loader("This page", read, () => {});

async function read() {
  // Alone and first: a server that asks for a key says so once.
  me.value = await get("me");
  const [uploads] = await Promise.all([get("uploads", { limit: 1 }), loadModels()]);
  hasDocuments.value = uploads.uploads.length > 0;
  if (models.peek().length || !me.peek().is_operator) return;
  const suggested = await get("settings/suggested");
  if (suggested.provider) suggestion.value = suggested;
}

/**
 * Makes a request that changes something. Refused for lack of a key, it is made again once the same user has signed in:
 * nobody sends what another user of this browser has typed.
 */
export async function asOneUser(run) {
  const user = me.peek()?.user_id;
  for (;;) {
    try {
      return await run();
    } catch (problem) {
      if (problem.status !== 401) throw problem;
      await signedIn();
      if (user && (await get("me")).user_id !== user) throw problem;
    }
  }
}

export async function loadModels() {
  const listed = await get("v1/models");
  // `rag` stands for the model of the settings, or for quotes where there is none; `rag:…` for a collection.
  models.value = listed.data.map((one) => one.id).filter((name) => !/^rag(-sources$|:|$)/.test(name));
}
