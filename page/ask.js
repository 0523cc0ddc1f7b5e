// Asking: conversations, the answer as it is written, its sources, and the viewer beside them.

import { pageName, quoteNodes, showAnswer, withSources } from "./answer.js";
import { ask, conversation, load, loadEarlier, newConversation, running, stop, wake } from "./conversations.js";
import { filterChips, optionsButton, questionOptions } from "./filters.js";
import { firstRun, modelNotice } from "./first-run.js";
import { hasDocuments, libraryNotice, may } from "./library.js";
import { add, computed, each, effect, h, onCleanup, scope, signal } from "./reactive.js";
import { go, link, route, viewSource } from "./route.js";
import { attempt, copyText, counted, duration, icon, iconButton, loader } from "./ui.js";
import { prepare } from "./viewer.js";

const PREPARED_SOURCES = 3;
const MAX_QUESTION = 4000;
const drafts = new Map();

class Ask extends HTMLElement {
  connectedCallback() {
    [, this.end] = scope(() => this.build());
  }

  disconnectedCallback() {
    this.end();
  }

  build() {
    this.turns = h("div", { class: "turns" });
    this.shown = signal(null); // the conversation
    this.box = this.composer();
    const column = h("section", { class: "column", "aria-label": "Conversation" }, this.turns, this.box);
    const pane = h("aside", { class: "pane", "aria-label": "Document" });
    this.append(column, pane);
    this.observer = new IntersectionObserver(
      (seen) => seen.forEach((one) => one.isIntersecting && one.target.wake?.()),
      { rootMargin: "600px" },
    );
    onCleanup(() => this.observer.disconnect());
    const id = computed(() => route.value.id);
    const viewing = computed(() => Boolean(route.value.params.view));
    effect(() => this.show(id.value));
    effect(() => {
      this.classList.toggle("viewing", viewing.value);
      pane.replaceChildren(...(viewing.value ? [document.createElement("rag-viewer")] : []));
      if (!viewing.value) this.opener?.focus();
    });
  }

  /** Shows a conversation; without an id, an empty one that gets its id with its first question. */
  show(id) {
    const one = (this.conversation = id ? conversation(id) : newConversation());
    this.shown.value = one;
    this.turns.replaceChildren();
    this.question.value = drafts.get(id) ?? "";
    const { run, failure, notice } = loader(
      "The conversation",
      () => load(id),
      () => {},
    );
    if (id) run();
    each(
      this.turns,
      () => one.turns.value,
      (turn) => turn.key,
      (turn) => this.turn(turn.peek()),
    );
    const intro = h("div", { class: "intro" });
    add(intro, () => (failure.value ? notice() : this.introduction(one)));
    const earlier = this.earlier(one);
    this.turns.before(intro, earlier);
    onCleanup(() => (intro.remove(), earlier.remove()));
    let last = null;
    effect(() => {
      const before = last;
      last = one.turns.value.at(-1) ?? null;
      const block = one.turns.peek().length > 1 ? "start" : "nearest";
      if (last !== before) requestAnimationFrame(() => this.turns.lastElementChild?.scrollIntoView({ block }));
    });
    if (matchMedia("(hover: hover)").matches && !route.peek().params.view) this.question.focus({ preventScroll: true });
  }

  /** Returns what loads the earlier turns once it is near, and what is read stays where it is. */
  earlier(one) {
    const column = this.turns.parentElement;
    const loadMore = async () => {
      if (!one.earlier.peek()) return;
      const below = column.scrollHeight - column.scrollTop;
      await loadEarlier(one);
      await null; // the new turns are in the page
      column.scrollTop = column.scrollHeight - below;
      // Told anew if the beginning is still near.
      this.observer.unobserve(node);
      this.observer.observe(node);
    };
    const node = h(
      "div",
      { class: "earlier", hidden: () => !one.earlier.value },
      h("button", { type: "button", class: "quiet", onclick: attempt(loadMore) }, icon("up"), "Earlier questions"),
    );
    node.wake = () => loadMore().catch(() => {});
    this.observer.observe(node);
    return node;
  }

  introduction(one) {
    if (one.turns.value.length) return h("h1", { class: "hidden" }, "Conversation");
    if (one.loading.value) return h("p", { class: "empty" }, "Loading …");
    if (one.missing.value) return h("p", { class: "empty" }, "This conversation is no longer kept.");
    if (hasDocuments.value === null) return libraryNotice();
    if (!may("query"))
      return h("p", { class: "empty" }, "Your key may add documents, but not ask. Sign in with a key that may ask.");
    if (!hasDocuments.value) return firstRun((question) => this.send(question));
    return h(
      "div",
      { class: "hero" },
      h("h1", {}, "Ask your documents"),
      h("p", {}, "Each answer shows the pages that it stands on. Click a number to see the words on the page."),
      modelNotice(),
    );
  }

  composer() {
    // Only another turn makes another button: one that changed with each word would lose clicks.
    const active = computed(() => this.shown.value?.turns.value.find(running) ?? null);
    this.question = h("textarea", {
      rows: "1",
      maxlength: String(MAX_QUESTION),
      dir: "auto",
      placeholder: "Ask a question",
      "aria-label": "Question",
      enterkeyhint: "send",
      oninput: () => drafts.set(route.peek().id, this.question.value),
      onkeydown: (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        this.submit();
      },
    });
    const button = h("div", { class: "send" });
    add(button, () => {
      const turn = active.value;
      return turn
        ? h(
            "button",
            {
              type: "button",
              class: "primary round",
              title: "Stop",
              "aria-label": "Stop",
              onclick: attempt(() => stop(turn)),
            },
            icon("stop"),
          )
        : h(
            "button",
            { type: "submit", class: "primary round", title: "Ask (Enter)", "aria-label": "Ask" },
            icon("up"),
          );
    });
    return h(
      "form",
      { class: "composer", onsubmit: (event) => (event.preventDefault(), this.submit()) },
      h("div", { class: "box" }, this.question, button),
      h(
        "div",
        { class: "under" },
        filterChips(),
        optionsButton(),
        h("span", { class: "spacer" }),
        iconButton("history", "Conversations", attempt(showConversations)),
        iconButton("plus", "New conversation", () => go(link("ask"))),
      ),
    );
  }

  /** Goes on with a question that was typed, or sent, before the page was whole. */
  takeOver({ text, focused, sent }) {
    if (text) drafts.set(route.peek().id, (this.question.value = text));
    if (focused) this.question.focus({ preventScroll: true });
    this.question.setSelectionRange(text.length, text.length);
    if (sent) this.submit();
  }

  submit() {
    const text = this.question.value.trim();
    if (
      !text ||
      this.conversation.turns.peek().some((turn) => ["sending", "queued", "started"].includes(turn.state.peek().phase))
    )
      return;
    this.question.value = "";
    drafts.delete(route.peek().id);
    this.send(text);
  }

  send(text) {
    const one = this.conversation.id.startsWith("job:") ? newConversation() : this.conversation;
    ask(one, text, questionOptions());
    // The address changes after the question is in the conversation, which is then not loaded from the server.
    if (route.peek().id !== one.id) go(link("ask", one.id));
  }

  turn(turn) {
    const answer = h("div", { class: "answer" });
    const node = h(
      "article",
      { class: "turn" },
      h("h2", { class: "question", dir: "auto" }, turn.question),
      () => status(turn),
      answer,
      () =>
        after(
          turn,
          (text) => this.send(text),
          (source) => this.open(turn, source),
        ),
    );
    let drawn = false;
    const draw = () => {
      drawn = false;
      const { text, sources, phase, used } = turn.state.peek();
      // Without a model the answer is made of quotes, and of sentences of the service itself.
      const done = phase === "finished" && used?.model !== null && used?.model !== undefined;
      answer.classList.toggle("writing", phase === "started" && Boolean(text));
      showAnswer(answer, text, { sources, done, onCite: (source) => this.open(turn, source) });
    };
    effect(() => {
      turn.state.value;
      if (!drawn) requestAnimationFrame(draw);
      drawn = true;
    });
    effect(() => {
      if (turn.state.value.phase === "finished") turn.state.peek().sources.slice(0, PREPARED_SOURCES).forEach(prepare);
    });
    node.wake = () => wake(turn);
    this.observer.observe(node);
    return node;
  }

  open(turn, source) {
    this.opener = document.activeElement;
    viewSource(turn.jobId, source);
  }
}

const showConversations = () => import("./history.js").then(({ conversationList }) => conversationList());

/** What happens to a question before and while its answer is written. */
function status(turn) {
  const { phase, position, stage, text, cut } = turn.state.value;
  if (cut) return h("p", { class: "status", role: "status" }, "The connection was lost. Connecting again …");
  if (phase === "sending") return h("p", { class: "status" }, "Sending …");
  if (phase === "queued")
    return h(
      "p",
      { class: "status", role: "status" },
      position ? `Waiting: number ${position} in the queue` : "Waiting",
    );
  if (phase === "started" && (!text || stage !== "Writing the answer"))
    return h("p", { class: "status", role: "status" }, `${stage ?? "Starting"} …`);
  return null;
}

/** What stands below an answer: what to know about it, its sources, and what can be done. */
function after(turn, send, open) {
  const state = turn.state.value;
  const again = h(
    "button",
    { type: "button", class: "quiet", onclick: () => send(turn.question) },
    icon("again"),
    "Ask again",
  );
  if (state.phase === "failed") return h("div", { class: "notice bad", role: "alert" }, h("p", {}, state.error), again);
  if (state.phase === "cancelled")
    return h(
      "div",
      { class: "notice" },
      h("p", {}, state.text ? "Stopped. The answer is not complete, and its sources are not checked." : "Stopped."),
      again,
    );
  if (state.phase !== "finished") return null;
  return [
    notices(state).map((text) => h("p", { class: "notice" }, text)),
    cards(state.sources, open),
    h(
      "div",
      { class: "actions" },
      h(
        "button",
        { type: "button", class: "quiet", onclick: () => copyText(withSources(state.text, state.sources)) },
        icon("copy"),
        "Copy",
      ),
      again,
      details(state),
    ),
  ];
}

function notices(state) {
  const found = [];
  if (state.answered === false && !state.sources.length)
    found.push("Your documents do not seem to answer this. Try other words, or search more documents.");
  if (state.unsupported)
    found.push(`${counted(state.unsupported, "citation")} removed: the source does not support the sentence.`);
  if (state.sources.some((one) => one.verified === false))
    found.push("The check doubts a source. Read the marked quotes before you rely on them.");
  if (state.incomplete)
    found.push(
      "The answer is cut: the model reached its limit of tokens. Ask for a part of it, or raise the longest answer in the settings.",
    );
  if (state.not_searched)
    found.push(`${counted(state.not_searched, "document")} not searched: still being indexed. Ask again in a while.`);
  return found;
}

function cards(sources, open) {
  if (!sources.length) return null;
  return h(
    "ol",
    { class: "cards", "aria-label": "Sources" },
    sources.map((source) =>
      h(
        "li",
        {},
        h(
          "button",
          {
            type: "button",
            class: source.verified === false ? "card doubted" : "card",
            onmouseenter: () => prepare(source),
            onfocus: () => prepare(source),
            onclick: () => open(source),
          },
          h("span", { class: "cite" }, String(source.n)),
          h(
            "span",
            { class: "what" },
            h("span", { class: "name", dir: "auto" }, source.name),
            " ",
            h("span", { class: "where" }, pageName(source)),
            source.verified === false && h("span", { class: "tag" }, "doubted"),
            h("q", { dir: "auto" }, quoteNodes(source, { fromSentence: true })),
          ),
        ),
      ),
    ),
  );
}

function details({ used, times, usage, rewritten, cached }) {
  const lines = [
    rewritten && ["Searched for", rewritten],
    cached && ["Cached", "the same question was answered before"],
    used && ["Model", used.model ?? "none: the answer quotes the documents"],
    used && ["Passages", used.passages],
    usage && ["Tokens", usage.total_tokens],
    times && [
      "Time",
      Object.entries(times)
        .map(([stage, seconds]) => `${stage} ${duration(seconds)}`)
        .join(", "),
    ],
  ].filter(Boolean);
  return h(
    "details",
    {},
    h("summary", {}, "Details"),
    h(
      "dl",
      {},
      lines.map(([name, value]) => [h("dt", {}, name), h("dd", { dir: "auto" }, String(value))]),
    ),
  );
}

customElements.define("rag-ask", Ask);
