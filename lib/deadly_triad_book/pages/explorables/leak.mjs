// Two pairs with equal data. Their gradients have the lengths 1 and `length` and the cosine `leak`, so their kernel is
// [[1, leak * length], [leak * length, length^2]]. Pure functions; a test runs them in node against the Python package.

export const PROBLEMS = {
  "both lead to the second": [[0, 1], [0, 1]],
  "each leads to the other": [[0, 1], [1, 0]],
  "each leads to itself": [[1, 0], [0, 1]],
};

const kernel = ({ leak, length }) => [[1, leak * length], [leak * length, length * length]];
const SHARE = 0.5;

/** The matrix I - step * K D (I - discount * P) that an update multiplies the error by. */
export function matrix(setting) {
  const { discount, step, problem } = setting, K = kernel(setting), P = PROBLEMS[problem], at = [0, 1];
  const entry = (i, j) => (i === j ? 1 : 0) - step * SHARE * at.reduce((sum, k) => sum + K[i][k] * ((k === j ? 1 : 0) - discount * P[k][j]), 0);
  return at.map((i) => at.map((j) => entry(i, j)));
}

/** beta(K) of Theorem 2: the modulus in the sup norm in the worst of all problems. */
export function theorem(setting) {
  const { discount, step } = setting, move = step * SHARE;
  return Math.max(...kernel(setting).map((row, i) => row.reduce((sum, k, j) => sum + Math.abs((i === j ? 1 : 0) - move * k) + discount * move * Math.abs(k), 0)));
}

/** The modulus in the sup norm in this problem. */
export const supNorm = (setting) => Math.max(...matrix(setting).map(([a, b]) => Math.abs(a) + Math.abs(b)));

/** By how much an update multiplies the error in the end, in this problem: the spectral radius. */
export function growth(setting) {
  const [[a, b], [c, d]] = matrix(setting), half = (a + d) / 2, square = half * half - (a * d - b * c);
  return square >= 0 ? Math.abs(half) + Math.sqrt(square) : Math.sqrt(half * half - square);
}
