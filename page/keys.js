// Keys and the endpoints of webhooks. Their secrets are shown once.

import { call, get, getIfOffered, signedOut } from "./api.js";
import { me } from "./library.js";
import { each, effect, h, signal } from "./reactive.js";
import { secretShown } from "./session.js";
import { ago, attempt, copyText, field, icon, iconButton, loader, openDialog } from "./ui.js";

/** Counts the changes of the keys, for lists that depend on them. */
export const changedKeys = signal(0);

/** Returns the keys of the server, for those who may see them. */
export function keyList() {
  const keys = signal(null);
  const { run, failure, notice } = loader(
    "The keys",
    () => get("keys"),
    (listed) => (keys.value = listed.keys),
  );
  const load = () => (changedKeys.value += 1);
  effect(() => {
    changedKeys.value;
    if (me.value?.is_operator) run();
  });
  const list = each(
    h("ul", { class: "list keys" }),
    () => keys.value ?? [],
    (key) => key.key_id,
    (key) =>
      h(
        "li",
        {},
        icon("key"),
        h("span", { class: "name", dir: "auto" }, key.peek().name),
        h("span", { dir: "auto" }, `user ${key.peek().user_id}`),
        h("span", {}, key.peek().scopes.join(", ")),
        h("span", { class: () => (key.value.valid ? "state" : "state failed") }, () => validity(key.value)),
        h(
          "span",
          { class: "buttons" },
          () => key.value.valid && iconButton("trash", `Revoke ${key.value.name}`, () => revoke(key.peek(), load)),
        ),
      ),
  );
  return h(
    "section",
    { hidden: () => !keys.value && !failure.value },
    h(
      "header",
      {},
      h("h2", {}, "Keys"),
      () =>
        keys.value &&
        h(
          "button",
          { type: "button", onclick: () => createKey(load, keys.peek().length === 0) },
          icon("plus"),
          "New key",
        ),
    ),
    notice,
    list,
    () =>
      keys.value?.length === 0 &&
      h("p", { class: "empty" }, "No keys: everybody who reaches this server may use it. The first key closes it."),
  );
}

function revoke(key, load) {
  openDialog(`Revoke ${key.name}?`, (close) =>
    h(
      "div",
      { class: "stack" },
      h("p", {}, "Programs that use the key are refused from now on. It cannot be taken back."),
      h(
        "footer",
        {},
        h("button", { type: "button", onclick: close }, "Keep"),
        h(
          "button",
          {
            type: "button",
            class: "primary",
            onclick: attempt(async () => {
              await call("DELETE", `keys/${encodeURIComponent(key.key_id)}`);
              close();
              load();
            }),
          },
          "Revoke",
        ),
      ),
    ),
  );
}

function createKey(load, first) {
  openDialog("New key", (close) => {
    const submit = async (event) => {
      const form = new FormData(event.target);
      const days = Number(form.get("days"));
      const json = {
        name: form.get("name"),
        user_id: form.get("user"),
        scopes: form.getAll("scope"),
        ...(days ? { days } : {}),
      };
      secretShown.value = true;
      const made = await call("POST", "keys", { json }).catch((problem) => {
        secretShown.value = false;
        throw problem;
      });
      close();
      // With the first key the server is closed, for this page too.
      showSecret("The new key", made.key, () => (first ? (signedOut.value = true) : load()));
    };
    return h(
      "form",
      { class: "stack", onsubmit: (event) => (event.preventDefault(), attempt(submit)(event)) },
      first &&
        h(
          "p",
          { class: "notice" },
          "From this key on every caller needs a key, this page too. Let the first key do everything: others are made with it.",
        ),
      field(
        "Name",
        h("input", { name: "name", required: true, maxlength: "255", autocomplete: "off" }),
        "What the key is for.",
      ),
      field(
        "User",
        h("input", { name: "user", value: "local", required: true, maxlength: "255", autocomplete: "off" }),
        "Whose documents the key opens.",
      ),
      h(
        "fieldset",
        {},
        h("legend", {}, "The key may"),
        [
          ["query", "ask"],
          ["upload", "add documents"],
          ["admin", "everything, for every user"],
        ].map(([value, text]) =>
          h(
            "label",
            { class: "check" },
            h("input", {
              type: "checkbox",
              name: "scope",
              value,
              checked: first ? value === "admin" : value !== "admin",
            }),
            text,
          ),
        ),
      ),
      field(
        "Valid for days",
        h("input", { name: "days", type: "number", min: "1", max: "36500" }),
        "Then the key expires. Without a number it never does.",
      ),
      h("footer", {}, h("button", { type: "submit", class: "primary" }, "Make the key")),
    );
  });
}

/** Returns the endpoints of webhooks. */
export function webhookList() {
  const endpoints = signal(null);
  const { run, failure, notice } = loader(
    "The endpoints of webhooks",
    () => getIfOffered("webhooks"),
    (listed) => (endpoints.value = listed?.endpoints ?? null),
  );
  run();
  const act = (method, path) => attempt(() => call(method, path).then(() => run()));
  const list = each(
    h("ul", { class: "list keys" }),
    () => endpoints.value ?? [],
    (one) => one.id,
    (one) =>
      h(
        "li",
        {},
        icon("next"),
        h("span", { class: "name", dir: "ltr" }, one.peek().url),
        h("span", {}, one.peek().events.join(", ") || "all events"),
        ago(one.peek().created_at),
        h(
          "span",
          { class: "buttons" },
          () =>
            one.value.disabled_at &&
            h("button", { type: "button", onclick: act("POST", `webhooks/${one.value.id}/enable`) }, "Enable"),
          iconButton("trash", `Delete ${one.peek().url}`, act("DELETE", `webhooks/${one.peek().id}`)),
        ),
      ),
  );
  return h(
    "section",
    { hidden: () => !endpoints.value && !failure.value },
    h(
      "header",
      {},
      h("h2", {}, "Webhooks"),
      h("button", { type: "button", onclick: () => createEndpoint(run) }, icon("plus"), "New endpoint"),
    ),
    notice,
    list,
    () =>
      endpoints.value?.length === 0 && h("p", { class: "empty" }, "No endpoints. An endpoint is told when a job ends."),
  );
}

function createEndpoint(load) {
  openDialog("New endpoint", (close) =>
    h(
      "form",
      {
        class: "stack",
        onsubmit: (event) => {
          event.preventDefault();
          const form = new FormData(event.target);
          attempt(async () => {
            const made = await call("POST", "webhooks", {
              json: { url: form.get("url"), description: form.get("description") },
            });
            close();
            showSecret("The secret that signs the webhooks", made.secret, load);
          })();
        },
      },
      field(
        "Address",
        h("input", { name: "url", type: "url", required: true, placeholder: "https://example.com/hook", dir: "ltr" }),
        "https, on a public host.",
      ),
      field("Description", h("input", { name: "description", maxlength: "256" })),
      h("footer", {}, h("button", { type: "submit", class: "primary" }, "Register")),
    ),
  );
}

function validity({ valid, revoked_at: revoked, expires_at: expires }) {
  if (revoked) return "revoked";
  if (!valid) return "expired";
  return expires ? `until ${new Date(expires).toLocaleDateString()}` : "until revoked";
}

function showSecret(title, secret, done) {
  secretShown.value = true;
  const onClose = () => {
    secretShown.value = false;
    done();
  };
  openDialog(
    title,
    (close) =>
      h(
        "div",
        { class: "stack" },
        h("p", {}, "It is shown only now. Keep it where you keep passwords."),
        h("p", { class: "address", dir: "ltr" }, secret),
        h(
          "footer",
          {},
          h("button", { type: "button", onclick: () => copyText(secret) }, icon("copy"), "Copy"),
          h("button", { type: "button", class: "primary", onclick: close }, "Done"),
        ),
      ),
    { onClose },
  );
}
