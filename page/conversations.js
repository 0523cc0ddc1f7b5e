// The questions of this page and their answers. They go on while another screen is shown.

import { announce, randomId } from "./ui.js";
import { call, capitalised, follow, get, getIfOffered } from "./api.js";
import { sentences } from "./answer.js";
import { asOneUser, me } from "./library.js";
import { signal } from "./reactive.js";

const STAGES = {
  searching: "Searching the documents",
  answering: "Writing the answer",
  thinking: "Thinking",
  verifying: "Checking the citations",
};
// Questions and answers that are read at a time: a long conversation opens as fast as a short one.
const PAGE = 40;
const opened = new Map();

/** Returns a conversation. Its last `turns` are loaded once, from the server if it knows the id. */
export function conversation(id) {
  if (!opened.has(id))
    opened.set(id, {
      id,
      turns: signal([]),
      loading: signal(false),
      missing: signal(false),
      loaded: false,
      begun: false, // the last turns are here
      restored: false, // so are the questions that a reload has kept
      earlier: signal(null), // where the earlier turns begin, for the server; null once all are here
      unmatched: [], // answers whose questions are among the earlier items
    });
  return opened.get(id);
}

/** Returns an empty conversation, which the server does not know yet. */
export const newConversation = () =>
  Object.assign(conversation(`page-${randomId()}`), { loaded: true, begun: true, restored: true });

/** Loads the last turns of a conversation that did not begin on this page. */
export async function load(id) {
  const one = conversation(id);
  if (one.loaded) return;
  one.loaded = true;
  one.loading.value = true;
  try {
    if (id.startsWith("job:")) one.turns.value = turnsOf([questionOf(id.slice(4))]);
    else {
      // A load that failed goes on where it was.
      if (!one.begun) await loadEarlier(one);
      await loadUnanswered(one);
    }
  } catch (problem) {
    one.loaded = false;
    throw problem;
  } finally {
    one.loading.value = false;
  }
}

const questions = new Map();

/** Keeps the question of a job, for the conversation `job:…` that shows this job alone. */
export const rememberQuestion = (jobId, question) => questions.set(jobId, question);

const questionOf = (jobId) => ({ role: "user", text: questions.get(jobId) ?? "Question", job_id: jobId });

/** Puts the turns before the first one that is loaded in front of it; once, for all who ask meanwhile. */
export const loadEarlier = (one) => (one.reading ??= readEarlier(one).finally(() => (one.reading = null)));

async function readEarlier(one) {
  const query = { limit: PAGE, order: "desc", after: one.earlier.peek() };
  const page = await getIfOffered(`conversations/${encodeURIComponent(one.id)}/items`, query);
  one.missing.value = page === null && !one.turns.peek().length;
  // A question that was asked while this load failed is here already, and may be among the items, too.
  const here = new Set(one.turns.peek().map((turn) => turn.jobId));
  const items = [...(page?.items ?? []).reverse(), ...one.unmatched].filter((item) => !here.has(item.job_id ?? ""));
  const begin = page?.next ? items.findIndex((item) => item.role === "user") : 0;
  one.unmatched = items.slice(0, begin < 0 ? items.length : begin);
  one.turns.value = [...turnsOf(items.slice(one.unmatched.length)), ...one.turns.peek()];
  one.earlier.value = page?.next ?? null;
  one.begun = true;
}

const storedUnder = (one) => `asked ${one.id}`;

/** Returns true if a question that a reload has kept is among the turns. */
const isHere = (one, { key, jobId }) =>
  one.turns.peek().some((turn) => turn.key === key || (jobId && turn.jobId === jobId));

/** Keeps the questions without an answer for a reload: the server adds a turn to its conversation with the answer. */
function keepUnanswered(one) {
  const user = me.peek()?.user_id;
  const asked = one.turns
    .peek()
    .filter((turn) => turn.conversation && !turn.ended && !(turn.stopped && !turn.jobId))
    .map(({ key, jobId, question, options }) => ({ key, jobId, question, options, user }));
  // Those that an earlier reload has kept, and that are not here yet.
  const kept = one.restored ? [] : keptUnanswered(one).filter((question) => !isHere(one, question));
  const waiting = [...kept, ...asked];
  try {
    if (waiting.length) sessionStorage.setItem(storedUnder(one), JSON.stringify(waiting));
    else sessionStorage.removeItem(storedUnder(one));
  } catch {
    // a browser that stores nothing: a reload shows the question with its answer
  }
}

function keptUnanswered(one) {
  try {
    return JSON.parse(sessionStorage.getItem(storedUnder(one)) ?? "[]");
  } catch {
    return [];
  }
}

async function loadUnanswered(one) {
  const { user_id: now } = me.peek() ?? (await get("me"));
  for (const kept of keptUnanswered(one)) {
    const { key, jobId, question, options, user } = kept;
    // Nobody asks what another user of this browser has typed.
    if (isHere(one, kept) || (!jobId && user !== now)) continue;
    // The server knows the job only for the user who asked.
    if (jobId && !(await getIfOffered(`result/${encodeURIComponent(jobId)}`))) continue;
    const turn = Object.assign(makeTurn(question, jobId, one), { key, options, sleeping: Boolean(jobId) });
    one.turns.value = [...one.turns.peek(), turn];
    one.missing.value = false;
    // The page was left before the server had said that it took the question.
    if (!jobId) send(turn);
  }
  one.restored = true;
}

/** Returns a turn for each question among the items, with its answer if that is there. */
function turnsOf(items) {
  const turns = [];
  for (const item of items) {
    if (item.role === "user") {
      const turn = makeTurn(item.text, item.job_id);
      turn.sleeping = Boolean(item.job_id);
      if (!turn.sleeping) update(turn, { phase: "unanswered" });
      turns.push(turn);
    } else {
      const turn = turns.at(-1)?.state.peek().phase === "finished" ? null : turns.at(-1);
      const answered = turn ?? turns[turns.push(makeTurn("", null)) - 1];
      answered.sleeping = false;
      answered.jobId ??= item.job_id;
      update(answered, { phase: "finished", text: item.text, sources: item.sources ?? [] });
    }
  }
  return turns;
}

/** Fetches the answer of a turn that came from the server, once it is seen. */
export function wake(turn) {
  if (!turn.sleeping) return;
  turn.sleeping = false;
  watch(turn, { aloud: false });
}

function makeTurn(question, jobId = null, one = null) {
  return {
    key: randomId(),
    question,
    jobId,
    conversation: one,
    state: signal({ phase: "sending", text: "", sources: null }),
    abort: new AbortController(),
  };
}

const update = (turn, changes) => (turn.state.value = { ...turn.state.peek(), ...changes });

/** Asks a question in a conversation. */
export function ask(one, question, options = {}) {
  const turn = Object.assign(makeTurn(question, null, one), { options });
  one.turns.value = [...one.turns.peek(), turn];
  keepUnanswered(one);
  return send(turn);
}

async function send(turn) {
  const one = turn.conversation;
  try {
    const json = { query: turn.question, conversation_id: one.id, ...turn.options };
    // The same key on every try: a repeat after a lost response, or a reload, asks nothing twice.
    const accepted = await persist(() => call("POST", "chat", { json, headers: { "Idempotency-Key": turn.key } }));
    const others = one.turns.peek().filter((other) => other !== turn);
    if (others.some((other) => other.jobId === accepted.job_id)) one.turns.value = others;
    turn.jobId = accepted.job_id;
    keepUnanswered(one);
    if (turn.stopped) await stop(turn);
  } catch (problem) {
    turn.ended = true;
    keepUnanswered(one);
    update(turn, { phase: "failed", error: problem.message });
    announce(problem.message);
    return;
  }
  update(turn, { phase: "queued" });
  watch(turn, { aloud: true });
}

/** Repeats a request twice while the server is away. */
async function persist(run) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await asOneUser(run);
    } catch (problem) {
      if (tries === 3 || (problem.status && problem.status !== 503)) throw problem;
      await new Promise((resolve) => setTimeout(resolve, 800 * tries));
    }
  }
}

/** Follows a turn's job to its end. */
async function watch(turn, { aloud }) {
  let spoken = 0;
  const onEvent = (type, data) => {
    if (type === "queued") update(turn, { phase: "queued", position: data.position });
    else if (type === "started") {
      update(turn, { phase: "started", text: "", sources: null, stage: null });
      spoken = 0;
    } else if (type === "progress") update(turn, { phase: "started", stage: STAGES[data.stage] ?? data.stage });
    else if (type === "token") {
      const text = turn.state.peek().text + data.text;
      update(turn, { phase: "started", text });
      if (aloud) spoken = speak(text, spoken);
    } else if (type === "sources") update(turn, { sources: data.sources });
    else if (type === "error") update(turn, { phase: "failed", error: capitalised(data.detail) });
    else if (["finished", "failed", "cancelled"].includes(type)) end(turn, data, { aloud, spoken });
  };
  try {
    await follow(turn.jobId, {
      onEvent,
      onCut: (cut) => cut !== (turn.state.peek().cut ?? false) && update(turn, { cut }),
      signal: turn.abort.signal,
    });
  } catch (problem) {
    update(turn, { phase: "failed", error: problem.message });
    if (aloud) announce(problem.message);
  }
  turn.ended = true;
  if (turn.conversation) keepUnanswered(turn.conversation);
}

/** Announces the sentences of a text that are complete and not announced yet. Returns how many are. */
function speak(text, spoken) {
  const complete = sentences(text).slice(0, -1);
  announce(complete.slice(spoken).join(" "));
  return Math.max(spoken, complete.length);
}

function end(turn, result, { aloud, spoken = 0 }) {
  if (result.status === "completed") {
    update(turn, { ...result, phase: "finished", text: result.result, sources: result.sources ?? [], cut: false });
    if (aloud) announce(`${sentences(result.result).slice(spoken).join(" ")} ${sourcesSentence(result)}`);
  } else {
    update(turn, { phase: result.status, error: capitalised(result.error), cut: false });
    if (aloud) announce(capitalised(result.error));
  }
}

function sourcesSentence({ answered, sources }) {
  if (answered === false) return "The documents do not answer the question.";
  const count = sources?.length ?? 0;
  return `The answer is complete, with ${count === 1 ? "1 source" : `${count} sources`}.`;
}

/** Cancels a question; while its acceptance is under way, as soon as it is known. */
export async function stop(turn) {
  turn.stopped = true;
  if (!turn.jobId && turn.conversation) keepUnanswered(turn.conversation);
  if (turn.jobId) await call("DELETE", `jobs/${encodeURIComponent(turn.jobId)}`);
}

export const running = (turn) => ["sending", "queued", "started"].includes(turn.state.value.phase);

const results = new Map();

/** Returns the sources of a job; also of one that another tab asked. */
export async function sourcesOf(jobId) {
  for (const { turns } of opened.values()) {
    const sources = turns
      .peek()
      .find((turn) => turn.jobId === jobId)
      ?.state.peek().sources;
    if (sources) return sources;
  }
  if (!results.has(jobId)) results.set(jobId, (await get(`result/${encodeURIComponent(jobId)}`)).sources ?? []);
  return results.get(jobId);
}
