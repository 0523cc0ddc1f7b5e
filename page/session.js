// Signing in: a key is exchanged for a cookie that scripts cannot read.

import { call, signedOut } from "./api.js";
import { effect, h, signal } from "./reactive.js";
import { field, openDialog } from "./ui.js";

/** True while a new secret is made and shown: a dialog over the secret would hide it for good. */
export const secretShown = signal(false);

/** Asks for a key whenever the server refuses the page, and calls `onSignIn` once it is accepted. */
export function askForKey(onSignIn) {
  let open = false;
  effect(() => {
    if (!signedOut.value || secretShown.value || open) return;
    open = true;
    queueMicrotask(() =>
      openDialog("Sign in", (close) => form(close), {
        closable: false,
        onClose: () => {
          open = false;
          signedOut.value = false;
          onSignIn();
        },
      }),
    );
  });
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
    h("p", {}, "This server asks for a key. The operator makes one with ", h("code", {}, "main.py keys create"), "."),
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
