// What the service does: queues, jobs as they go, failed jobs, deliveries of webhooks.

import { call, follow, get } from "./api.js";
import { rememberQuestion } from "./conversations.js";
import { deadLetterList } from "./dead-letters.js";
import { computed, each, effect, h, onCleanup, scope, signal } from "./reactive.js";
import { go, link } from "./route.js";
import { ago, attempt, counted, failureNotice, icon, iconButton, repeat, toast } from "./ui.js";

const POLL_MS = 2000;
const PAGE = 50;
// A browser has six connections to a server; each stream keeps one.
const FOLLOWED = 2;
const LISTED_QUERY_CHARS = 200;
const KINDS = { chat: "ask", document: "documents", webhook: "next" };
const STATUSES = {
  "": "Any status",
  queued: "Waiting",
  started: "Running",
  finished: "Finished",
  failed: "Failed",
  cancelled: "Cancelled",
};
const QUEUES = { rag_queries: "Questions", rag_documents: "Documents", rag_webhooks: "Webhooks" };

class Activity extends HTMLElement {
  connectedCallback() {
    [, this.end] = scope(() => this.build());
  }

  disconnectedCallback() {
    this.end();
  }

  build() {
    this.status = signal("");
    this.jobs = signal(null); // not loaded yet
    this.next = signal(null);
    this.queues = signal([]);
    this.deliveries = signal([]);
    this.stages = signal({});
    this.failure = signal(null);
    this.limit = PAGE;
    this.append(
      h(
        "section",
        { class: "column wide scrolling" },
        h(
          "header",
          { class: "toolbar" },
          h("h1", {}, "Activity"),
          h("span", { class: "spacer" }),
          h(
            "select",
            { "aria-label": "Status of jobs", onchange: (event) => (this.status.value = event.target.value) },
            Object.entries(STATUSES).map(([value, text]) => h("option", { value }, text)),
          ),
        ),
        () => failureNotice("The jobs", this.failure.value),
        this.queueTiles(),
        deadLetterList(),
        this.jobList(),
        this.deliveryList(),
      ),
    );
    effect(() => {
      this.status.value;
      onCleanup(repeat(POLL_MS, () => this.poll()));
    });
    this.followRunning();
  }

  async poll() {
    try {
      const [page, ready, sent] = await Promise.all([
        get("jobs", { limit: this.limit, status: this.status.peek() }),
        get("ready"),
        get("webhooks/deliveries", { limit: 20 }),
      ]);
      this.jobs.value = page.jobs;
      this.next.value = page.next;
      this.queues.value = ready.queues;
      this.deliveries.value = sent.deliveries;
      this.failure.value = null;
    } catch (problem) {
      // The sentence stays as long as its reason does: screen readers say each new one.
      if (this.failure.peek()?.message !== problem.message) this.failure.value = problem;
    }
  }

  queueTiles() {
    const tile = (queue) =>
      h(
        "li",
        { class: "tile" },
        h("span", { class: "name" }, () => QUEUES[queue.value.name] ?? queue.value.name),
        h("strong", {}, () => String(queue.value.waiting)),
        h("span", {}, "waiting"),
        h("span", { class: () => (queue.value.workers ? "sub" : "sub bad") }, () =>
          counted(queue.value.workers, "worker"),
        ),
      );
    return each(
      h("ul", { class: "tiles", "aria-label": "Queues" }),
      () => this.queues.value,
      (queue) => queue.name,
      tile,
    );
  }

  jobList() {
    const list = each(
      h("ul", { class: "list jobs", "aria-label": "Jobs" }),
      () => this.jobs.value ?? [],
      (job) => job.job_id,
      (job) => this.row(job),
    );
    return h(
      "section",
      {},
      h("h2", {}, "Jobs"),
      list,
      () => this.jobs.value?.length === 0 && h("p", { class: "empty" }, "No jobs. They are kept for a day after their end."),
      () =>
        this.next.value &&
        h(
          "button",
          { type: "button", onclick: () => ((this.limit = Math.min(this.limit + PAGE, 200)), this.poll()) },
          "Show more",
        ),
    );
  }

  row(job) {
    // Buttons stay as they are while the status does: a new one would lose the focus every two seconds.
    const status = computed(() => job.value.status);
    const open = () => {
      const { job_id: id, kind, query } = job.peek();
      if (kind !== "chat") return go(link("documents"));
      rememberQuestion(id, query);
      go(link("ask", `job:${id}`));
    };
    return h(
      "li",
      {},
      icon(KINDS[job.peek().kind] ?? "activity"),
      h(
        "button",
        { type: "button", class: "name", dir: "auto", onclick: open },
        () => job.value.query ?? job.value.name ?? kindName(job.value),
      ),
      h(
        "span",
        { class: () => `state ${job.value.status}` },
        () => this.stages.value[job.value.job_id] ?? STATUSES[job.value.status].toLowerCase(),
      ),
      ago(job.peek().created_at),
      h("span", { class: "buttons" }, () => status.value && actions(job.peek())),
    );
  }

  deliveryList() {
    const list = each(
      h("ul", { class: "list jobs", "aria-label": "Deliveries" }),
      () => this.deliveries.value,
      (one) => one.id,
      (one) =>
        h(
          "li",
          {},
          icon("next"),
          h("span", { class: "name", dir: "ltr" }, () => `${one.value.type} to ${one.value.url}`),
          h(
            "span",
            { class: () => `state ${one.value.status}` },
            () =>
              `${one.value.status}, ${counted(one.value.attempts.length, "attempt")}${one.value.reason ? `: ${one.value.reason}` : ""}`,
          ),
          ago(one.peek().created_at),
          h(
            "span",
            { class: "buttons" },
            iconButton(
              "again",
              "Send again",
              attempt(() => call("POST", `webhooks/deliveries/${one.peek().id}/redeliver`).then(() => this.poll())),
            ),
          ),
        ),
    );
    return h("section", { hidden: () => !this.deliveries.value.length }, h("h2", {}, "Webhooks"), list);
  }

  /** Shows the stage of the jobs that run, from their streams. */
  followRunning() {
    const streams = new Map();
    onCleanup(() => streams.forEach((abort) => abort.abort()));
    const show = (id, text) => (this.stages.value = { ...this.stages.peek(), [id]: text });
    effect(() => {
      for (const { job_id: id } of (this.jobs.value ?? []).filter(
        (job) => job.status === "started" && !streams.has(job.job_id),
      )) {
        if (streams.size >= FOLLOWED) return;
        const abort = new AbortController();
        streams.set(id, abort);
        const onEvent = (type, data) => {
          if (type === "progress") show(id, data.total ? `${data.stage}, ${data.done} of ${data.total}` : data.stage);
          else if (type === "token") show(id, "writing");
        };
        follow(id, { onEvent, signal: abort.signal })
          .catch(() => {})
          .finally(() => {
            streams.delete(id);
            const { [id]: _, ...others } = this.stages.peek();
            this.stages.value = others;
            if (!abort.signal.aborted) this.poll();
          });
      }
    });
  }
}

const kindName = ({ kind }) =>
  ({ chat: "Question", document: "Document", webhook: "Delivery of a webhook" })[kind] ?? kind;

function actions({ job_id: id, kind, status, query }) {
  const cancel = () => call("DELETE", `jobs/${encodeURIComponent(id)}`).then(() => toast("Cancelled"));
  const retry = async () => {
    await call("POST", "chat", { json: { query } });
    toast("Asked again");
  };
  if (["queued", "started"].includes(status)) return iconButton("close", "Cancel", attempt(cancel));
  // A longer question is cut in the list.
  if (["failed", "cancelled"].includes(status) && kind === "chat" && query?.length < LISTED_QUERY_CHARS)
    return iconButton("again", "Ask again", attempt(retry));
  return null;
}

customElements.define("rag-activity", Activity);
