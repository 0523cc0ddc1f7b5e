// The frame: navigation, the screen of the address, and what lies over every screen.

import "./ask.js";
import "./viewer.js";
import { Problem } from "./api.js";
import { loadLibrary } from "./library.js";
import { computed, effect, h, signal } from "./reactive.js";
import { link, route } from "./route.js";
import { takeDrops, tray } from "./sending.js";
import { askForKey } from "./session.js";
import { failureNotice, icon, overlays, RETRY_MS } from "./ui.js";

// The screens after the first are loaded when they are first opened.
const SCREENS = {
  ask: ["Ask", async () => {}],
  documents: ["Documents", () => import("./documents.js")],
  activity: ["Activity", () => import("./activity.js")],
  admin: ["Admin", () => import("./admin.js")],
};

function navigation() {
  const entry = ([name, [title]]) =>
    h(
      "a",
      { href: link(name), "aria-current": () => (route.value.screen === name ? "page" : null) },
      icon(name),
      h("span", {}, title),
    );
  return h("nav", { "aria-label": "Screens" }, Object.entries(SCREENS).map(entry));
}

async function start() {
  const main = document.getElementById("main");
  const tries = signal(0); // to load a screen
  main.before(
    h(
      "a",
      { class: "skip", href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) },
      "Skip to the content",
    ),
    h(
      "header",
      { class: "top" },
      h(
        "a",
        { class: "brand", href: link("ask") },
        h("span", { class: "logo", "aria-hidden": "true" }),
        h("span", {}, "Ask your documents"),
      ),
      navigation(),
    ),
    tray(),
  );
  document.body.append(takeDrops(), ...overlays());
  document.getElementById("late").remove();
  sessionStorage.removeItem("reloads"); // counted by early.js
  const screen = computed(() => (SCREENS[route.value.screen] ? route.value.screen : "ask"));
  effect(() => {
    tries.value;
    const name = screen.value;
    document.title = `${SCREENS[name][0]} · Ask your documents`;
    SCREENS[name][1]().then(
      () => screen.peek() === name && show(main, name),
      () => {
        const notice = failureNotice("This screen", new Problem(0, "The server cannot be reached."));
        main.replaceChildren(h("section", { class: "column wide" }, notice));
        setTimeout(() => name === screen.peek() && (tries.value += 1), RETRY_MS);
      },
    );
  });
  askForKey();
  loadLibrary();
}

function show(main, name) {
  const early = document.getElementById("early");
  const swap = () => {
    const screen = document.createElement(`rag-${name}`);
    const typed = early && takeEarly(); // of early.js
    main.replaceChildren(screen);
    if (typed) screen.takeOver?.(typed);
  };
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches || early;
  if (document.startViewTransition && !still) document.startViewTransition(swap);
  else swap();
}

start();
