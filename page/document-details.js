// More about a document: why it failed and what helps, pages that could not be read, facts, and what can be done.

import { call, capitalised, url } from "./api.js";
import { may } from "./library.js";
import { h } from "./reactive.js";
import { link } from "./route.js";
import { changedUploads } from "./sending.js";
import { attempt, bytes, icon, openDialog } from "./ui.js";

// What helps, by the reason of the failure: docs/uploads.md lists the reasons.
const REMEDIES = {
  encrypted: "Save the document without its password, and send it again.",
  broken: "Open the file in its program, save it again, and send it.",
  no_text: "The pages are pictures without text. Run the file through a text recognition first.",
  unreadable_text: "Print the document to a new PDF, or send its original.",
  xfa_form: "Open the form in its viewer, print it to a PDF, and send that.",
  empty: "The file was empty when it was sent. Send it again once it has text.",
  conversion_failed: "Index it again once the converter works. The operator finds its address in DOCUMENT_CONVERTER_URL.",
  unsupported: "Send the files inside one by one, as PDF, DOCX, text or another kind that is read.",
  unknown_encoding: "Save the text as UTF-8, and send it again.",
  too_large: "Split the document, and send the parts.",
  too_long: "Split the document, and send the parts.",
  timeout: "Split the document, or index it again when the server has less to do.",
  file_missing: "Send the file again: the server has lost its copy.",
  provider_error: "Index it again once the embedding model answers. Admin shows the health of each part.",
  store_error: "Index it again once the search works. Admin shows the health of each part.",
  cancelled: "Index it again if it is to be searched after all.",
  internal: "Index it again. If that fails, too, the log of the worker says why.",
};
// What is missing of a page, by the reason of the warning.
const WARNINGS = {
  unreadable_text: "text that could not be read",
  no_text: "a picture without text",
  encrypted: "a file with a password",
  broken: "a file that cannot be read",
  unsupported: "a file of a kind that is not read",
  empty: "a file without text",
  too_large: "a file that is too large",
  attachments: "files that are attached, which were not read",
  pictures: "pictures whose text was not read",
  conversion_failed: "the converter did not read it",
  ocr_failed: "text recognition took too long, or failed",
  xfa_form: "a form whose layout is not shown",
};

/** Shows the dialog; `remove` deletes the document. */
export function showDetails(upload, remove) {
  const path = `uploads/${encodeURIComponent(upload.upload_id)}`;
  const reindex = async () => {
    await call("POST", `${path}/reindex`);
    changedUploads.value += 1;
  };
  openDialog(upload.name, (close) =>
    h(
      "div",
      { class: "stack" },
      upload.error &&
        h(
          "div",
          { class: "notice bad" },
          h("p", {}, capitalised(upload.error)),
          REMEDIES[upload.reason] && h("p", {}, REMEDIES[upload.reason]),
        ),
      warningList(upload, close),
      h(
        "dl",
        {},
        facts(upload).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
      ),
      h(
        "footer",
        {},
        h("a", { class: "button", href: url(`${path}/file`), download: upload.name }, icon("download"), "Download"),
        may("upload") && [
          h(
            "button",
            { type: "button", onclick: attempt(() => reindex().then(close)) },
            icon("again"),
            "Index again",
          ),
          h(
            "button",
            { type: "button", onclick: () => (close(), remove()) },
            icon("trash"),
            "Delete",
          ),
        ],
      ),
    ),
  );
}

function warningList({ upload_id: id, warnings = [] }, close) {
  if (!warnings.length) return null;
  return h(
    "div",
    { class: "notice" },
    h("p", {}, "Not all text of this document is searched:"),
    h(
      "ul",
      {},
      warnings
        .slice(0, 100)
        .map(({ page, reason, page_label: label }) =>
          h(
            "li",
            {},
            h(
              "a",
              { href: link("documents", null, { view: id, page }), onclick: close, dir: "auto" },
              label && label !== String(page) ? `page ${page} (${label})` : `page ${page}`,
            ),
            `: ${WARNINGS[reason] ?? reason}`,
          ),
        ),
    ),
  );
}

function facts(upload) {
  return [
    ["Status", upload.status],
    ["Kind", upload.media_type],
    ["Size", bytes(upload.bytes)],
    ["Pages", upload.pages],
    ["Passages", upload.chunks],
    ["Added", new Date(upload.created_at).toLocaleString()],
    ["Indexed", upload.indexed_at && new Date(upload.indexed_at).toLocaleString()],
    ["Model of the index", upload.index?.model],
  ]
    .filter(([, value]) => value != null)
    .map(([name, value]) => [name, String(value)]);
}
