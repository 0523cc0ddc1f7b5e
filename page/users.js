// Who uses the service: what each user has, and how much of the limits is used.

import { get } from "./api.js";
import { changedKeys } from "./keys.js";
import { me } from "./library.js";
import { each, effect, h, signal } from "./reactive.js";
import { bytes, counted, loader } from "./ui.js";

/** Returns the users of the server, for those who may see them. */
export function userList() {
  const users = signal([]);
  const limits = signal(null);
  const next = signal(null);
  const load = (after = null) => get("users", { after });
  const take = (page, after) => {
    users.value = after ? [...users.peek(), ...page.users] : page.users;
    limits.value = page.limits;
    next.value = page.next;
  };
  const { run, failure, notice } = loader("The users", load, take);
  effect(() => {
    changedKeys.value;
    if (me.value?.is_operator) run();
  });
  const list = each(
    h("ul", { class: "list keys users", "aria-label": "Users" }),
    () => users.value,
    (user) => user.user_id,
    (user) =>
      h(
        "li",
        {},
        h("span", { class: "name", dir: "auto" }, user.peek().user_id),
        h("span", { class: "uses" }, () => uses(user.value, limits.value).map((text) => h("span", {}, text))),
      ),
  );
  return h(
    "section",
    { hidden: () => !limits.value && !failure.value },
    h("header", {}, h("h2", {}, "Users")),
    notice,
    h("p", { class: "soft" }, () => limits.value && limitSentence(limits.value)),
    list,
    () => limits.value && !users.value.length && h("p", { class: "empty" }, "Nobody has a key or a document yet."),
    () => next.value && h("button", { type: "button", onclick: () => run(next.peek()) }, "Show more"),
  );
}

/** Returns what a user has, each with its limit where there is one. */
function uses(user, limits) {
  const of = (limit, write = String) => (limit == null ? "" : ` of ${write(limit)}`);
  return [
    counted(user.keys, "key"),
    `${counted(user.uploads, "document")}, ${bytes(user.stored_bytes)}${of(limits.max_stored_bytes, bytes)}`,
    counted(user.conversations, "conversation"),
    `${user.waiting_jobs}${of(limits.max_waiting_jobs)} waiting`,
    user.uploads_today != null && `${user.uploads_today}${of(limits.uploads_per_day)} uploads today`,
    user.tokens_today != null &&
      `${user.tokens_today.toLocaleString()}${of(limits.tokens_per_day, (one) => one.toLocaleString())} tokens today`,
  ].filter(Boolean);
}

function limitSentence(limits) {
  const unset = Object.entries({
    MAX_STORED_MB: limits.max_stored_bytes,
    MAX_QUEUED_JOBS: limits.max_waiting_jobs,
    UPLOADS_PER_DAY: limits.uploads_per_day,
    TOKENS_PER_DAY: limits.tokens_per_day,
    REQUESTS_PER_MINUTE: limits.requests_per_minute,
  })
    .filter(([, limit]) => limit == null)
    .map(([name]) => name);
  const requests = limits.requests_per_minute && `Each key may make ${limits.requests_per_minute} requests a minute. `;
  return `${requests ?? ""}${unset.length ? `Not limited, since not set: ${unset.join(", ")}.` : ""}`;
}
