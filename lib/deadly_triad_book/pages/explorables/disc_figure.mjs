// "The step and the disc": how it is drawn and what it says.
import { errorFactor, largestStep, orbit } from "./disc.mjs";
import { axes, clip, handle, line, number, path, scale, text } from "./drawing.mjs";

const STEPS = 60;

export const figure = {
  knobs: [
    { key: "re", label: "λ, real part", min: -1, max: 4, by: 0.05, show: (v) => number(v, 3) },
    { key: "im", label: "λ, imaginary part", min: -3, max: 3, by: 0.05, show: (v) => number(v, 3) },
    { key: "a", label: "step size α", min: 0.01, max: 3, by: 0.01, log: true, factor: "update", show: (v) => number(v, 2) },
  ],
  state: { re: 0.5, im: 1, a: 0.5 },
  panels: { disc, error },
  says,
  alarm: (state) => errorFactor([state.re, state.im], state.a) > 1 + 1e-9,
};

const written = ({ re, im }) => (im === 0 ? number(re, 2) : `${number(re, 2)} ${im < 0 ? "−" : "+"} ${number(Math.abs(im), 2)} i`);

function says(state) {
  const lambda = [state.re, state.im], factor = errorFactor(lambda, state.a), largest = largestStep(lambda);
  const start = `With λ = ${written(state)} and α = ${number(state.a, 2)} a step multiplies the error by ${number(factor, 4)}`;
  if (Math.abs(factor - 1) <= 1e-9) return `${start}: it stays as large as it is.`;
  if (factor < 1) return `${start}: it settles. Every step below ${number(largest, 2)} does.`;
  return `${start}: it diverges. ${largest === 0 ? "No step settles it." : `Steps below ${number(largest, 2)} settle it.`}`;
}

const X = scale(-1.1, 3.1, 30, 290), Y = scale(-2.1, 2.1, 266, 6), UNIT = X(1) - X(0);

/** Where alpha times lambda lies, and the disc in which it must lie. */
function disc(state) {
  const { re, im, a } = state, size = Math.hypot(re, im) || 1, kind = figure.alarm(state) ? "ex-run-alarm" : "ex-run";
  return {
    title: "αλ must lie in the disc; drag it, and slide α",
    alt: "The complex plane with a disc of radius one around the point one. A ray leads from zero through lambda; the step size moves a ring, alpha times lambda, along it.",
    body: [
      `<circle class="ex-disc" cx="${X(1)}" cy="${Y(0)}" r="${UNIT}"/>`,
      line(X(-1.1), Y(0), X(3.1), Y(0), "ex-thin"), line(X(0), Y(-2.1), X(0), Y(2.1), "ex-thin"),
      ...[-1, 1, 2, 3].map((tick) => text(X(tick), Y(0) + 15, String(tick).replace("-", "−"), "", "middle")),
      ...[-1, 1].map((tick) => text(X(0) - 5, Y(tick) + 4, tick < 0 ? "−i" : "i", "", "end")),
      line(X(0), Y(0), X((5 * re) / size), Y((5 * im) / size), "ex-dashed"),
      line(X(a * re), Y(a * im), X(1), Y(0), kind),
      handle(X(a * re), Y(a * im), "lambda"),
    ],
    drag: { lambda: (px, py, now) => ({ re: Math.min(4, Math.max(-1, X.inverse(px) / now.a)), im: Math.min(3, Math.max(-3, Y.inverse(py) / now.a)) }) },
  };
}

/** The error along the eigenvector, real part and size, step by step. */
function error(state) {
  const x = scale(0, STEPS, 44, 284), y = scale(-2, 2, 240, 12), kind = figure.alarm(state) ? "ex-run-alarm" : "ex-run";
  const errors = orbit([state.re, state.im], state.a, STEPS), sizes = errors.map((z) => Math.hypot(...z));
  const within = (value) => Math.max(-3, Math.min(3, value));
  return {
    title: "The error, step by step; dashes: its size",
    alt: "The real part of the error along the eigenvector against the number of steps, between two dashed curves, which are plus and minus its size.",
    body: [
      axes({ x, y }, { across: "steps", up: "error", ticksX: [0, 20, 40, 60], ticksY: [-2, -1, 0, 1, 2] }),
      clip("ex-disc-clip", { x, y }),
      line(x(0), y(0), x(STEPS), y(0), "ex-thin"),
      ...[1, -1].map((sign) => path(sizes.map((size, k) => [x(k), y(within(sign * size))]), "ex-dashed", "ex-disc-clip")),
      path(errors.map(([re], k) => [x(k), y(within(re))]), kind, "ex-disc-clip"),
    ],
  };
}
