// A small chart of the last hour; screen readers hear its title and the last values.

import { h } from "./reactive.js";

const [WIDTH, HEIGHT, BOTTOM] = [300, 90, 4];

/** Returns a figure: a line for each series of `[name, value of a minute]`. A value of null is a gap. */
export function lineChart(title, minutes, series) {
  const most = Math.max(1e-9, ...minutes.flatMap((one) => series.map(([, value]) => value(one) ?? 0)));
  const x = (index) => (index * WIDTH) / Math.max(minutes.length - 1, 1);
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - 2 * BOTTOM);
  const lines = series.map(([, value], number) =>
    h("svg:path", { class: `series s${number}`, d: path(minutes.map(value), x, y) }),
  );
  const last = (value) => minutes.map(value).findLast((one) => one != null);
  const shown = (number) => (number == null ? "–" : number.toLocaleString(undefined, { maximumFractionDigits: 1 }));
  return h(
    "figure",
    { class: "chart" },
    h("figcaption", {}, title, h("span", { class: "most" }, `most ${most < 1e-6 ? 0 : shown(most)}`)),
    h(
      "svg:svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        preserveAspectRatio: "none",
        role: "img",
        "aria-label": `${title}: ${series.map(([name, value]) => `${name} ${shown(last(value))}`).join(", ")}`,
      },
      h("svg:path", { class: "axis", d: `M0 ${HEIGHT - BOTTOM}H${WIDTH}` }),
      lines,
    ),
    h(
      "ul",
      { class: "legend" },
      series.map(([name], number) => h("li", { class: `s${number}` }, name)),
    ),
  );
}

/** Returns the path of a line with gaps; a value between two gaps is a dot. */
function path(values, x, y) {
  let pen = "M";
  return values
    .map((value, index) => {
      if (value == null) {
        pen = "M";
        return "";
      }
      const point = `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}${pen === "M" ? "h.1" : ""}`;
      pen = "L";
      return point;
    })
    .join("");
}
