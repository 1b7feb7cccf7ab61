// How the figure "Baird" is drawn and what it says. Each function makes text of a state; the same text is in the page before any script runs.
import { boundary, errorFactor, largestStep, run, sweepsTo, verdict } from "./baird.mjs";
import { arrow, axes, circle, clip, handle, line, number, path, scale, text } from "./drawing.mjs";

const SWEEPS = 400;
const START = [3, 12];

export const figure = {
  knobs: [
    { key: "g", label: "discount γ", min: 0.5, max: 0.999, by: 0.001, factor: "T", show: (v) => v.toFixed(3) },
    { key: "p", label: "share p of solid", min: 0.01, max: 0.99, by: 0.01, factor: "D", show: (v) => v.toFixed(2) },
    { key: "a", label: "step size α", min: 0.001, max: 1, by: 0.01, log: true, factor: "update", show: (v) => number(v, 2) },
    { key: "n", label: "look after so many sweeps", min: 0, max: SWEEPS, by: 1, plays: true, show: (v) => v.toFixed(0) },
  ],
  start: [
    { key: "x", label: "start of the upper values", min: -30, max: 30, by: 1, show: (v) => v.toFixed(0) },
    { key: "y", label: "start of the lower value", min: -30, max: 30, by: 1, show: (v) => v.toFixed(0) },
  ],
  state: { g: 0.99, p: 1 / 7, a: 0.1, n: 20, x: START[0], y: START[1] },
  panels: { map, star, plane, error },
  says,
  alarm: (state) => verdict(problem(state), state.a) !== "settles",
};

const problem = ({ g, p }) => ({ discount: g, solid: p });

export function says(state) {
  const { g, p, a } = state, factor = errorFactor(problem(state), a), what = verdict(problem(state), a);
  const setting = `With γ = ${number(g, 3)}, p = ${number(p, 2)} and α = ${number(a, 2)}`;
  const sweeps = Math.abs(factor - 1) < 1e-6 ? null : number(sweepsTo(factor), 2);
  if (what === "settles") return `${setting} it settles: in the end the error falls to a tenth in ${sweeps ?? "very many"} sweeps.`;
  const doubling = sweeps ? `in the end the error doubles in ${sweeps} sweeps` : "in the end the error neither grows nor falls";
  if (what === "too large a step") return `${setting} the step is too large: ${doubling}. Every step below ${number(largestStep(problem(state)), 2)} settles.`;
  return `${setting} it diverges: ${doubling}, and no step settles it.`;
}

const MAP = { x: scale(0.5, 1, 44, 284), y: scale(0, 1, 240, 12) };

/** Where it settles, over the discount and the share of the solid action, for the step of the state. */
function map(state) {
  const { x, y } = MAP, edge = [];
  for (let g = 5 / 6; g < 1; g += 1 / 240) edge.push([x(g), y(boundary(g))]);
  edge.push([x(1), y(1)]);
  const parts = [], columns = 120, rows = 228, wide = 240 / columns, high = 228 / rows;
  for (let i = 0; i < columns; i++) {
    const g = 0.5 + (0.5 * (i + 0.5)) / columns;
    let from = null;
    for (let j = 0; j <= rows; j++) {
      const tooLarge = j < rows && verdict({ discount: g, solid: (j + 0.5) / rows }, state.a) === "too large a step";
      if (tooLarge) from ??= j;
      else if (from !== null) {
        parts.push(`M${(44 + i * wide).toFixed(1)} ${(240 - from * high).toFixed(1)}h${wide.toFixed(2)}v${(-(j - from) * high).toFixed(1)}h${(-wide).toFixed(2)}z`);
        from = null;
      }
    }
  }
  return {
    title: "Where does it settle?",
    alt: "Map over the discount, across, and the share of the solid action, upwards. A region at the lower right, marked as diverging at every step, begins at a discount of five sixths and reaches up to the whole height at a discount of one. A ring marks the present setting.",
    body: [
      axes({ x, y }, { across: "discount γ", up: "p", ticksX: [0.5, 0.6, 0.7, 0.8, 0.9, 1], ticksY: [0, 0.5, 1] }),
      parts.length ? `<path class="ex-unsure" d="${parts.join("")}"/>` : "",
      path([...edge, [x(1), y(0)], [x(5 / 6), y(0)]], "ex-alarm-area"),
      path(edge, "ex-alarm-line"),
      text(x(0.62), y(0.55), "settles", "ex-strong"),
      text(x(0.995), y(0.03), "never settles", "ex-strong", "end"),
      verdict({ discount: 0.53, solid: 0.94 }, state.a) === "too large a step" ? text(x(0.53), y(0.94), "step too large", "ex-strong") : "",
      handle(x(state.g), y(state.p), "map"),
    ],
    drag: { map: (px, py) => ({ g: x.inverse(px), p: y.inverse(py) }) },
  };
}

/** The seven states; a circle is as large as the value that the run gives it after n sweeps, full where it is positive. */
function star(state) {
  const [upper, lower] = run(problem(state), state.a, [state.x, state.y], state.n)[state.n];
  const size = (value) => 4 + Math.min(36, 9 * Math.log10(1 + Math.abs(value) / 2));
  const kind = (value) => `${value < 0 ? "ex-hollow" : "ex-full"}${Math.abs(value) > 100 ? " ex-huge" : ""}`;
  const places = [0, 1, 2, 3, 4, 5].map((i) => [30 + 48 * i, 70]);
  return {
    title: `The seven states after ${state.n} sweeps; all true values are 0`,
    alt: "Six circles in a row, the upper states, joined to one below, the lower state. A circle is as large as its state's value, on a logarithmic scale, and full where the value is positive.",
    body: [
      ...places.map(([px, py]) => line(px, py, 150, 200, "ex-thin")),
      ...places.map(([px, py]) => circle(px, py, Math.min(22, size(upper)), kind(upper))),
      circle(150, 200, size(lower), kind(lower)),
      text(150, 30, `each upper value: ${number(upper, 3)}`, "", "middle"),
      text(150, 262, `lower value: ${number(lower, 3)}`, "", "middle"),
    ],
  };
}

const PLANE = { x: scale(-40, 40, 32, 284), y: scale(-40, 40, 240, 12) };

/** The run in the plane of the upper and the lower value. */
function plane(state) {
  const { x, y } = PLANE, steps = [];
  for (let i = -3; i <= 3; i++)
    for (let j = -3; j <= 3; j++) {
      const [here, next] = run(problem(state), 0.6, [12 * i, 12 * j], 1);
      const length = Math.hypot(next[0] - here[0], next[1] - here[1]);
      if (length > 0) steps.push(arrow(x(here[0]), y(here[1]), (next[0] - here[0]) / length, -(next[1] - here[1]) / length, 5 + Math.min(8, 2 * length)));
    }
  const points = run(problem(state), state.a, [state.x, state.y], SWEEPS);
  const end = points.findIndex(([a, b]) => Math.max(Math.abs(a), Math.abs(b)) > 60);
  const shown = points.slice(0, end < 0 ? undefined : end + 1).map(([a, b]) => [x(a), y(b)]);
  return {
    title: "The run; dashes: upper = γ · lower",
    alt: "The plane of the upper value, across, and the lower value, upwards. Small arrows say where a sweep leads; a curve follows the run from its start; on a dashed line the upper values equal the discount times the lower one.",
    body: [
      axes({ x, y }, { across: "upper values", up: "lower value", ticksX: [-40, 0, 40], ticksY: [-40, 0, 40] }),
      line(x(0), y(-40), x(0), y(40), "ex-thin"), line(x(-40), y(0), x(40), y(0), "ex-thin"),
      `<marker id="ex-head" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="5" markerHeight="5" orient="auto"><path class="ex-dot" d="M0 0L6 3L0 6z"/></marker>`,
      `<g class="ex-field" marker-end="url(#ex-head)">${steps.join("")}</g>`,
      line(x(-40 * state.g), y(-40), x(40 * state.g), y(40), "ex-target"),
      text(x(2), y(-6), "truth"),
      clip("ex-plane-clip", { x, y }),
      path(shown, `${figure.alarm(state) ? "ex-run-alarm" : "ex-run"}`, "ex-plane-clip"),
      circle(x(0), y(0), 3.5, "ex-truth"),
      ...[points[state.n]].filter(([a, b]) => Math.max(Math.abs(a), Math.abs(b)) < 40).map(([a, b]) => circle(x(a), y(b), 5, "ex-now")),
      handle(x(state.x), y(state.y), "start"),
    ],
    drag: { start: (px, py) => ({ x: Math.round(x.inverse(px)), y: Math.round(y.inverse(py)) }) },
  };
}

const ERROR = { x: scale(0, SWEEPS, 44, 284), y: scale(-2, 5, 240, 12) };

/** The largest value error against sweeps, on a logarithmic scale. */
function error(state) {
  const { x, y } = ERROR;
  const sizes = run(problem(state), state.a, [state.x, state.y], SWEEPS).map(([a, b]) => Math.log10(Math.max(Math.abs(a), Math.abs(b), 1e-9)));
  const points = sizes.map((size, sweep) => [x(sweep), y(Math.min(8, Math.max(-4, size)))]);
  return {
    title: "The error, sweep by sweep",
    alt: "The largest value error against the number of sweeps, on a logarithmic axis.",
    body: [
      axes({ x, y }, { across: "sweeps", up: "largest error", ticksX: [0, 100, 200, 300, 400], ticksY: [-2, 0, 2, 4], showY: (v) => ({ "-2": "0.01", 0: "1", 2: "100", 4: "10⁴" })[v] }),
      clip("ex-error-clip", { x, y }),
      path(points, `${figure.alarm(state) ? "ex-run-alarm" : "ex-run"}`, "ex-error-clip"),
      circle(points[state.n][0], Math.max(12, Math.min(240, points[state.n][1])), 5, "ex-now"),
    ],
  };
}
