// What a newcomer sees: no documents yet, or no model.

import { url } from "./api.js";
import { hasDocuments, models } from "./library.js";
import { h, signal } from "./reactive.js";
import { link } from "./route.js";
import { attempt, openDialog } from "./ui.js";
import { chooseFiles, sendFiles, whenReady } from "./sending.js";

const SAMPLE = "page/handbook.pdf";
const SAMPLE_QUESTION = "How long does a full charge take?";

/** Returns the invitation to send documents or to try the sample; `ask` is given the sample's question. */
export function firstRun(ask) {
  const busy = signal(false);
  const trySample = async () => {
    busy.value = true;
    try {
      const response = await fetch(url(SAMPLE));
      if (!response.ok) throw new Error("The sample is missing on this server. Send a document of your own.");
      const [sent] = sendFiles([new File([await response.blob()], "handbook.pdf", { type: "application/pdf" })]);
      await whenReady(sent);
      hasDocuments.value = true;
      ask(SAMPLE_QUESTION);
    } finally {
      busy.value = false;
    }
  };
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
      h("button", { type: "button", class: "quiet", onclick: explainModel }, "Set a model"),
    );
}

function explainModel() {
  openDialog("Set a model", () =>
    h(
      "div",
      { class: "stack" },
      h(
        "p",
        {},
        "Without a model the service finds passages and quotes them. A model reads them and writes an answer, with a citation for each sentence.",
      ),
      h("p", {}, "Put the lines of your provider into the file .env beside main.py, and start the service again."),
      provider("OpenAI", "OPENAI_API_KEY=sk-…"),
      provider(
        "Ollama, on this machine",
        "OPENAI_BASE_URL=http://127.0.0.1:11434/v1\nCHAT_MODEL=llama3.2\nEMBEDDING_MODEL=nomic-embed-text",
      ),
      provider("Any other with OpenAI's API", "OPENAI_BASE_URL=https://…/v1\nOPENAI_API_KEY=…\nCHAT_MODEL=…"),
      h("p", {}, h("a", { href: link("admin") }, "See the settings in force")),
    ),
  );
}

const provider = (name, lines) => h("div", {}, h("h3", {}, name), h("pre", { tabindex: "0" }, lines));
