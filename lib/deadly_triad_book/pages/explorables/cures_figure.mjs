// "Pick a disease, pick a cure": how the board is drawn and what it says. The figure is a function of the board that the chapter computes.
import { MARKS, beside, fate, runOf, tally } from "./cures.mjs";
import { axes, circle, clip, line, number, path, scale, text } from "./drawing.mjs";

const ARROWS = ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"];
const FATES = { truth: "settles at the truth", elsewhere: "settles, but not at the truth", unsettled: "has not come to rest", diverges: "diverges" };

export const figure = (board) => {
  const chosen = ({ cure, example }) => board.cells[cure][example];
  return {
    knobs: [
      { key: "example", label: "disease", choices: board.examples },
      { key: "cure", label: "cure", choices: board.cures },
    ],
    state: { cure: board.cures[0], example: board.examples[0] },
    panels: { board: (state, live) => boardOf(board, state, live), run: (state) => run(board, chosen(state)), disc: (state) => disc(chosen(state)), ends: (state) => ends(chosen(state)) },
    says: (state) => says(board, state),
    alarm: (state) => fate(chosen(state)) === "diverges",
    whys: (state) => chosen(state).whys,
  };
};

const named = (cure) => (cure === "none" ? "No cure" : cure);
const sized = (error) => number(error, error > 9.5 ? Math.floor(Math.log10(error)) + 1 : 2);

function says(board, { cure, example }) {
  const { word, error } = board.cells[cure][example], what = fate({ word, error }), start = `${named(cure)} on ${example}:`;
  const { diverges } = tally(board, cure), row = `In this row ${diverges === 0 ? "nothing diverges" : `${diverges} of ${board.examples.length} diverge`}.`;
  if (what === "diverges") return `${start} it diverges. ${row}`;
  if (what === "unsettled") return `${start} after ${board.run} steps it ${word === "slow" ? "still creeps" : "goes round and round"}; its largest error is ${sized(error)} then. ${row}`;
  const pace = word === "settles" ? "" : word === "1" ? ", a digit or more with every update" : `, one digit in ${word} updates`;
  return `${start} it settles${what === "truth" ? " at the truth" : `, but not at the truth: the largest error of a value is ${sized(error)}`}${pace}. ${row}`;
}

const CELL = { x: scale(-0.3, 6, 1, 43), y: scale(-2, 4, 17, 1) };
const placed = ([time, error], { x, y }, low, high) => [x(time === 0 ? -0.3 : Math.log10(time)), y(Math.min(high, Math.max(low, error)))];

/** The whole board: a row for each cure, a column for each example, in a cell the run and its end. */
function boardOf(board, state, live) {
  const cell = (cure, example) => {
    const now = board.cells[cure][example], what = fate(now), points = runOf(board, now).map((point) => placed(point, CELL, -2, 4));
    const spark = `<svg viewBox="0 0 44 18" preserveAspectRatio="none" aria-hidden="true" focusable="false">${path(points, "ex-spark")}</svg>`;
    const here = cure === state.cure && example === state.example, words = `${named(cure)} on ${example}: ${FATES[what]}`;
    const inner = `${spark}<span aria-hidden="true">${MARKS[what]}</span>`, kind = `ex-cell ex-${what}${here ? " ex-here" : ""}`;
    if (!live) return `<td><span class="${kind}" role="img" aria-label="${words}">${inner}</span></td>`;
    return `<td><button type="button" class="${kind}" tabindex="${here ? 0 : -1}" aria-pressed="${here}" aria-label="${words}" data-press="cure=${cure}&amp;example=${example}">${inner}</button></td>`;
  };
  const head = board.examples.map((example) => `<th scope="col"><span>${example}</span></th>`).join("");
  const rows = board.cures.map((cure) => `<tr><th scope="row">${cure}</th>${board.examples.map((example) => cell(cure, example)).join("")}</tr>`);
  return {
    title: "● settles at the truth, ○ settles elsewhere, ∿ does not come to rest, ✗ diverges; the line: the largest error, update by update",
    table: `<table class="ex-board"><thead><tr><td></td>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>`,
    keys: Object.fromEntries(ARROWS.map((key) => [key, beside(board, state, key)])),
  };
}

const kindOf = (cell) => (fate(cell) === "diverges" ? "ex-run-alarm" : "ex-run");

/** The largest error of a value, update by update, on logarithmic scales. */
function run(board, cell) {
  const x = scale(-0.3, 6, 44, 284), y = scale(-3, 5, 240, 12), points = runOf(board, cell).map((point) => placed(point, { x, y }, -4, 6));
  const power = (v) => ({ "-2": "0.01", 0: "1", 2: "100", 4: "10⁴" })[v];
  return {
    title: "The largest error of a value, update by update",
    alt: "The largest error of a value against the number of updates, both on logarithmic axes.",
    body: [
      axes({ x, y }, { across: "updates", up: "largest error", ticksX: [-0.3, 1, 2, 3, 4, 5, 6], ticksY: [-2, 0, 2, 4], showX: (v) => ({ "-0.3": "0", 1: "10", 2: "100", 3: "10³", 4: "10⁴", 5: "10⁵", 6: "10⁶" })[v], showY: power }),
      clip("ex-cures-clip", { x, y }),
      path(points, kindOf(cell), "ex-cures-clip"),
    ],
  };
}

const PX = scale(-1.2, 2.8, 30, 290), PY = scale(-2, 2, 266, 6);
const UNIT_OF = (x) => x(1) - x(0);
const isOut = ([re, im]) => Math.hypot(1 - re, im) > 1 + 1e-9;

function eigenvalue([re, im], which, x, y) {
  const px = x(re), py = y(im), kind = isOut([re, im]) ? "ex-out" : "ex-in";
  if (Math.hypot(re, im) < 1e-9) return circle(px, py, 4, "ex-still");
  return which === 0 ? circle(px, py, 4.5, kind) : `<rect class="${kind}" x="${(px - 4).toFixed(1)}" y="${(py - 4).toFixed(1)}" width="8" height="8"/>`;
}

/** What lies near zero, magnified, where the eigenvalue that decides lies there. */
function lens(spectra) {
  const off = ([re, im]) => Math.hypot(1 - re, im), moving = spectra.map((one) => one.filter((value) => Math.hypot(...value) >= 1e-9));
  const deciding = moving.map((one) => one.reduce((a, b) => (off(a) >= off(b) ? a : b)));
  const reach = 1.5 * Math.max(...deciding.map(([re, im]) => Math.max(Math.abs(re), Math.abs(im) / 0.6)));
  if (reach > 0.25) return [];
  const x = scale(-reach, reach, 186, 290), y = scale(-0.6 * reach, 0.6 * reach, 68, 6);
  const edge = Array.from({ length: 21 }, (_, i) => 0.6 * reach * (i / 10 - 1)).map((v) => [x(1 - Math.sqrt(1 - v * v)), y(v)]);
  const within = ([a, b]) => Math.abs(a) < reach && Math.abs(b) < 0.6 * reach;
  return [
    `<path class="ex-lens" d="M186 6H290V68H186z"/>`, path([...edge, [290, 6], [290, 68]], "ex-disc-area"), path(edge, "ex-run"),
    ...spectra.flatMap((one, which) => one.filter(within).map((value) => eigenvalue(value, which, x, y))),
    text(290, 82, `near 0, × ${number(UNIT_OF(x) / UNIT_OF(PX), 2)}`, "", "end"),
  ];
}
/** The eigenvalues of the step times M, and the disc in which they must lie; with the maximum, for each policy that was greedy in the end. */
function disc({ spectra }) {
  const kept = ([re, im]) => [Math.min(2.75, Math.max(-1.15, re)), Math.min(1.95, Math.max(-1.95, im))];
  const beyond = spectra.flat().some((value) => kept(value).some((part, i) => part !== value[i]));
  return {
    title: `The eigenvalues of step · M, and the disc that settles${spectra.length > 1 ? "; dots and squares: two policies" : ""}${beyond ? "; some lie beyond the edge" : ""}`,
    alt: "The complex plane with a disc of radius one around the point one, and the eigenvalues of the step times the matrix of the cure. Those outside the disc are larger and have a different colour. Where the one that decides is near zero, a lens shows it.",
    body: [
      `<circle class="ex-disc" cx="${PX(1)}" cy="${PY(0)}" r="${UNIT_OF(PX)}"/>`,
      line(PX(-1.2), PY(0), PX(2.8), PY(0), "ex-thin"), line(PX(0), PY(-2), PX(0), PY(2), "ex-thin"),
      ...[-1, 1, 2].map((tick) => text(PX(tick), PY(0) + 17, String(tick).replace("-", "−"), "", "middle")),
      ...[-1, 1].map((tick) => text(PX(0) - 5, PY(tick) + 4, tick < 0 ? "−i" : "i", "", "end")),
      ...spectra.flatMap((one, which) => one.map((value) => eigenvalue(isOut(value) ? kept(value) : value, which, PX, PY))),
      ...lens(spectra),
    ],
  };
}

/** The values in the end, state by state or pair by pair, and the true ones. */
function ends(cell) {
  const { truth, values } = cell, all = [0, ...truth, ...(values ?? [])], low = Math.min(...all), high = Math.max(...all), room = 0.08 * (high - low || 1);
  const x = scale(-0.5, truth.length - 0.5, 44, 284), y = scale(low - room, high + room, 240, 12), wide = Math.min(14, 100 / truth.length);
  const ticks = [...new Set([low, 0, high].map((v) => Number(v.toPrecision(2))))];
  return {
    title: values ? `${fate(cell) === "unsettled" ? "Where it is in the end" : "Where it settles"}; dashes: the truth` : "It settles nowhere; dashes: the truth",
    alt: "For each state, or pair of state and action, the value in the end as a dot on a stem from zero, and the true value as a dash.",
    body: [
      axes({ x, y }, { across: "states, or pairs", up: "value", ticksX: truth.map((_, i) => i), ticksY: ticks, showX: (i) => String(i + 1) }),
      line(x(-0.5), y(0), x(truth.length - 0.5), y(0), "ex-thin"),
      ...truth.map((value, i) => line(x(i) - wide, y(value), x(i) + wide, y(value), "ex-target")),
      ...(values ?? []).flatMap((value, i) => [line(x(i), y(0), x(i), y(value), "ex-run"), circle(x(i), y(value), 5, "ex-end")]),
    ],
  };
}
