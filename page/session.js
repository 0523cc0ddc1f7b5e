// Signing in: a key is exchanged for a cookie that scripts cannot read.

import { call, goOn, signedOut } from "./api.js";
import { loadLibrary, me } from "./library.js";
import { effect, h, signal } from "./reactive.js";
import { link } from "./route.js";
import { field, openDialog } from "./ui.js";

/** True while a new secret is made and shown: a dialog over the secret would hide it for good. */
export const secretShown = signal(false);

/** Asks for a key whenever the server refuses the page. */
export function askForKey() {
  let open = false;
  effect(() => {
    if (!signedOut.value || secretShown.value || open) return;
    open = true;
    queueMicrotask(() =>
      openDialog("Sign in", (close) => form(close), {
        closable: false,
        onClose: () => {
          open = false;
          resume();
        },
      }),
    );
  });
}

/** Goes on where the page was; the page starts again where another user, or one with other rights, has signed in. */
async function resume() {
  const before = me.peek();
  goOn();
  await loadLibrary();
  const now = me.peek();
  if (!before || (before.user_id === now.user_id && before.is_operator === now.is_operator)) return;
  sessionStorage.clear();
  history.replaceState(null, "", link("ask")); // the address may name a conversation or a document of the other
  location.reload();
}

function form(close) {
  const failure = signal(null);
  const submit = async (event) => {
    event.preventDefault();
    failure.value = null;
    try {
      await call("POST", "session", { json: { key: new FormData(event.target).get("key").trim() } });
      close();
    } catch (problem) {
      if (problem.status === 409) return close();
      failure.value =
        problem.status === 401
          ? "This key is wrong, expired or revoked. Ask the operator for another."
          : problem.message;
    }
  };
  return h(
    "form",
    { class: "stack", onsubmit: submit },
    me.peek()?.key_id
      ? h("p", {}, "Your session has ended. Sign in again, and the page goes on where it is: what you typed is kept.")
      : h("p", {}, "This server asks for a key. The operator makes one with ", h("code", {}, "main.py keys create"), "."),
    field(
      "Key",
      h("input", {
        name: "key",
        type: "password",
        required: true,
        autocomplete: "current-password",
        dir: "ltr",
        autofocus: true,
      }),
    ),
    () => failure.value && h("p", { class: "notice bad", role: "alert" }, failure.value),
    h("footer", {}, h("button", { type: "submit", class: "primary" }, "Sign in")),
  );
}
