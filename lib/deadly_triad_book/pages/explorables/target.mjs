// A target network on three examples (chapter "Other cures"). In all of them every state leads to the lower one and nothing is paid, so all
// states have one target, the discount times the value of the lower state, and values are errors. A run stays in the plane of the upper and
// the lower value. Pure functions; a test runs them in node against the Python package.

/** What an update moves: the matrix K D on (upper, lower), and the direction of the features where they span only a line. */
export const EXAMPLES = {
  Baird: { KD: [[10 / 7, 2 / 7], [12 / 7, 5 / 7]], spread: 4 / 7, start: [1, 4] },
  "w → 2w": { KD: [[1 / 2, 1], [1, 2]], span: [1, 2], start: [4, 8] },
  "w → −2w": { KD: [[0.95, -0.1], [-1.9, 0.2]], span: [1, -2], start: [4, -8] },
};

const times = ([[a, b], [c, d]], [[e, f], [g, h]]) => [[a * e + b * g, a * f + b * h], [c * e + d * g, c * f + d * h]];

/** I - step * K D, one inner step towards a target of zero. */
const inner = ({ KD: [[a, b], [c, d]] }, step) => [[1 - step * a, -step * b], [-step * c, 1 - step * d]];

/** By how much a cycle multiplies the error in the end, when n inner steps come to the matrix `power`, and the last state's to `rest`. */
function factorOf({ span, spread }, [[a, b], [c, d]], discount, rest) {
  const M = [[a, b + discount * (1 - a - b)], [c, d + discount * (1 - c - d)]]; // power + (I - power) * discount * P
  if (span) return Math.abs((M[0][0] * span[0] + M[0][1] * span[1]) / span[0]);
  const half = (M[0][0] + M[1][1]) / 2, square = half * half - (M[0][0] * M[1][1] - M[0][1] * M[1][0]);
  return Math.max(square >= 0 ? Math.abs(half) + Math.sqrt(square) : Math.sqrt(half * half - square), spread ? rest : 0);
}

/** By how much a cycle of 1, 2, ..., most inner steps multiplies the error in the end. */
export function factors({ example, discount, step }, most) {
  const problem = EXAMPLES[example], one = inner(problem, step), found = [];
  let power = one, rest = Math.abs(1 - step * (problem.spread ?? 0));
  const each = rest;
  for (let n = 1; n <= most; n++) {
    found.push(factorOf(problem, power, discount, rest));
    power = times(power, one);
    rest *= each;
  }
  return found;
}

/** The values [upper, lower] and the frozen target after 0, 1, ..., most inner steps; the target jumps after every n of them. */
export function run({ example, discount, step, n }, most) {
  const { KD: [[a, b], [c, d]], start } = EXAMPLES[example];
  const seen = [];
  let [upper, lower] = start, target = 0;
  for (let k = 0; k <= most; k++) {
    if (k % n === 0) target = discount * lower;
    seen.push([upper, lower, target]);
    const x = target - upper, y = target - lower;
    [upper, lower] = [upper + step * (a * x + b * y), lower + step * (c * x + d * y)];
  }
  return seen;
}

/** Which numbers of inner steps settle: "all", "none", ["from", n], ["up to", n], or "some", among those that `factors` looks at. */
export function settling(found) {
  const good = found.map((factor) => factor < 1), first = good.indexOf(true), last = good.lastIndexOf(true);
  if (first < 0) return "none";
  if (!good.slice(first, last + 1).every(Boolean)) return "some";
  if (first === 0 && last === good.length - 1) return "all";
  if (last === good.length - 1) return ["from", first + 1];
  return first === 0 ? ["up to", last + 1] : "some";
}
