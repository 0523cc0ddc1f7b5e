// The questions of this page and their answers. They go on while another screen is shown.

import { announce, randomId } from "./ui.js";
import { call, capitalised, follow, get, getIfOffered } from "./api.js";
import { sentences } from "./answer.js";
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
      asked: false,
      earlier: signal(null), // where the earlier turns begin, for the server; null once all are here
      unmatched: [], // answers whose questions are among the earlier items
    });
  return opened.get(id);
}

export function newConversation() {
  return conversation(`page-${randomId()}`);
}

/** Loads the last turns of a conversation that this page has not asked itself. */
export async function load(id) {
  const one = conversation(id);
  if (one.asked || one.loaded) return;
  one.loaded = true;
  one.loading.value = true;
  try {
    if (id.startsWith("job:")) one.turns.value = turnsOf([questionOf(id.slice(4))]);
    else {
      // A load that failed goes on where it was.
      if (!one.turns.peek().length) await loadEarlier(one);
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
  const items = [...(page?.items ?? []).reverse(), ...one.unmatched];
  const begin = page?.next ? items.findIndex((item) => item.role === "user") : 0;
  one.unmatched = items.slice(0, begin < 0 ? items.length : begin);
  one.turns.value = [...turnsOf(items.slice(one.unmatched.length)), ...one.turns.peek()];
  one.earlier.value = page?.next ?? null;
}

const storedUnder = (one) => `asked ${one.id}`;

/** Keeps the questions without an answer for a reload: the server adds a turn to its conversation with the answer. */
function keepUnanswered(one) {
  const waiting = one.turns
    .peek()
    .filter((turn) => turn.conversation && turn.jobId && !turn.ended)
    .map(({ jobId, question }) => ({ jobId, question }));
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
  for (const { jobId, question } of keptUnanswered(one)) {
    if (one.turns.peek().some((turn) => turn.jobId === jobId)) continue;
    // The server knows the job only for the user who asked.
    if (!(await getIfOffered(`result/${encodeURIComponent(jobId)}`))) continue;
    const turn = makeTurn(question, jobId, one);
    turn.sleeping = true;
    one.turns.value = [...one.turns.peek(), turn];
    one.missing.value = false;
  }
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
export async function ask(one, question, options = {}) {
  one.asked = true;
  const turn = makeTurn(question, null, one);
  turn.options = options;
  one.turns.value = [...one.turns.peek(), turn];
  try {
    const json = { query: question, conversation_id: one.id, ...options };
    // The same key on every try: a repeat after a lost response asks nothing twice.
    const accepted = await persist(() => call("POST", "chat", { json, headers: { "Idempotency-Key": turn.key } }));
    turn.jobId = accepted.job_id;
    keepUnanswered(one);
    if (turn.stopped) await stop(turn);
  } catch (problem) {
    update(turn, { phase: "failed", error: problem.message });
    announce(problem.message);
    return turn;
  }
  update(turn, { phase: "queued" });
  watch(turn, { aloud: true });
  return turn;
}

/** Repeats a request twice while the server is away. */
async function persist(run) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await run();
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
