// What a newcomer sees: no documents yet, or no model.

import { url } from "./api.js";
import { hasDocuments, loadModels, may, models, suggestion } from "./library.js";
import { effect, h, onCleanup, signal } from "./reactive.js";
import { link } from "./route.js";
import { attempt, copyText, iconButton, openDialog, repeat, toast } from "./ui.js";
import { chooseFiles, sendFiles, whenReady } from "./sending.js";

const SAMPLE = "page/handbook.pdf";
const SAMPLE_QUESTION = "How long does a full charge take?";
const RESTART_POLL_MS = 2000;

/** Returns the invitation to send documents or to try the sample; `ask` is given the sample's question. */
export function firstRun(ask) {
  const busy = signal(false);
  const trySample = async () => {
    busy.value = true;
    try {
      const response = await fetch(url(SAMPLE)).catch(() => null);
      if (!response) throw new Error("The server cannot be reached. Check that it runs, then try again.");
      if (!response.ok) throw new Error("The sample is missing on this server. Send a document of your own.");
      const [sent] = sendFiles([new File([await response.blob()], "handbook.pdf", { type: "application/pdf" })]);
      await whenReady(sent);
      hasDocuments.value = true;
      ask(SAMPLE_QUESTION);
    } finally {
      busy.value = false;
    }
  };
  if (!may("upload")) return h("p", { class: "empty" }, "There are no documents yet, and your key may not add any.");
  return h(
    "div",
    { class: "hero" },
    h("h1", {}, "See the answer on its page"),
    h("p", {}, "Send documents, ask about them, and see each answer marked on the page that it comes from."),
    h(
      "div",
      { class: "dropzone" },
      h("p", {}, "Drop files or folders anywhere on this page"),
      h(
        "div",
        { class: "row" },
        h("button", { type: "button", class: "primary", onclick: () => chooseFiles() }, "Choose files"),
        h("button", { type: "button", disabled: () => busy.value, onclick: attempt(trySample) }, () =>
          busy.value ? "Reading the sample …" : "Try the sample",
        ),
      ),
    ),
    modelNotice(),
  );
}

/** Returns a sentence that says what it means to have no model; null where there is one. */
export function modelNotice() {
  return () =>
    models.value?.length === 0 &&
    h(
      "p",
      { class: "notice" },
      "No model is set: answers are the best passages, quoted word for word. ",
      () => suggestion.value && "Ollama runs on this machine and can write them. ",
      h("button", { type: "button", class: "quiet", onclick: explainModel }, () =>
        suggestion.value ? "Use Ollama" : "Set a model",
      ),
    );
}

function explainModel() {
  openDialog("Set a model", (close) => {
    // The service reads its settings when it starts: after the restart there is a model.
    onCleanup(repeat(RESTART_POLL_MS, loadModels));
    effect(() => {
      if (!models.value?.length) return;
      close();
      toast(`From now on ${models.value[0]} writes the answers.`);
    });
    return h(
      "div",
      { class: "stack" },
      h(
        "p",
        {},
        "Without a model the service finds passages and quotes them. A model reads them and writes an answer, with a citation for each sentence.",
      ),
      h("p", {}, "Put these lines into the file .env beside main.py, and start the service again:"),
      () =>
        suggestion.value
          ? provider(`Ollama, which runs here${having(suggestion.value.models)}`, suggestion.value.lines)
          : provider("Ollama, on this machine", [
              "OPENAI_BASE_URL=http://127.0.0.1:11434/v1",
              "CHAT_MODEL=llama3.2",
              "EMBEDDING_MODEL=nomic-embed-text",
            ]),
      provider("OpenAI", ["OPENAI_API_KEY=sk-…"]),
      provider("Any other with OpenAI's API", ["OPENAI_BASE_URL=https://…/v1", "OPENAI_API_KEY=…", "CHAT_MODEL=…"]),
      h("p", {}, h("a", { href: link("admin"), onclick: close }, "See the settings in force")),
    );
  });
}

const having = (names) => (names.length ? ` with ${names.slice(0, 5).join(", ")}` : ", without a model yet");

function provider(name, lines) {
  const text = lines.join("\n");
  return h(
    "section",
    { class: "provider" },
    h(
      "header",
      {},
      h("h3", { dir: "auto" }, name),
      iconButton("copy", `Copy the lines: ${name}`, () => copyText(text)),
    ),
    h("pre", { tabindex: "0" }, text),
  );
}
