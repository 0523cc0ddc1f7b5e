// The conversations that the server keeps: found by their first question, opened, deleted.

import { call, getIfOffered } from "./api.js";
import { each, h, onCleanup, signal } from "./reactive.js";
import { link } from "./route.js";
import { ago, attempt, complain, iconButton, openDialog } from "./ui.js";

const PAGE = 100;
// A search looks at this many conversations, the ones used last.
const MOST = 2000;
const UNDO_SECONDS = 10;

const titleOf = (one) => one.title ?? "Without a title";

/** Shows the list. What is deleted may be taken back for a while, as long as the list is open. */
export async function conversationList() {
  const items = signal(null);
  const next = signal(null);
  const leaving = signal(new Map()); // by id: the function that deletes the conversation now
  let loading = null;
  const load = () => (loading ??= read().finally(() => (loading = null)));
  const read = async () => {
    const page = await getIfOffered("conversations", { limit: PAGE, cursor: next.peek() });
    items.value = [...(items.peek() ?? []), ...(page?.conversations ?? [])];
    next.value = page?.next ?? null;
  };
  const loadAll = async () => {
    while (next.peek() && items.peek().length < MOST) await load();
  };
  await load();

  const remove = (id) => {
    const send = () => {
      clearTimeout(timer);
      leaving.value = without(leaving.peek(), id);
      items.value = items.peek().filter((one) => one.conversation_id !== id);
      call("DELETE", `conversations/${encodeURIComponent(id)}`, { keepalive: true }).catch(complain);
    };
    const timer = setTimeout(send, UNDO_SECONDS * 1000);
    leaving.value = new Map(leaving.peek()).set(id, { send, keep: () => clearTimeout(timer) });
  };
  const keep = (id) => {
    leaving.peek().get(id)?.keep();
    leaving.value = without(leaving.peek(), id);
  };
  const sendAll = () => leaving.peek().forEach(({ send }) => send());

  openDialog("Conversations", (close) => {
    const needle = signal("");
    const found = () =>
      (items.value ?? []).filter((one) => titleOf(one).toLowerCase().includes(needle.value.toLowerCase()));
    addEventListener("pagehide", sendAll);
    onCleanup(() => (removeEventListener("pagehide", sendAll), sendAll()));
    const list = each(
      h("ul", { class: "list", "aria-label": "Conversations" }),
      found,
      (one) => one.conversation_id,
      (one) => row(one.peek(), { close, remove, keep, leaving }),
    );
    return h(
      "div",
      { class: "stack" },
      h("input", {
        type: "search",
        placeholder: "Search",
        "aria-label": "Search conversations",
        oninput: (event) => {
          needle.value = event.target.value.trim();
          loadAll().catch(complain);
        },
      }),
      list,
      () =>
        !found().length &&
        h("p", { class: "empty" }, needle.value ? "No conversation begins like this." : "No conversations yet."),
      () => next.value && !needle.value && h("button", { type: "button", onclick: attempt(load) }, "Show more"),
    );
  });
}

function row(one, { close, remove, keep, leaving }) {
  const { conversation_id: id } = one;
  return h("li", {}, () =>
    leaving.value.has(id)
      ? [
          h("span", { class: "name gone", dir: "auto" }, titleOf(one)),
          h("span", { class: "soft" }, "Deleted"),
          h("button", { type: "button", class: "quiet", onclick: () => keep(id) }, "Undo"),
        ]
      : [
          h("a", { href: link("ask", id), onclick: close, dir: "auto" }, titleOf(one)),
          ago(one.updated_at),
          iconButton("trash", "Delete this conversation", () => remove(id)),
        ],
  );
}

function without(map, id) {
  const others = new Map(map);
  others.delete(id);
  return others;
}
