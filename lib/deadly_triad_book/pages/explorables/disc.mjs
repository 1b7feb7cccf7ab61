// One eigenvalue, one step: the error along its eigenvector is multiplied by 1 - step * lambda. Pure functions of numbers [re, im].

/** 1 - step * lambda. */
export const multiplier = ([re, im], step) => [1 - step * re, -step * im];

export const errorFactor = (lambda, step) => Math.hypot(...multiplier(lambda, step));

/** Every step below it settles, no other does; 0 when none does, and Infinity for lambda = 0, along which nothing moves. */
export function largestStep([re, im]) {
  if (re === 0 && im === 0) return Infinity;
  return Math.max(0, (2 * re) / (re * re + im * im));
}

/** The error after 0, 1, ..., n steps, as numbers [re, im], from 1. */
export function orbit(lambda, step, n) {
  const [a, b] = multiplier(lambda, step), errors = [[1, 0]];
  for (let k = 0; k < n; k++) {
    const [x, y] = errors[k];
    errors.push([a * x - b * y, a * y + b * x]);
  }
  return errors;
}
