// The mathematics of Baird's counterexample in the plane of the upper and the lower value, in which a run from equal upper values stays
// (theorem "Where Baird's counterexample diverges"). Pure functions; a test runs them in node against the Python package.

const UPPER = 6;

/** The matrix N of the proof: a sweep takes (upper, lower) to (upper, lower) - step * N (upper, lower). */
export function matrix({ discount, solid }) {
  const u = (1 - solid) / UPPER, left = solid * (1 - discount);
  return [
    [(UPPER + 4) * u, -(UPPER + 4) * u * discount + 2 * left],
    [2 * UPPER * u, -2 * UPPER * u * discount + 5 * left],
  ];
}

/** The non-zero eigenvalues of A as [real, imaginary]: those of N, and 4u, in which upper values differ. */
export function eigenvalues(problem) {
  const [[a, b], [c, d]] = matrix(problem), half = (a + d) / 2, square = half * half - (a * d - b * c);
  const root = Math.sqrt(Math.abs(square));
  const pair = square >= 0 ? [[half - root, 0], [half + root, 0]] : [[half, -root], [half, root]];
  return [...pair, [(4 * (1 - problem.solid)) / UPPER, 0]];
}

/** By how much a sweep multiplies the error in the end: the largest |1 - step * lambda|. */
export function errorFactor(problem, step) {
  return Math.max(...eigenvalues(problem).map(([re, im]) => Math.hypot(1 - step * re, step * im)));
}

/** Every step below it settles, no other does; 0 when none does. */
export function largestStep(problem) {
  const steps = eigenvalues(problem).map(([re, im]) => (2 * re) / (re * re + im * im));
  return Math.max(0, Math.min(...steps));
}

/** The share of the solid action at and below which no step settles; below 0 where every share is safe. */
export function boundary(discount) {
  return (6 * discount - 5) / (10 - 9 * discount);
}

/** What becomes of a run: "settles", "too large a step", or "diverges at every step". */
export function verdict(problem, step) {
  const largest = largestStep(problem);
  if (largest === 0) return "diverges at every step";
  return step < largest ? "settles" : "too large a step";
}

/** The values [upper, lower] after 0, 1, ..., n sweeps. */
export function run(problem, step, start, n) {
  const [[a, b], [c, d]] = matrix(problem), values = [start];
  for (let sweep = 0; sweep < n; sweep++) {
    const [x, y] = values[sweep];
    values.push([x - step * (a * x + b * y), y - step * (c * x + d * y)]);
  }
  return values;
}

/** How many sweeps the error takes, in the end, to double (or, where it falls, to fall to a tenth). */
export function sweepsTo(factor) {
  return factor > 1 ? Math.log(2) / Math.log(factor) : Math.log(0.1) / Math.log(factor);
}
