// "Find a norm": an ellipse to drag, its image under a matrix, and the powers of the matrix in the norm whose ball it is.
import { MATRICES, ball, modulus, powers, radius } from "./norm.mjs";
import { axes, circle, clip, handle, line, number, path, scale, text } from "./drawing.mjs";

const POINTS = 180, STEPS = 20, LONGEST = 15, REACH = 4;

export const figure = {
  knobs: [
    { key: "matrix", label: "matrix M", choices: Object.keys(MATRICES) },
    { key: "ratio", label: "long axis over short axis", min: 1, max: LONGEST, by: 0.005, log: true, factor: "K", show: (v) => number(v, 3) },
    { key: "tilt", label: "tilt of the long axis, degrees", min: -90, max: 90, by: 1, factor: "K", show: (v) => String(Math.round(v)).replace("-", "−") },
  ],
  state: { matrix: "shear", ratio: 1, tilt: 0 },
  panels: { ball: plane, powers: sizes },
  says,
  alarm: (state) => radius(MATRICES[state.matrix]) >= 1,
};

const inside = (state) => modulus(state, MATRICES[state.matrix]) < 1;

function says(state) {
  const matrix = MATRICES[state.matrix], now = modulus(state, matrix), floor = radius(matrix);
  const norm = state.ratio < 1.005 ? "In the Euclidean norm (a circle)" : "In the norm of this ellipse";
  const fits = now < 1 ? "The image lies inside the ball: it contracts" : "The image leaves the ball: it is no contraction in this norm";
  const fate = floor >= 1 ? "and in no other, and so it diverges" : now < 1 ? "and so it settles" : "yet it settles";
  return `${norm} the ${state.matrix} has the modulus ${number(now, 3)}; no norm has one below ${number(floor, 3)}. ${fits}, ${fate}.`;
}

const X = scale(-REACH, REACH, 20, 280), Y = scale(-REACH, REACH, 266, 6);

/** The ball of the norm and its image; what leaves the ball is drawn thick. */
function plane(state) {
  const matrix = MATRICES[state.matrix], around = ball(state, matrix, POINTS), at = ([x, y]) => [X(x), Y(y)], [[a, b], [c, d]] = matrix.map((row) => row.map((v) => String(v).replace("-", "−")));
  const outside = [];
  let arc = null;
  for (const { image, length } of around) {
    if (length <= 1) arc = null;
    else if (arc) arc.push(at(image));
    else outside.push((arc = [at(image)]));
  }
  const long = Math.sqrt(state.ratio), angle = (state.tilt * Math.PI) / 180;
  return {
    title: `The ball (line) and its image (dashes) under M = (${a} ${b}; ${c} ${d}); drag the ring`,
    alt: "The plane with an ellipse around zero, the unit ball of a norm, and its dashed image under the matrix. Where the image leaves the ball it is drawn thick. A ring at the end of the long axis turns and stretches the ellipse.",
    body: [
      line(X(-REACH), Y(0), X(REACH), Y(0), "ex-thin"), line(X(0), Y(-REACH), X(0), Y(REACH), "ex-thin"),
      clip("ex-norm-clip", { x: X, y: Y }),
      path(around.map(({ point }) => at(point)), "ex-ball", "ex-norm-clip"),
      path(around.map(({ image }) => at(image)), "ex-run ex-dashed", "ex-norm-clip"),
      ...outside.map((points) => path(points, "ex-step", "ex-norm-clip")),
      handle(X(long * Math.cos(angle)), Y(long * Math.sin(angle)), "axis"),
      text(278, 262, inside(state) ? "fits" : "leaves the ball", "ex-strong", "end"),
    ],
    drag: { axis: (px, py) => dragged(X.inverse(px), Y.inverse(py)) },
  };
}

/** The ellipse whose long axis ends where the hand is; beyond a quarter turn it is the other end. */
function dragged(x, y) {
  const tilt = (Math.atan2(y, x) * 180) / Math.PI;
  return { ratio: Math.min(LONGEST, Math.max(1, x * x + y * y)), tilt: tilt > 90 ? tilt - 180 : tilt < -90 ? tilt + 180 : tilt };
}

/** The sizes of the powers in this norm and in the Euclidean one, and below them those of the spectral radius. */
function sizes(state) {
  const matrix = MATRICES[state.matrix], x = scale(0, STEPS, 52, 284), y = scale(-4, 1, 240, 12);
  const curve = (values) => values.map((size, k) => [x(k), y(Math.min(2, Math.log10(size)))]), floor = radius(matrix);
  const here = powers(state, matrix, STEPS), first = curve(here)[1];
  return {
    title: "The size of the n-th power of M in this norm (line) and in the Euclidean one (dots); dashes: no norm goes below",
    alt: "The sizes of the powers of the matrix in the chosen norm and in the Euclidean norm against the power, on a logarithmic axis, and below both a dashed line, the powers of the spectral radius. A ring marks the first power, whose size is the modulus.",
    body: [
      axes({ x, y }, { across: "n", up: "size", ticksX: [0, 5, 10, 15, 20], ticksY: [-4, -3, -2, -1, 0, 1], showY: (v) => ({ "-4": "10⁻⁴", "-3": "10⁻³", "-2": "0.01", "-1": "0.1", 0: "1", 1: "10" })[v] }),
      clip("ex-powers-clip", { x, y }),
      line(x(0), y(0), x(STEPS), y(0), "ex-thin"),
      path(curve(Array.from({ length: STEPS + 1 }, (_, k) => floor ** k)), "ex-target", "ex-powers-clip"),
      path(curve(powers({ ratio: 1, tilt: 0 }, matrix, STEPS)), "ex-other ex-dotted", "ex-powers-clip"),
      path(curve(here), figure.alarm(state) ? "ex-run-alarm" : "ex-run", "ex-powers-clip"),
      first[1] >= 12 ? circle(...first, 5, "ex-now") : "",
    ],
  };
}
