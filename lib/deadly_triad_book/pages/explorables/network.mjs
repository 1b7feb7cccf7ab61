// A small network of action values on the line, its gradients and its kernel. Pure functions; a test runs them in node against
// the Python package. Layers are { weight: rows of inputs, bias }, as in deadly_triad.networks; actions are 0 (left) and 1 (right).

const ACTIVATIONS = {
  tanh: [Math.tanh, (z) => 1 - Math.tanh(z) ** 2],
  relu: [(z) => Math.max(0, z), (z) => (z > 0 ? 1 : 0)],
  sin: [Math.sin, Math.cos],
};
export const activations = Object.keys(ACTIVATIONS);

/** Numbers in [0, 1) from a seed (mulberry32). */
export function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Layers as PyTorch draws them by default: uniform between plus and minus 1 / sqrt(fan-in). */
export function draw(seed, sizes) {
  const next = random(seed);
  return sizes.slice(1).map((width, i) => {
    const bound = sizes[i] ** -0.5, some = () => bound * (2 * next() - 1);
    return { weight: Array.from({ length: sizes[i] }, () => Array.from({ length: width }, some)), bias: Array.from({ length: width }, some) };
  });
}

function forward({ layers, activation, scale }, place) {
  const [activate] = ACTIVATIONS[activation], inputs = [], sums = [];
  let a = [scale * place];
  layers.forEach(({ weight, bias }, l) => {
    inputs.push(a);
    const z = bias.slice();
    a.forEach((value, i) => weight[i].forEach((w, j) => (z[j] += value * w)));
    sums.push(z);
    a = l < layers.length - 1 ? z.map(activate) : z;
  });
  return { inputs, sums, outputs: a };
}

/** The values [left, right] at a place. */
export const values = (network, place) => forward(network, place).outputs;

/** The gradient of one value in all parameters: for each layer what enters it and what its sums are worth. */
export function gradient(network, place, action) {
  const { inputs, sums, outputs } = forward(network, place), [, slope] = ACTIVATIONS[network.activation];
  let worth = outputs.map((_, j) => (j === action ? 1 : 0));
  const pieces = [];
  for (let l = network.layers.length - 1; l >= 0; l--) {
    pieces.unshift({ input: inputs[l], worth });
    if (l > 0) worth = network.layers[l].weight.map((row, i) => slope(sums[l - 1][i]) * row.reduce((sum, w, j) => sum + w * worth[j], 0));
  }
  return pieces;
}

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

/** An entry of the kernel, the inner product of two gradients. */
export const inner = (g, h) => g.reduce((sum, piece, l) => sum + (1 + dot(piece.input, h[l].input)) * dot(piece.worth, h[l].worth), 0);

export const kernel = (network, here, there) => inner(gradient(network, ...here), gradient(network, ...there));

/** The network after a step of that size along a gradient. */
export function moved(network, pieces, size) {
  const layers = network.layers.map(({ weight, bias }, l) => {
    const { input, worth } = pieces[l];
    return { weight: weight.map((row, i) => row.map((w, j) => w + size * input[i] * worth[j])), bias: bias.map((b, j) => b + size * worth[j]) };
  });
  return { ...network, layers };
}

/** The network after the step that, to first order, raises the value of a pair [place, action] by an amount. */
export function raised(network, pair, amount) {
  const g = gradient(network, ...pair);
  return moved(network, g, amount / inner(g, g));
}

/**
 * TD(0) repeated on one transition without reward, from the pair `here` to the pair `there`: the values [here, there] after 0, 1, ..., n updates.
 * A rate of 1 would, to first order, take the first value all the way to its target. Divided by the kernel of the two, the update asks the
 * second value to stay where it is.
 */
export function chase(network, here, there, { discount, rate, divided, n }) {
  const step = rate / kernel(network, here, here), seen = [];
  let now = network;
  for (let k = 0; ; k++) {
    const a = values(now, here[0])[here[1]], b = values(now, there[0])[there[1]];
    seen.push([a, b]);
    if (k === n || !(Math.abs(a) + Math.abs(b) < 1e6)) return seen;
    const error = discount * b - a, g = gradient(now, ...here);
    if (divided) {
      const h = gradient(now, ...there), gg = inner(g, g), gh = inner(g, h), hh = inner(h, h), determinant = gg * hh - gh * gh;
      now = moved(moved(now, g, (rate * error * hh) / determinant), h, (-rate * error * gh) / determinant);
    } else now = moved(now, g, step * error);
  }
}
