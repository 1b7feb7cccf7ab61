// "How much leak?": three numbers that ask whether learning settles, and the settings in which each says so.
import { PROBLEMS, growth, supNorm, theorem } from "./leak.mjs";
import { axes, handle, number, path, scale, text } from "./drawing.mjs";

export const figure = {
  knobs: [
    { key: "c", label: "leak: cosine c of the two gradients", min: -1, max: 1, by: 0.01, factor: "K", show: (v) => number(v, 2) },
    { key: "g", label: "discount γ", min: 0, max: 0.99, by: 0.01, factor: "T", show: (v) => v.toFixed(2) },
    { key: "a", label: "step size α", min: 0.05, max: 3, by: 0.05, factor: "update", show: (v) => number(v, 3) },
    { key: "l", label: "length of the second gradient", min: 0.5, max: 3, by: 0.1, factor: "K", show: (v) => number(v, 2) },
    { key: "problem", label: "problem", choices: Object.keys(PROBLEMS), factor: "T" },
  ],
  state: { c: 0.3, g: 0.9, a: 0.4, l: 1, problem: "both lead to the second" },
  panels: { bars, map },
  says,
  alarm: (state) => growth(setting(state)) > 1 + 1e-9,
};

const setting = ({ c, g, a, l, problem }) => ({ leak: c, discount: g, step: a, length: l, problem });
const RULES = [["theorem", "Theorem 2, any problem: β(K)", theorem], ["norm", "sup norm, this problem", supNorm], ["growth", "what becomes of the error", growth]];

function says(state) {
  const now = setting(state), real = growth(now), promised = theorem(now);
  const start = `With c = ${number(state.c, 2)}, γ = ${number(state.g, 2)} and α = ${number(state.a, 3)} an update multiplies the error, in the end, by ${number(real, 4)}`;
  const fate = Math.abs(real - 1) <= 1e-9 ? "it neither grows nor vanishes" : real > 1 ? "it diverges" : "it settles";
  return `${start}: ${fate}. Theorem 2 says ${number(promised, 4)}, ${promised < 1 ? "and so promises that it settles" : "and so promises nothing"}.`;
}

/** The three numbers, against 1. */
function bars(state) {
  const x = scale(0, 2, 12, 288);
  return {
    title: "Below 1 it contracts",
    alt: "Three bars: the number of Theorem 2, the modulus in the sup norm in this problem, and the factor by which the error is multiplied in the end. A line marks one.",
    body: [
      ...RULES.flatMap(([kind, words, rule], i) => {
        const value = rule(setting(state)), top = 34 + 78 * i;
        return [
          text(12, top - 6, words),
          `<rect class="ex-bar ex-${value >= 1 - 1e-9 ? (kind === "growth" ? "over-real" : "over") : "under"}" x="12" y="${top}" width="${(x(Math.min(2, value)) - 12).toFixed(1)}" height="26"/>`,
          path([[x(1), top - 3], [x(1), top + 29]], "ex-run"), // at the bar alone: the words above it run on across 1
          text(16, top + 42, number(value, 4), "ex-strong"),
        ];
      }),
      text(x(1), 234, "1", "ex-strong", "middle"),
    ],
  };
}

const X = scale(0, 1, 44, 284), Y = scale(-1, 1, 240, 12);

/** Where each of the three numbers is below one, over the discount and the leak, for the step and problem of the state. */
function map(state) {
  const columns = 100, rows = 160, regions = RULES.map(() => []);
  for (let i = 0; i < columns; i++) {
    const g = (i + 0.5) / columns;
    RULES.forEach(([, , rule], r) => {
      let from = null;
      for (let j = 0; j <= rows; j++) {
        const inside = j < rows && rule(setting({ ...state, g, c: -1 + (2 * (j + 0.5)) / rows })) < 1;
        if (inside) from ??= j;
        else if (from !== null) {
          regions[r].push(`M${(44 + 2.4 * i).toFixed(1)} ${(240 - (228 * from) / rows).toFixed(1)}h2.5v${((-228 * (j - from)) / rows).toFixed(1)}h-2.5z`);
          from = null;
        }
      }
    });
  }
  return {
    title: "It settles (pale); the sup norm says so (middle); Theorem 2 does (dark)",
    alt: "Map over the discount, across, and the leak, upwards. The palest region is where learning settles in this problem; inside it lies the region where the sup norm in this problem says so, and inside that, darkest, the region of Theorem 2. A ring marks the present setting.",
    body: [
      axes({ x: X, y: Y }, { across: "discount γ", up: "cosine c", ticksX: [0, 0.5, 1], ticksY: [-1, 0, 1] }),
      ...["growth", "norm", "theorem"].map((kind) => `<path class="ex-region ex-region-${kind}" d="${regions[RULES.findIndex(([name]) => name === kind)].join("") || "M0 0"}"/>`),
      handle(X(state.g), Y(state.c), "setting"),
    ],
    drag: { setting: (px, py) => ({ g: Math.min(0.99, X.inverse(px)), c: Y.inverse(py) }) },
  };
}
