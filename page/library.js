// What this server has: documents, models, the user's rights. Screens show only what there is.

import { get, getIfOffered } from "./api.js";
import { signal } from "./reactive.js";

/** True once there are documents, false while there are none, null while that is unknown. */
export const hasDocuments = signal(null);
/** The chat models that may be chosen; empty when answers are quotes; null while unknown. */
export const models = signal(null);
/** True once the server has asked this page for a key. */
export const keyNeeded = signal(false);

export async function loadLibrary() {
  const [uploads, listed] = await Promise.all([get("uploads", { limit: 1 }), getIfOffered("v1/models")]);
  hasDocuments.value = uploads.uploads.length > 0;
  // The name `rag` always exists. It stands for the model of the settings, or for quotes where there is none.
  models.value = (listed?.data ?? []).map((one) => one.id).filter((name) => name !== "rag");
}
