// Jobs that failed: why, and another attempt where that can help. For those who run the service.

import { call, capitalised, get } from "./api.js";
import { me } from "./library.js";
import { each, effect, h, onCleanup, signal } from "./reactive.js";
import { ago, attempt, counted, icon, iconButton, repeat, toast } from "./ui.js";

const POLL_MS = 5000;
const SHOWN = 50;
const KINDS = { chat: ["ask", "Question"], document: ["documents", "Document"], webhook: ["next", "Webhook"] };

/** Returns the list; nothing is shown while no job has failed. */
export function deadLetterList() {
  const letters = signal([]);
  const load = async () => (letters.value = (await get("dead-letters", { limit: SHOWN })).dead_letters);
  effect(() => me.value?.is_operator && onCleanup(repeat(POLL_MS, load)));
  const act = (method, path, done) => attempt(() => call(method, path).then(done).then(load));
  const retryAll = act("POST", "dead-letters/retry", ({ retried, left_out: left }) =>
    toast(`${counted(retried, "job")} tried again.${left ? ` ${left} left out: they would fail again.` : ""}`),
  );
  const row = (letter) => {
    const { job_id: id, kind, query, name, ended_at: ended, error, retryable } = letter.peek();
    const path = `dead-letters/${encodeURIComponent(id)}`;
    return h(
      "li",
      {},
      icon(KINDS[kind][0]),
      h(
        "span",
        { class: "what" },
        h("span", { class: "name", dir: "auto" }, query ?? name ?? KINDS[kind][1]),
        h("span", { class: "state failed", dir: "auto" }, capitalised(error)),
      ),
      ended && ago(ended),
      h(
        "span",
        { class: "buttons" },
        retryable &&
          iconButton(
            "again",
            "Try again",
            act("POST", `${path}/retry`, () => toast("The job is tried again.")),
          ),
        iconButton(
          "trash",
          "Forget this job",
          act("DELETE", path, () => {}),
        ),
      ),
    );
  };
  const list = each(
    h("ul", { class: "list jobs dead", "aria-label": "Failed jobs" }),
    () => letters.value,
    (letter) => letter.job_id,
    row,
  );
  return h(
    "section",
    { hidden: () => !letters.value.length },
    h(
      "header",
      {},
      h("h2", {}, "Failed jobs"),
      h("button", { type: "button", onclick: retryAll }, icon("again"), "Try all again"),
    ),
    list,
  );
}
