// "A value that chases another": TD repeated on one transition, in a small network. How it is drawn and what it says.
import { activations, chase, draw, kernel, values } from "./network.mjs";
import { axes, clip, handle, line, number, path, scale } from "./drawing.mjs";

const PLACES = Array.from({ length: 61 }, (_, i) => -1 + i / 30);
const UPDATES = 300;

export const figure = {
  knobs: [
    { key: "here", label: "place of the value that is moved", min: -1, max: 1, by: 0.05, show: (v) => v.toFixed(2).replace("-", "−") },
    { key: "there", label: "place of its target", min: -1, max: 1, by: 0.05, factor: "T", show: (v) => v.toFixed(2).replace("-", "−") },
    { key: "g", label: "discount γ", min: 0.5, max: 1, by: 0.01, factor: "T", show: (v) => v.toFixed(2) },
    { key: "rate", label: "step, as a share of the way", min: 0.05, max: 1, by: 0.05, factor: "update", show: (v) => v.toFixed(2) },
    { key: "update", label: "update", choices: ["as it is", "divided by the kernel"], factor: "K" },
    { key: "activation", label: "activation", choices: activations },
    { key: "depth", label: "hidden layers", min: 1, max: 4, by: 1, factor: "K", show: (v) => v.toFixed(0) },
    { key: "seed", label: "seed of the network", min: 0, max: 20, by: 1, show: (v) => v.toFixed(0) },
  ],
  state: { here: 1 / 3, there: 1, g: 0.95, rate: 0.5, update: "as it is", activation: "relu", depth: 1, seed: 0 },
  panels: { line: places, run: runs },
  says,
  alarm: (state) => ranAway(run(state)),
};

const network = ({ seed, depth, activation }) => ({ layers: draw(Math.round(seed), [1, ...Array(Math.round(depth)).fill(32), 2]), activation, scale: 1 });
const run = (state) =>
  chase(network(state), [state.here, 1], [state.there, 1], { discount: state.g, rate: state.rate, divided: state.update !== "as it is", n: UPDATES });
const ranAway = (seen) => seen.length <= UPDATES;

function says(state) {
  const seen = run(state), [a, b] = seen.at(-1), net = network(state);
  const ratio = (state.g * kernel(net, [state.here, 1], [state.there, 1])) / kernel(net, [state.here, 1], [state.here, 1]);
  const pull = state.update === "as it is" ? `At the start, an update moves the target ${number(ratio, 2)} times as far as the value. ` : "The target is asked to stay. ";
  if (ranAway(seen)) return `${pull}It diverges: after ${seen.length - 1} updates the two add up to more than a million.`;
  return `${pull}After ${UPDATES} updates the value is ${number(a, 2)} and its target ${number(state.g * b, 2)}; the target began at ${number(state.g * seen[0][1], 2)}.`;
}

const X = scale(-1, 1, 44, 284);

/** The values of the action over the line, at the start. */
function places(state) {
  const y = scale(-0.6, 0.6, 240, 12), net = network(state);
  const at = (place) => values(net, place)[1];
  return {
    title: "The values at the start; the ring chases the dot",
    alt: "The values of one action over the places of the line. A ring marks the value that is moved, a dot the value from which its target comes.",
    body: [
      axes({ x: X, y }, { across: "place", up: "value", ticksX: [-1, 0, 1], ticksY: [-0.5, 0, 0.5] }),
      line(X(-1), y(0), X(1), y(0), "ex-thin"),
      path(PLACES.map((place) => [X(place), y(at(place))]), "ex-run"),
      handle(X(state.there), y(at(state.there)), "there", "ex-handle ex-handle-target"),
      handle(X(state.here), y(at(state.here)), "here"),
    ],
    drag: { here: (px) => ({ here: Number(X.inverse(px).toFixed(2)) }), there: (px) => ({ there: Number(X.inverse(px).toFixed(2)) }) },
  };
}

/** The sizes of both, update by update, on a logarithmic scale. */
function runs(state) {
  const seen = run(state), x = scale(0, UPDATES, 52, 284), y = scale(-3, 5, 240, 12);
  const curve = (which, factor) => seen.map((pair, k) => [x(k), y(Math.max(-5, Math.log10(Math.max(1e-9, Math.abs(factor * pair[which])))))]);
  return {
    title: "Update by update: the size of the value, and of its target (dashes)",
    alt: "The size of the value that is moved and of its target, dashed, against the number of updates, on a logarithmic axis.",
    body: [
      axes({ x, y }, { across: "updates", up: "size", ticksX: [0, 100, 200, 300], ticksY: [-2, 0, 2, 4], showY: (v) => ({ "-2": "0.01", 0: "1", 2: "100", 4: "10⁴" })[v] }),
      clip("ex-chase-clip", { x, y }),
      path(curve(0, 1), ranAway(seen) ? "ex-run-alarm" : "ex-run", "ex-chase-clip"),
      path(curve(1, state.g), "ex-target", "ex-chase-clip"),
    ],
  };
}
