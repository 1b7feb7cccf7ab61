// The cure board (chapter "Other cures"): what is read off the runs that the chapter hands over. Pure functions; a test holds the whole
// board, cell by cell, to the Python package.
//
// A board is { cures, examples, times, most, cells: { cure: { example: cell } } }. A cell has a `word` for what became of it, the largest
// `error` of a value in the end (null if it diverges), the `trace` of the logarithm of that error at the times, and `inner`, the number of
// updates that a step of its own counts for.

/** What becomes of a run: at the "truth" it settles if no value is wrong by a tenth. */
export function fate({ word, error }) {
  if (word === "✗") return "diverges";
  if (word === "cycles" || word === "slow") return "unsettled";
  return error < 0.1 ? "truth" : "elsewhere";
}

export const MARKS = { truth: "●", elsewhere: "○", unsettled: "∿", diverges: "✗" };

/** The run as points [updates, logarithm of the error]; it ends after the last update that the board looks at. */
export const runOf = ({ times, most }, { trace, inner }) => trace.map((error, i) => [times[i] * inner, error]).filter(([time]) => time <= most);

/** The cell beside another, in the direction of a key; null at the edge and for other keys. */
export function beside({ cures, examples }, { cure, example }, key) {
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const [down, right] = moves[key] ?? [NaN, NaN], to = cures[cures.indexOf(cure) + down], at = examples[examples.indexOf(example) + right];
  return to && at ? { cure: to, example: at } : null;
}

/** How many examples have each fate under a cure. */
export function tally(board, cure) {
  const fates = board.examples.map((example) => fate(board.cells[cure][example]));
  return Object.fromEntries(Object.keys(MARKS).map((name) => [name, fates.filter((one) => one === name).length]));
}
