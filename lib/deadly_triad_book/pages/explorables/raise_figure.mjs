// "Raise Q here": one value is raised by one step of gradient descent; everything else moves, too. How it is drawn and what it says.
import { activations, draw, gradient, inner, raised, values } from "./network.mjs";
import { axes, circle, clip, handle, line, number, path, scale } from "./drawing.mjs";

const PLACES = Array.from({ length: 61 }, (_, i) => -1 + i / 30);
const ACTION = { left: 0, right: 1 };

export const figure = {
  knobs: [
    { key: "x", label: "place of the pair", min: -1, max: 1, by: 0.05, show: (v) => v.toFixed(2).replace("-", "−") },
    { key: "action", label: "its action", choices: ["right", "left"] },
    { key: "by", label: "raise it by", min: 0.02, max: 2, by: 0.01, log: true, factor: "update", show: (v) => number(v, 2) },
    { key: "activation", label: "activation", choices: activations },
    { key: "depth", label: "hidden layers", min: 1, max: 4, by: 1, factor: "K", show: (v) => v.toFixed(0) },
    { key: "scale", label: "inputs are multiplied by", min: 0.25, max: 16, by: 0.01, log: true, factor: "K", show: (v) => number(v, 2) },
    { key: "seed", label: "seed of the network", min: 0, max: 20, by: 1, show: (v) => v.toFixed(0) },
  ],
  state: { x: 1 / 3, action: "right", by: 0.3, activation: "tanh", depth: 2, scale: 1, seed: 0 },
  panels: { values: curves, moves },
  says,
  alarm: () => false,
};

const network = ({ seed, depth, activation, scale }) => ({ layers: draw(Math.round(seed), [1, ...Array(Math.round(depth)).fill(32), 2]), activation, scale });

/** What moved at each place, for both actions: in the network after the step, and as the kernel says; shares of what was asked for. */
export function shares(state, places) {
  const before = network(state), pair = [state.x, ACTION[state.action]], after = raised(before, pair, state.by);
  const g = gradient(before, ...pair), whole = inner(g, g);
  return places.map((place) => {
    const old = values(before, place), now = values(after, place);
    return [0, 1].map((a) => ({ moved: (now[a] - old[a]) / state.by, kernel: inner(g, gradient(before, place, a)) / whole }));
  });
}

function says(state) {
  const [here, far] = shares(state, [state.x, state.x > 0 ? -1 : 1]), a = ACTION[state.action];
  const percent = (share) => `${number(100 * share, 2)} %`;
  return `The step asks this one value for ${number(state.by, 2)} more. It moves by ${percent(here[a].moved)} of that, the other action at the same place by ${percent(here[1 - a].moved)}, the same action at the far end by ${percent(far[a].moved)}.`;
}

const X = scale(-1, 1, 44, 284);
const legendOf = (action) => (action === "right" ? "right: solid, left: dashed" : "left: solid, right: dashed");

/** The values of both actions before and after. */
function curves(state) {
  const before = network(state), a = ACTION[state.action], after = raised(before, [state.x, a], state.by), y = scale(-1.5, 1.5, 240, 12);
  const curve = (net, action) => PLACES.map((place) => [X(place), y(values(net, place)[action])]);
  const here = values(before, state.x)[a], now = values(after, state.x)[a];
  return {
    title: `The values before (thin) and after; ${legendOf(state.action)}`,
    alt: "The values of both actions over the places of the line, before the step and after it. A ring marks the value that is raised.",
    body: [
      axes({ x: X, y }, { across: "place", up: "value", ticksX: [-1, 0, 1], ticksY: [-1, 0, 1] }),
      clip("ex-values-clip", { x: X, y }),
      path(curve(before, 1 - a), "ex-thin ex-dashed", "ex-values-clip"), path(curve(before, a), "ex-thin", "ex-values-clip"),
      path(curve(after, 1 - a), "ex-run ex-dashed", "ex-values-clip"), path(curve(after, a), "ex-run", "ex-values-clip"),
      line(X(state.x), y(here), X(state.x), y(now), "ex-step"),
      handle(X(state.x), y(here), "pair"),
    ],
    drag: { pair: (px) => ({ x: Number(X.inverse(px).toFixed(2)) }) },
  };
}

/** What moved, as a share of what was asked for. */
function moves(state) {
  const y = scale(-1, 2, 240, 12), a = ACTION[state.action], all = shares(state, PLACES);
  const curve = (action, kind) => all.map((at, i) => [X(PLACES[i]), y(at[action][kind])]);
  return {
    title: "What moved, as a share of what was asked (dots: a row of K)",
    alt: "The share of the step by which each value moves, over the places of the line, for both actions; dots give what the row of the kernel says. At the chosen pair the row is one.",
    body: [
      axes({ x: X, y }, { across: "place", up: "share", ticksX: [-1, 0, 1], ticksY: [-1, 0, 1, 2] }),
      clip("ex-moves-clip", { x: X, y }),
      line(X(-1), y(0), X(1), y(0), "ex-thin"),
      path(curve(1 - a, "moved"), "ex-run ex-dashed", "ex-moves-clip"), path(curve(a, "moved"), "ex-run", "ex-moves-clip"),
      `<g clip-path="url(#ex-moves-clip)">${[a, 1 - a].flatMap((action) => curve(action, "kernel").filter((_, i) => i % 4 === 0)).map(([px, py]) => circle(px, py, 2.5, "ex-kernel")).join("")}</g>`,
      circle(X(state.x), y(1), 5, "ex-now"),
    ],
  };
}
