// "A target that waits": how it is drawn and what it says.
import { EXAMPLES, factors, run, settling } from "./target.mjs";
import { axes, circle, clip, handle, line, number, path, scale, text } from "./drawing.mjs";

const UPDATES = 300, MOST = 300, REACH = 20;

export const figure = {
  knobs: [
    { key: "example", label: "example", choices: Object.keys(EXAMPLES) },
    { key: "n", label: "the target waits for n updates", min: 1, max: MOST, by: 0.01, log: true, factor: "T", show: (v) => String(Math.round(v)) },
    { key: "g", label: "discount γ", min: 0.5, max: 0.999, by: 0.001, factor: "T", show: (v) => v.toFixed(3) },
    { key: "a", label: "step size α", min: 0.02, max: 0.5, by: 0.01, log: true, factor: "update", show: (v) => number(v, 2) },
    { key: "k", label: "look after so many updates", min: 0, max: UPDATES, by: 1, plays: true, show: (v) => v.toFixed(0) },
  ],
  state: { example: "Baird", n: 1, g: 0.95, a: 0.1, k: 90 },
  panels: { run: runs, map },
  says,
  alarm: (state) => factorAt(state) > 1 + 1e-9,
};

const setting = ({ example, g, a, n }) => ({ example, discount: g, step: a, n: Math.round(n) });
const factorAt = (state) => factors(setting(state), Math.round(state.n)).at(-1);

function says(state) {
  const now = setting(state), factor = factorAt(state), what = settling(factors(now, MOST));
  const waits = now.n === 1 ? "with a target that never waits (plain TD)" : `with a target that waits for ${now.n} updates`;
  const fate = Math.abs(factor - 1) <= 1e-9 ? "it stays as large as it is" : factor > 1 ? "it diverges" : "it settles";
  const others = { all: "all do", none: "none does", some: "some do" }[what] ?? `those ${what[0]} ${what[1]}${what[0] === "from" ? " on" : ""} do`;
  return `${now.example} ${waits}: from one copy to the next the error is, in the end, multiplied by ${number(factor, 4)}, so ${fate}. Which n settle it? Of those up to ${MOST}, ${others}.`;
}

/** The two values and the target that they chase, update by update. */
function runs(state) {
  const x = scale(0, UPDATES, 44, 284), y = scale(-REACH, REACH, 240, 12), seen = run(setting(state), UPDATES), kind = figure.alarm(state) ? "ex-run-alarm" : "ex-run";
  const kept = (value) => Math.max(-2 * REACH, Math.min(2 * REACH, value)), curve = (which) => seen.map((values, k) => [x(k), y(kept(values[which]))]);
  const stairs = seen.flatMap(([, , target], k) => [[x(k), y(kept(target))], [x(k + 1), y(kept(target))]]).slice(0, -1);
  const now = seen[Math.min(UPDATES, Math.round(state.k))], inside = (value) => Math.abs(value) <= REACH;
  return {
    title: "Upper value (line), lower value (dots), and the target of both (dashes), which jumps",
    alt: "The value of the upper states as a line, that of the lower state as a dotted line, and their common target as dashed stairs, against the number of updates. The truth is zero. A disc, a square and a ring mark the moment that is looked at.",
    body: [
      axes({ x, y }, { across: "updates", up: "value", ticksX: [0, 100, 200, 300], ticksY: [-20, -10, 0, 10, 20] }),
      clip("ex-target-clip", { x, y }),
      line(x(0), y(0), x(UPDATES), y(0), "ex-thin"),
      path(stairs, "ex-target", "ex-target-clip"), path(curve(0), kind, "ex-target-clip"), path(curve(1), `${kind} ex-dotted`, "ex-target-clip"),
      inside(now[2]) ? circle(x(state.k), y(now[2]), 7, "ex-ghost") : "",
      inside(now[0]) ? circle(x(state.k), y(now[0]), 4, "ex-now") : "",
      inside(now[1]) ? `<rect class="ex-now" x="${(x(state.k) - 4).toFixed(1)}" y="${(y(now[1]) - 4).toFixed(1)}" width="8" height="8"/>` : "",
    ],
  };
}

const X = scale(0, Math.log10(MOST), 44, 284), Y = scale(0.5, 1.5, 240, 12);

/** The factor of a cycle against n, for the three examples. */
function map(state) {
  const names = Object.keys(EXAMPLES);
  const curves = names.map((example) => factors({ ...setting(state), example }, MOST).map((factor, i) => [X(Math.log10(i + 1)), Y(Math.min(3, factor))]));
  const here = [X(Math.log10(Math.round(state.n))), Math.min(240, Math.max(12, Y(factorAt(state))))];
  const label = (curve) => curve.findLast(([, py]) => py >= 12);
  return {
    title: "By how much a cycle multiplies the error, against n; drag the ring",
    alt: "The factor of the error in a cycle against the number of updates for which the target waits, on a logarithmic axis, for the three examples. A line marks one, above which it diverges. A ring marks the present setting.",
    body: [
      axes({ x: X, y: Y }, { across: "n", up: "factor of a cycle", ticksX: [0, 1, 2], ticksY: [0.5, 1, 1.5], showX: (v) => String(10 ** v) }),
      path([[44, 12], [284, 12], [284, Y(1)], [44, Y(1)]], "ex-alarm-area"),
      line(44, Y(1), 284, Y(1), "ex-alarm-line"),
      text(48, 26, "diverges", "ex-strong"), text(48, 234, "settles", "ex-strong"),
      clip("ex-target-map-clip", { x: X, y: Y }),
      ...curves.map((curve, i) => path(curve, names[i] === state.example ? "ex-run" : "ex-other", "ex-target-map-clip")),
      ...curves.map((curve, i) => text(Math.min(284, label(curve)[0]), Math.max(24, label(curve)[1] - 6), names[i], names[i] === state.example ? "ex-strong" : "", "end")),
      handle(...here, "n"),
    ],
    drag: { n: (px) => ({ n: Math.round(10 ** X.inverse(px)) }) },
  };
}
