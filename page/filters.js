// What a question searches, and how it is answered: kept for the next questions of this page.

import { get, getIfOffered } from "./api.js";
import { models } from "./library.js";
import { each, effect, h, signal } from "./reactive.js";
import { counted, field, icon, loader, openDialog } from "./ui.js";

const filters = signal({ uploads: [], first: null, last: null, collection: null });
const options = signal({});

/** Searches only these documents from now on. */
export const searchOnly = (uploads) => (filters.value = { ...filters.peek(), uploads, collection: null });

const searchCollection = (name) => (filters.value = { ...filters.peek(), uploads: [], collection: name || null });

/** Returns the fields that the filters and options add to a question. */
export function questionOptions() {
  const { uploads, first, last, collection } = filters.peek();
  const fields = {
    upload_id: uploads.length ? uploads.map((one) => one.upload_id) : null,
    first_page: first,
    last_page: last,
    collection,
    ...options.peek(),
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null && value !== ""));
}

/** Returns a chip for each filter, and the button that changes them. */
export function filterChips() {
  const chip = (text, without) =>
    h(
      "button",
      {
        type: "button",
        class: "chip on",
        title: `Stop searching only this: ${text}`,
        onclick: () => (filters.value = { ...filters.peek(), ...without }),
      },
      h("span", { dir: "auto" }, text),
      icon("close"),
    );
  return h(
    "div",
    { class: "chips" },
    h("button", { type: "button", class: "chip", onclick: chooseDocuments }, icon("documents"), () =>
      filters.value.uploads.length ? counted(filters.value.uploads.length, "document") : "All documents",
    ),
    () => {
      const { uploads, first, last, collection } = filters.value;
      const pages = first || last ? `pages ${first ?? 1} to ${last ?? "the end"}` : null;
      return [
        uploads.slice(0, 3).map((one) => chip(one.name, { uploads: uploads.filter((other) => other !== one) })),
        collection && chip(collection, { collection: null }),
        pages && chip(pages, { first: null, last: null }),
      ];
    },
  );
}

function chooseDocuments() {
  openDialog("Search in", (close) => {
    const found = signal(null); // not loaded yet
    const needle = signal("");
    const documents = loader(
      "The documents",
      (name) => get("uploads", { limit: 50, status: "ready", name }),
      (page) => (found.value = page.uploads),
    );
    effect(() => documents.run(needle.value));
    const chosen = (one) => filters.value.uploads.some((other) => other.upload_id === one.upload_id);
    const toggle = (one) => {
      const { uploads } = filters.peek();
      const others = uploads.filter((other) => other.upload_id !== one.upload_id);
      searchOnly(others.length < uploads.length ? others : [...others, one].slice(-100));
    };
    const list = each(
      h("ul", { class: "list checks" }),
      () => found.value ?? [],
      (one) => one.upload_id,
      (one) =>
        h(
          "li",
          {},
          h(
            "label",
            {},
            h("input", { type: "checkbox", checked: () => chosen(one.value), onchange: () => toggle(one.peek()) }),
            h("span", { dir: "auto", title: one.peek().name }, one.peek().name),
          ),
        ),
    );
    const collections = signal([]);
    const stores = loader(
      "The collections",
      () => getIfOffered("v1/vector_stores", { limit: 100 }),
      (listed) => (collections.value = [...new Set((listed?.data ?? []).map((one) => one.name).filter(Boolean))]),
    );
    stores.run();
    const option = (name) => h("option", { value: name, selected: filters.peek().collection === name }, name || "Any");
    const collection = () =>
      collections.value.length
        ? field(
            "Collection",
            h(
              "select",
              { onchange: (event) => searchCollection(event.target.value) },
              ["", ...collections.value].map(option),
            ),
          )
        : null;
    const page = (name, label, placeholder) =>
      field(
        label,
        h("input", {
          type: "number",
          min: "1",
          max: "1000000",
          placeholder,
          value: filters.peek()[name] ?? "",
          onchange: (event) => (filters.value = { ...filters.peek(), [name]: Number(event.target.value) || null }),
        }),
      );
    return h(
      "div",
      { class: "stack" },
      h("input", {
        type: "search",
        placeholder: "Find a document",
        "aria-label": "Find a document",
        oninput: (event) => (needle.value = event.target.value.trim()),
      }),
      documents.notice,
      list,
      () =>
        found.value?.length === 0 &&
        !documents.failure.value &&
        h("p", { class: "empty" }, "No document of this name is ready."),
      stores.notice,
      collection,
      h("div", { class: "pair" }, page("first", "From page", "first"), page("last", "To page", "last")),
      h(
        "footer",
        {},
        h(
          "button",
          {
            type: "button",
            onclick: () => ((filters.value = { uploads: [], first: null, last: null, collection: null }), close()),
          },
          "Search all",
        ),
        h("button", { type: "button", class: "primary", onclick: close }, "Done"),
      ),
    );
  });
}

/** Returns the button that opens the model and the settings of an answer. */
export function optionsButton() {
  return h("button", { type: "button", class: "chip", onclick: chooseOptions }, icon("admin"), () => {
    const changed = Object.keys(options.value).length;
    return changed ? `${counted(changed, "setting")} changed` : "Settings";
  });
}

function chooseOptions() {
  const set = (name, value) => {
    const { [name]: _, ...others } = options.peek();
    options.value = value === "" || value == null ? others : { ...others, [name]: value };
  };
  const number = (name, label, hint, limits) =>
    field(
      label,
      h("input", {
        type: "number",
        ...limits,
        value: options.peek()[name] ?? "",
        onchange: (event) =>
          set(name, event.target.checkValidity() && event.target.value ? Number(event.target.value) : null),
      }),
      hint,
    );
  const option = (value, text) => h("option", { value, selected: options.peek().model === value }, text);
  openDialog("Settings of the next answers", (close) =>
    h(
      "div",
      { class: "stack" },
      models.peek()?.length
        ? field(
            "Model",
            h(
              "select",
              { onchange: (event) => set("model", event.target.value) },
              option("", `${models.peek()[0]} (default)`),
              models
                .peek()
                .slice(1)
                .map((name) => option(name, name)),
            ),
          )
        : null,
      number("k", "Passages", "How many passages of the documents an answer may use at most; 6 if empty.", { min: "1", max: "50" }),
      number("min_score", "Least score", "How well a passage must fit the question, from 0 to 1. Others are left out.", {
        min: "0",
        max: "1",
        step: "0.05",
      }),
      models.peek()?.length
        ? [
            number("temperature", "Temperature", "0: much the same answer each time. Up to 2: the model writes more freely.", {
              min: "0",
              max: "2",
              step: "0.1",
            }),
            number("max_tokens", "Longest answer", "In tokens: a word has one or two.", { min: "1", max: "32768" }),
          ]
        : null,
      h(
        "label",
        { class: "check" },
        h("input", {
          type: "checkbox",
          checked: options.peek().cache === false,
          onchange: (event) => set("cache", event.target.checked ? false : null),
        }),
        "Answer again, even if the same question was answered before",
      ),
      h(
        "footer",
        {},
        h("button", { type: "button", onclick: () => ((options.value = {}), close()) }, "Reset"),
        h("button", { type: "button", class: "primary", onclick: close }, "Done"),
      ),
    ),
  );
}
