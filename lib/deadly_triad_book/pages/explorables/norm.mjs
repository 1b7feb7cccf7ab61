// The modulus of a linear map in a norm whose unit ball is an ellipse (chapter "Contraction maps"). The ellipse has the area of the unit
// disc; its long axis is `ratio` times as long as the short one and tilted by so many degrees. Pure functions; a test runs them in node
// against the Python package.

export const MATRICES = {
  shear: [[0.5, 2], [0, 0.5]],
  spiral: [[1, -1.2], [0.5, -0.2]],
  saddle: [[0.2, 1.2], [0.5, 0.35]],
};

export const times = ([[a, b], [c, d]], [[e, f], [g, h]]) => [[a * e + b * g, a * f + b * h], [c * e + d * g, c * f + d * h]];

/** S, which takes the unit disc to the ellipse, and its inverse, which takes a vector x to one of the length that x has in the norm. */
function shapes({ ratio, tilt }) {
  const long = Math.sqrt(ratio), angle = (tilt * Math.PI) / 180, c = Math.cos(angle), s = Math.sin(angle);
  return { there: [[c * long, -s / long], [s * long, c / long]], back: [[c / long, s / long], [-s * long, c * long]] };
}

const apply = ([[a, b], [c, d]], [x, y]) => [a * x + b * y, c * x + d * y];

/** The points of the ellipse, and how long their images are in the norm: longer than 1 is outside. */
export function ball(norm, matrix, n) {
  const { there, back } = shapes(norm);
  return Array.from({ length: n + 1 }, (_, i) => {
    const point = apply(there, [Math.cos((2 * Math.PI * i) / n), Math.sin((2 * Math.PI * i) / n)]), image = apply(matrix, point);
    return { point, image, length: Math.hypot(...apply(back, image)) };
  });
}

/** The largest singular value of a matrix. */
function largest([[a, b], [c, d]]) {
  return (Math.hypot(a + d, b - c) + Math.hypot(a - d, b + c)) / 2;
}

/** The modulus of x -> matrix x in the norm. */
export function modulus(norm, matrix) {
  const { there, back } = shapes(norm);
  return largest(times(back, times(matrix, there)));
}

/** The largest size of an eigenvalue; no norm has a modulus below it. */
export function radius([[a, b], [c, d]]) {
  const half = (a + d) / 2, square = half * half - (a * d - b * c);
  return square >= 0 ? Math.abs(half) + Math.sqrt(square) : Math.sqrt(half * half - square);
}

/** The sizes in the norm of the powers 0, 1, ..., n of a matrix. */
export function powers(norm, matrix, n) {
  const { there, back } = shapes(norm), sizes = [];
  let power = [[1, 0], [0, 1]];
  for (let k = 0; k <= n; k++) {
    sizes.push(largest(times(back, times(power, there))));
    power = times(power, matrix);
  }
  return sizes;
}
