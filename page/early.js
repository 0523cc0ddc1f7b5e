// What works before the modules of the page are here, and what happens where one of them does not come.

// A question can be typed, and is asked once that is possible.
{
  const screen = location.hash.replace(/^#\/?/, "").split(/[/?]/)[0];
  if (screen && screen !== "ask") document.documentElement.classList.add("elsewhere");
  // The field is where it will be, beside the document.
  if (/[?&]view=/.test(location.hash)) document.documentElement.classList.add("early-viewing");
}
addEventListener("keydown", (event) => {
  const early = event.target.closest?.("#early");
  if (!early || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!event.target.value.trim()) return;
  early.dataset.sent = "";
  event.target.readOnly = true;
});

/** Returns what was typed early, here or before the page was loaded again; null if nothing was. */
function takeEarly() {
  const early = document.getElementById("early");
  const field = early?.querySelector("textarea");
  const kept = JSON.parse(sessionStorage.getItem("early") ?? "null");
  sessionStorage.removeItem("early");
  if (!field || (!field.value && kept)) return kept;
  return { text: field.value, focused: field === document.activeElement, sent: "sent" in early.dataset };
}

// The page is loaded again where one of its files did not arrive: the network changed, or the server starts. First the
// script asks whether the server is back, and less and less often.
const isPart = (node) => node.matches?.("script, link[rel=stylesheet]");
let waiting = false;
async function reload(seconds) {
  waiting = true;
  await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  const answer = await fetch(location.href, { cache: "no-store" }).catch(() => null);
  if (answer?.ok) {
    const tries = Number(sessionStorage.getItem("reloads")) + 1;
    sessionStorage.setItem("reloads", tries);
    // A file that is missing for good must not have the page load for ever: its sentence has a link.
    if (tries > 5) return;
    sessionStorage.setItem("early", JSON.stringify(takeEarly()));
    location.reload();
  } else reload(Math.min(2 * seconds, 30));
}
addEventListener("error", ({ target }) => isPart(target) && !waiting && reload(3), true);
