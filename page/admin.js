// The service itself: health, the last hour, keys, webhooks, the index, the settings in force.

import { call, get, signedOut } from "./api.js";
import { lineChart } from "./chart.js";
import { keyList, webhookList } from "./keys.js";
import { me } from "./library.js";
import { each, effect, h, onCleanup, scope, signal } from "./reactive.js";
import { ago, attempt, counted, duration, icon, loader, repeat, toast } from "./ui.js";
import { userList } from "./users.js";

const POLL_MS = 5000;
const GOOD = new Set(["ready", "ok"]);
const PARTS = { valkey: "Queue (Valkey)", workers: "Workers", vector_store: "Search (Qdrant)" };

class Admin extends HTMLElement {
  connectedCallback() {
    [, this.end] = scope(() => this.build());
  }

  disconnectedCallback() {
    this.end();
  }

  build() {
    this.ready = signal(null);
    this.stats = signal(null);
    this.settings = signal(null);
    this.append(
      h(
        "section",
        { class: "column wide scrolling" },
        h(
          "header",
          { class: "toolbar" },
          h("h1", {}, "Admin"),
          h("span", { class: "spacer" }),
          h("a", { class: "button", href: "docs" }, "API reference"),
          () => me.value?.key_id && h("button", { type: "button", onclick: attempt(signOut) }, "Sign out"),
        ),
        this.health(),
        this.hour(),
        keyList(),
        userList(),
        webhookList(),
        this.indexPart(),
        this.settingsList(),
      ),
    );
    onCleanup(repeat(POLL_MS, () => this.poll()));
  }

  async poll() {
    const [ready, stats] = await Promise.all([
      get("ready").catch((problem) => ({
        status: "unavailable",
        parts: problem.body?.parts ?? {},
        warnings: [problem.message],
        queues: [],
      })),
      get("stats").catch(() => this.stats.peek()),
    ]);
    this.ready.value = ready;
    this.stats.value = stats;
  }

  health() {
    const dot = (state) => h("span", { class: GOOD.has(state) ? "dot good" : "dot bad", "aria-hidden": "true" });
    return h("section", {}, h("h2", {}, "Health"), () => {
      const { ready } = this;
      if (!ready.value) return h("p", { class: "empty" }, "Looking …");
      return [
        h(
          "ul",
          { class: "tiles" },
          Object.entries(ready.value.parts).map(([name, state]) =>
            h(
              "li",
              { class: "tile" },
              h("span", { class: "name" }, PARTS[name] ?? name),
              h("strong", { class: "word" }, dot(state), state),
            ),
          ),
        ),
        ready.value.warnings.map((text) => h("p", { class: "notice" }, text)),
      ];
    });
  }

  hour() {
    return h("section", { hidden: () => !this.stats.value }, h("h2", {}, "Questions of the last hour"), () => {
      const stats = this.stats.value;
      if (!stats) return null;
      const { total, minutes } = stats;
      return [
        h(
          "ul",
          { class: "tiles" },
          [
            ["Asked", total.queued],
            ["Answered", total.answered],
            ["Answers a second", perSecond(total.answered, minutes)],
            ["Failed", total.failed],
            ["Half within", duration(total.p50_seconds)],
            ["95 % within", duration(total.p95_seconds)],
          ].map(([name, value]) =>
            h("li", { class: "tile" }, h("span", { class: "name" }, name), h("strong", {}, String(value))),
          ),
        ),
        h(
          "div",
          { class: "charts" },
          lineChart("Jobs that wait or run", minutes, [["queue", (one) => one.backlog]]),
          lineChart("Asked and answered each minute", minutes, [
            ["asked", (one) => one.queued],
            ["answered", (one) => one.answered],
            ["failed", (one) => one.failed],
          ]),
          lineChart("Seconds until the answer", minutes, [
            ["half", (one) => one.p50_seconds],
            ["95 %", (one) => one.p95_seconds],
          ]),
        ),
      ];
    });
  }

  indexPart() {
    const rebuild = async () => {
      await call("POST", "uploads/reindex", { query: { all: "true" } });
      toast("A new index is being built. Questions use the present one until it is complete.");
      await this.poll();
    };
    const describe = ({ model, dimensions }) => `${model}${dimensions ? `, ${counted(dimensions, "dimension")}` : ""}`;
    return h(
      "section",
      { hidden: () => !this.ready.value?.index },
      h(
        "header",
        {},
        h("h2", {}, "Index"),
        () =>
          me.value?.is_operator &&
          h("button", { type: "button", onclick: attempt(rebuild) }, icon("again"), "Build again"),
      ),
      () => {
        const { searched, building, earlier = [] } = this.ready.value?.index ?? {};
        return [
          h("p", {}, searched ? `Searched: ${describe(searched)}` : "Nothing is indexed yet."),
          building &&
            h(
              "p",
              {},
              `${building.status === "failed" ? "Failed" : "Being built"}: ${describe(building)}, ${building.done} of ${counted(building.total, "document")} `,
              h("progress", { max: String(building.total || 1), value: String(building.done), "aria-label": "Built" }),
            ),
          building?.error && h("p", { class: "notice bad" }, building.error),
          earlier.length > 0 &&
            h(
              "ul",
              { class: "list", "aria-label": "Earlier versions of the index" },
              earlier.map((one) =>
                h(
                  "li",
                  {},
                  h("span", { class: "name" }, describe(one)),
                  h("span", { class: "state" }, one.status === "kept" ? "searched before" : "being removed"),
                  ago(one.since),
                ),
              ),
            ),
        ];
      },
    );
  }

  settingsList() {
    const { run, failure, notice } = loader(
      "The settings",
      () => get("settings"),
      (found) => (this.settings.value = found),
    );
    effect(() => me.value?.is_operator && run());
    const needle = signal("");
    const changedOnly = signal(true);
    const fits = (one) =>
      one.name.toLowerCase().includes(needle.value.toLowerCase()) &&
      (!changedOnly.value || needle.value || !one.is_default);
    const list = each(
      h("dl", { class: "settings" }),
      () => (this.settings.value?.settings ?? []).filter(fits),
      (one) => one.name,
      (one) => {
        const { name, value, description, is_default: usual } = one.peek();
        return h(
          "div",
          {},
          h("dt", {}, name),
          h(
            "dd",
            {},
            h("code", { dir: "auto" }, value == null ? "not set" : String(value)),
            usual ? null : h("span", { class: "tag" }, "changed"),
            h("small", {}, description),
          ),
        );
      },
    );
    return h(
      "section",
      { hidden: () => !this.settings.value && !failure.value },
      h(
        "header",
        {},
        h("h2", {}, "Settings in force"),
        h(
          "label",
          { class: "check" },
          h("input", {
            type: "checkbox",
            checked: true,
            onchange: (event) => (changedOnly.value = event.target.checked),
          }),
          "changed only",
        ),
        h("input", {
          type: "search",
          placeholder: "Find",
          "aria-label": "Find a setting",
          oninput: (event) => (needle.value = event.target.value),
        }),
      ),
      notice,
      list,
    );
  }
}

/** Returns the answers a second, of the minutes since the first answer. */
function perSecond(answered, minutes) {
  const first = minutes.findIndex((one) => one.answered);
  return first < 0 ? "0" : (answered / (60 * (minutes.length - first))).toPrecision(2);
}

async function signOut() {
  await call("DELETE", "session");
  signedOut.value = true;
}

customElements.define("rag-admin", Admin);
