r"""Updates that generalise: $U_3 Q = Q + \alpha K D_\rho (T Q - Q)$, its modulus, and when it contracts.

An update at pair $j$ moves the value of pair $i$ as well, in proportion to $K_{ij}$ (Achiam, Knight & Abbeel 2019). In the sup norm, in
every MDP, $U_3$ is Lipschitz with the constant

$$\beta(K) = \max_i \sum_j \big( |\delta_{ij} - \alpha K_{ij} \rho_j| + \alpha \gamma |K_{ij}| \rho_j \big),$$

for $T = T^\pi$ and $T = T^*$. With $K = I$ it is $U_2$. Pairs are flattened state-major. Two pairs, a tenth of each update leaking to the
other one: too much for a discount of 0.9, little enough for one of 0.8.

>>> leaky = Coupling(np.array([[1.0, 0.1], [0.1, 1.0]]), np.array([0.5, 0.5]))
>>> [round(kernel_modulus(leaky, discount, 1.0), 3) for discount in (0.9, 0.8)]
[1.045, 0.99]
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from deadly_triad._checks import (
    Numbers,
    as_floats,
    check_count,
    check_discount,
    check_finite,
    check_image,
    check_is,
    check_step_size,
    check_weights,
    keep,
)
from deadly_triad.fixed_point import Operator
from deadly_triad.mdp import MDP

SYMMETRY_TOLERANCE = 1e-5
"""How far K may be from symmetric, relative to its largest entry: a kernel of a network in float32 is off by about 1e-6."""
EQUAL = 1e-12
"""Two sides of a strict inequality that are relatively closer than this count as equal."""
MOST_POLICIES = 4096
_BLOCK = 64  # rows: few enough to stay in the cache, so that K is read once and never copied as a whole


@dataclass(frozen=True, eq=False)
class Rows:
    r"""Each row of a kernel in two numbers: all that Theorem 2 asks of it.

    Attributes:
        own: $K_{ii} \rho_i$: how much pair i moves itself, at least 0, shape (n,).
        others: $\sum_{j \ne i} |K_{ij}| \rho_j$: how much the other pairs move pair i, at least 0, shape (n,).

    Raises:
        ValueError: if an argument is not as said here; the message names it.
    """

    own: Numbers[np.ndarray, " n"]
    others: Numbers[np.ndarray, " n"]

    def __post_init__(self) -> None:
        own = check_weights("own", self.own)
        if own.ndim != 1:
            raise ValueError(f"own must hold one number a pair, got shape {own.shape}")
        keep(self, own=own, others=check_weights("others", self.others, own.shape))

    @property
    def ratios(self) -> Float[np.ndarray, " n"]:
        r"""With all weights equal, the row ratio $R_i = \frac1n \sum_{j \ne i} |K_{ij}| / K_{ii}$ (Achiam et al. 2019), shape (n,).

        Raises:
            ValueError: if a diagonal entry is zero: there is nothing in the row to compare with.
        """
        if not np.all(self.own > 0):
            raise ValueError(f"own must be positive, got 0 at pair {int(self.own.argmin())}: its value depends on no parameter")
        return self.others / (len(self.own) * self.own)


@dataclass(frozen=True, eq=False)
class Coupling:
    r"""How an update at one pair moves the others: $K$ and $\rho$, checked when they are put together.

    The checks read K twice, so whoever applies many updates with one K makes one of these.

    Attributes:
        kernel: $K$, symmetric with a diagonal of at least 0, shape (n, n). That it is positive definite is neither needed nor checked.
        rho: $\rho$, the weights of the pairs, at least 0, shape (n,).

    Raises:
        ValueError: if an argument is not as said here; the message names it.
    """

    kernel: Numbers[np.ndarray, "n n"]
    rho: Numbers[np.ndarray, " n"]

    def __post_init__(self) -> None:
        # A kernel in float32 stays as it is: a copy of it in float64 would be twice its size.
        keep(self, kernel=as_floats("kernel", self.kernel, single=True), rho=as_floats("rho", self.rho, single=True))
        _check_kernel(self.kernel)
        if self.rho.shape != (len(self.kernel),):
            raise ValueError(f"rho must have shape ({len(self.kernel)},), one weight a row of kernel, got {self.rho.shape}")
        check_finite("rho", self.rho)
        if np.any(self.rho < 0):
            raise ValueError(f"rho must hold non-negative weights, got {self.rho.min():.6g} at pair {int(self.rho.argmin())}")

    @property
    def matrix(self) -> Float[np.ndarray, "n n"]:
        r"""$K D_\rho$, shape (n, n)."""
        return self.kernel * self.rho

    @property
    def own(self) -> Float[np.ndarray, " n"]:
        """How much each pair moves itself (see `Rows`), shape (n,)."""
        return self.rows.own

    @property
    def others(self) -> Float[np.ndarray, " n"]:
        """How much the other pairs move each pair (see `Rows`), shape (n,)."""
        return self.rows.others

    @cached_property
    def rows(self) -> Rows:
        """The rows of $K$ in two numbers each, in one pass over it."""
        sums, space = np.empty(len(self.rho)), np.empty((_BLOCK, len(self.rho)), self.kernel.dtype)
        for rows in _blocks(len(sums)):
            here = np.arange(rows.start, rows.stop)
            sizes = np.abs(self.kernel[rows], out=space[: len(here)])
            sizes[here - rows.start, here] = 0  # rather than subtract it from the sum: what is left may be tiny
            sums[rows] = sizes @ self.rho
        return Rows(np.diag(self.kernel) * self.rho, sums)


def kernel_update(
    operator: Operator, values: Numbers[ArrayLike, "*shape"], coupling: Coupling, step_size: float
) -> Float[np.ndarray, "*shape"]:
    r"""$U_3 Q = Q + \alpha K D_\rho (T Q - Q)$.

    Args:
        operator: $T$.
        values: $Q$, any shape with as many entries as K has rows.
        coupling: $K$ and $\rho$.
        step_size: $\alpha$.

    Raises:
        ValueError: if `values` or what `operator` makes of it is not finite, the shape changes, `values` has another number of entries than
            `coupling`, or `step_size` is not positive and finite.
    """
    check_is("coupling", coupling, Coupling)
    values, step_size = check_finite("values", values, single=True), check_step_size(step_size)
    if values.size != len(coupling.rho):
        raise ValueError(f"values must have {len(coupling.rho)} entries, as many as coupling has pairs, got shape {values.shape}")
    errors = (check_finite("operator(…)", check_image("operator", operator, values)) - values).ravel()
    return values + step_size * (coupling.kernel @ (coupling.rho * errors)).reshape(values.shape)


def kernel_modulus(coupling: Coupling, discount: float, step_size: float) -> float:
    r"""$\beta(K)$ of the module's equation: no MDP has a larger Lipschitz constant of $U_3$ in the sup norm.

    Raises:
        ValueError: if `discount` is not in [0, 1) or `step_size` not positive and finite.
    """
    return theorem_2(coupling, discount, step_size).modulus


@dataclass(frozen=True, eq=False)
class Theorem2:
    r"""What Theorem 2 of Achiam, Knight & Abbeel says about one K, pair by pair; `print` it.

    Its conditions are, for every pair i,

    - (16) $\alpha K_{ii} \rho_i \le 1$;
    - (17) $(1 + \gamma) \sum_{j \ne i} |K_{ij}| \rho_j < (1 - \gamma) K_{ii} \rho_i$.

    Attributes:
        rows: $K_{ii} \rho_i$ and $\sum_{j \ne i} |K_{ij}| \rho_j$ of every pair.
        discount: $\gamma$.
        step_size: $\alpha$.
        names: what to call the pairs; their numbers by default.
    """

    rows: Rows
    discount: float
    step_size: float
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        keep(self, discount=check_discount(self.discount), step_size=check_step_size(self.step_size))
        check_is("names", self.names, Sequence | None)
        if self.names is not None and len(self.names) != len(self.rows.own):
            raise ValueError(f"names must hold {len(self.rows.own)} names, one a pair, got {len(self.names)}")

    @property
    def margins(self) -> Float[np.ndarray, " n"]:
        r"""$(1 - \gamma) K_{ii} \rho_i - (1 + \gamma) \sum_{j \ne i} |K_{ij}| \rho_j$, what (17) asks to be positive, shape (n,)."""
        return (1 - self.discount) * self.rows.own - (1 + self.discount) * self.rows.others

    @property
    def breaks_16(self) -> Int[np.ndarray, " m"]:
        """The pairs that break (16), the worst first."""
        overshoot = self.step_size * self.rows.own
        worst_first = np.argsort(-overshoot, kind="stable")
        return worst_first[overshoot[worst_first] > 1 + EQUAL]

    @property
    def breaks_17(self) -> Int[np.ndarray, " m"]:
        """The pairs that break (17), the worst first."""
        # The margin at which a step of size 1 / own falls short, and for a row of zeros, which has no such step, 0.
        own, others = self.rows.own, self.rows.others
        relative = np.divide(self.margins, own, out=np.where(others > 0, -np.inf, 0.0), where=own > 0)
        worst_first = np.argsort(relative, kind="stable")
        return worst_first[relative[worst_first] <= EQUAL * (1 - self.discount)]

    @property
    def applies(self) -> bool:
        """Whether both conditions hold at every pair."""
        return not (self.breaks_16.size or self.breaks_17.size)

    @property
    def modulus(self) -> float:
        r"""$\beta(K)$; it may be below 1 where (16) is broken, and is not where (17) is."""
        own, others = self.rows.own, self.rows.others
        sums = np.abs(1 - self.step_size * own) + self.step_size * (self.discount * own + (1 + self.discount) * others)
        return float(np.max(sums))

    @property
    def largest_step(self) -> float:
        r"""$\beta(K) < 1$ for the steps below it and for no other; 0 where (17) is broken."""
        if self.breaks_17.size:
            return 0.0
        return float(2 / ((1 + self.discount) * np.max(self.rows.own + self.rows.others)))

    @property
    def best_step(self) -> float:
        r"""The step with the least $\beta(K)$; 0 where (17) is broken, because then none is below 1."""
        if self.breaks_17.size:
            return 0.0
        return float(2 / ((1 + self.discount) * np.max(self.rows.own + self.rows.others) + np.min(self.margins)))

    def __str__(self) -> str:
        low, high, own, others = 1 - self.discount, 1 + self.discount, self.rows.own, self.rows.others
        lines = [
            f"Theorem 2, discount {self.discount:.6g}, step size {self.step_size:.6g}: {'applies' if self.applies else 'does not apply'}",
            *self._condition("(16) step_size * K_ii rho_i <= 1", self.breaks_16, self.step_size * own, np.ones(len(own))),
            *self._condition(f"(17) {high:.6g} * others < {low:.6g} * own", self.breaks_17, high * others, low * own),
            f"beta(K) = {self.modulus:.6g}",
        ]
        if self.breaks_17.size:
            lines[-1] += ", and no step size brings it below 1"
        else:
            lines[-1] += f", below 1 for step sizes below {self.largest_step:.6g}, least at {self.best_step:.6g}"
        return "\n".join(lines)

    def _repr_pretty_(self, printer: object, _cycle: bool) -> None:
        """Let a notebook show the report as text when it ends a cell."""
        printer.text(str(self))  # type: ignore[attr-defined]

    def _condition(
        self, title: str, broken: Int[np.ndarray, " m"], left: Float[np.ndarray, " n"], right: Float[np.ndarray, " n"]
    ) -> Iterator[str]:
        n, most = len(self.rows.own), 3
        yield f"{title}: {f'broken at {len(broken)} of {n} pairs' if broken.size else f'holds at all {n} pairs'}"
        for i in broken[:most]:
            name = f"pair {i}" if self.names is None else self.names[i]
            excess = f", {left[i] / right[i]:.3g} times" if right[i] > 0 else ""
            yield f"     {name}: {left[i]:.4g} against {right[i]:.4g}{excess}"
        if len(broken) > most:
            yield f"     and {len(broken) - most} more"


def theorem_2(coupling: Coupling, discount: float, step_size: float, names: Sequence[str] | None = None) -> Theorem2:
    r"""Check the conditions of Theorem 2, one pass over K.

    Args:
        coupling: $K$ and $\rho$.
        discount: $\gamma$, in [0, 1).
        step_size: $\alpha$.
        names: what the report calls the pairs.

    Raises:
        ValueError: if `discount` is not in [0, 1), `step_size` not positive and finite, or `names` has another length.

    >>> leaky = Coupling(np.array([[1.0, 0.1], [0.1, 1.0]]), np.array([0.5, 0.5]))
    >>> print(theorem_2(leaky, 0.9, 1.0, ["left", "right"]))
    Theorem 2, discount 0.9, step size 1: does not apply
    (16) step_size * K_ii rho_i <= 1: holds at all 2 pairs
    (17) 1.9 * others < 0.1 * own: broken at 2 of 2 pairs
         left: 0.095 against 0.05, 1.9 times
         right: 0.095 against 0.05, 1.9 times
    beta(K) = 1.045, and no step size brings it below 1
    """
    check_is("coupling", coupling, Coupling)
    return Theorem2(coupling.rows, discount, step_size, names)


def worst_case_modulus(coupling: Coupling, discount: float, step_size: float) -> float:
    r"""The largest Lipschitz constant that $U_3$ has in the sup norm in any MDP with these pairs and at least two states.

    It is $\beta(K)$ unless the signs of a row forbid it. With $m_{ij} = \delta_{ij} - \alpha K_{ij} \rho_j$ and $x^\pm = \max(\pm x, 0)$,
    row i loses

    $$2 \min\big( \alpha \gamma \textstyle\sum_j K_{ij}^- \rho_j, \min_j m_{ij}^+ \big)
    + 2 \min\big( \alpha \gamma \textstyle\sum_j K_{ij}^+ \rho_j, \min_j m_{ij}^- \big).$$

    The book proves it in its chapter on Theorem 2. `worst_problem` has an MDP that attains it.

    Raises:
        ValueError: if `discount` is not in [0, 1) or `step_size` not positive and finite.
    """
    check_is("coupling", coupling, Coupling)
    discount, reach = check_discount(discount), check_step_size(step_size) * coupling.matrix
    kept = np.eye(len(reach)) - reach
    rows = np.abs(kept).sum(axis=1) + discount * np.abs(reach).sum(axis=1)
    for sign in (1, -1):
        against = discount * np.maximum(-sign * reach, 0).sum(axis=1)
        rows -= 2 * np.minimum(against, np.maximum(sign * kept, 0).min(axis=1))
    return float(rows.max())


@dataclass(frozen=True, eq=False)
class WorstProblem:
    """An MDP and two tables that one update moves as far apart as it can.

    Attributes:
        mdp: all rewards are 0 and each pair leads to one state for sure.
        first: Q, shape (S, A).
        second: Q', at the distance 1 from Q in the sup norm, shape (S, A).
    """

    mdp: MDP
    first: Float[np.ndarray, "S A"]
    second: Float[np.ndarray, "S A"]


def worst_problem(coupling: Coupling, discount: float, step_size: float, n_states: int) -> WorstProblem:
    r"""An MDP in which $U_3$ for $T^*$ has the modulus `worst_case_modulus`, and two tables that show it.

    By search: in each row, the differences x with the signs of $\delta_{ij} - \alpha K_{ij} \rho_j$, or those with one sign turned; each
    pair leads to whichever of two states has the better difference for it.

    Args:
        coupling: $K$ and $\rho$; n pairs.
        discount: $\gamma$, in [0, 1).
        step_size: $\alpha$.
        n_states: S, at least 2 and a divisor of n; there are n / S actions.

    Raises:
        ValueError: if `n_states` does not fit, or an argument is outside its range.
    """
    check_is("coupling", coupling, Coupling)
    n, n_states = len(coupling.rho), check_count("n_states", n_states, least=2)
    if n % n_states:
        raise ValueError(f"n_states must divide the number of pairs, {n}, got {n_states}")
    discount, reach = check_discount(discount), check_step_size(step_size) * coupling.matrix
    kept = np.eye(n) - reach
    best, found = -np.inf, None
    for i in range(n):
        signs = np.where(kept[i] >= 0, 1.0, -1.0)
        turned = [np.where(np.arange(n) == k, -signs, signs) for k in range(n)]
        for x in [signs, *turned]:
            table = x.reshape(n_states, -1)
            for high, low in product(range(n_states), repeat=2):
                if high == low:
                    continue
                ahead = np.where(reach[i] >= 0, table[high].max(), table[low].min())
                moved = kept[i] @ x + discount * reach[i] @ ahead
                if moved > best + EQUAL:
                    best, found = moved, (x, high, low, reach[i] >= 0)
    assert found is not None  # S >= 2, so there is a pair of states
    x, high, low, up = found
    table = x.reshape(n_states, -1)
    transitions = np.zeros((n, n_states))
    transitions[np.arange(n), np.where(up, high, low)] = 1
    greedy = np.where(np.arange(n_states) == high, table.argmax(axis=1), table.argmin(axis=1))
    second = 3 * np.eye(table.shape[1])[greedy]  # two entries at distance 3 keep their order when each moves by 1
    mdp = MDP(transitions.reshape(*table.shape, n_states), np.zeros(table.shape), discount)
    return WorstProblem(mdp, second + table, second)


def problem_modulus(mdp: MDP, coupling: Coupling, step_size: float) -> float:
    r"""The exact Lipschitz constant of $U_3$ for $T^*$ in the sup norm, in one MDP.

    It is the largest $\|I - \alpha K D_\rho (I - \gamma P^g)\|_\infty$ over all deterministic policies g. In each row every state can
    choose for itself, so there is no need to go through them all: with $m = I - \alpha K D_\rho$ and $w = \alpha \gamma K D_\rho P$,

    $$\max_i \Big( \sum_j |m_{ij}| + \sum_s \max_a \big( |m_{i,(s,a)} + w_{is}| - |m_{i,(s,a)}| \big) \Big).$$

    Raises:
        ValueError: if `coupling` has another number of pairs than `mdp`, or `step_size` is not positive and finite.
    """
    step_size = check_step_size(step_size)
    _check_pairs(mdp, coupling)
    n, shape = len(coupling.rho), (mdp.n_states, mdp.n_actions)
    reach = step_size * coupling.matrix
    kept = (np.eye(n) - reach).reshape(n, *shape)
    ahead = mdp.discount * reach @ mdp.transitions.reshape(n, mdp.n_states)
    gain = np.abs(kept + ahead[:, :, None]) - np.abs(kept)
    return float(np.max(np.abs(kept).sum(axis=(1, 2)) + gain.max(axis=2).sum(axis=1)))


def policy_matrices(mdp: MDP, coupling: Coupling, step_size: float) -> Float[np.ndarray, "m n n"]:
    r"""$I - \alpha K D_\rho (I - \gamma P^g)$ for every deterministic policy g, in the order of `np.ndindex` over its actions.

    Any difference of $U_3$ for $T^*$ is a convex combination of them, applied to the difference of the tables.

    Raises:
        ValueError: if `coupling` has another number of pairs than `mdp`, `step_size` is not positive and finite, or there are more than
            `MOST_POLICIES` policies.
    """
    step_size = check_step_size(step_size)
    _check_pairs(mdp, coupling)
    n_states, n_actions = mdp.n_states, mdp.n_actions
    if n_actions**n_states > MOST_POLICIES:
        raise ValueError(f"mdp must have at most {MOST_POLICIES} deterministic policies, got {n_actions}^{n_states}")
    n, reach = n_states * n_actions, step_size * coupling.matrix
    ahead = mdp.discount * reach @ mdp.transitions.reshape(n, n_states)
    matrices = np.tile(np.eye(n) - reach, (n_actions**n_states, 1, 1))
    for matrix, actions in zip(matrices, np.ndindex(*[n_actions] * n_states), strict=True):
        matrix[:, np.arange(n_states) * n_actions + np.array(actions)] += ahead
    return matrices


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def _check_kernel(kernel: Float[np.ndarray, "..."]) -> None:
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] == 0:
        raise ValueError(f"kernel must be a square matrix, got shape {kernel.shape}")
    diagonal = np.diag(kernel)
    check_finite("kernel", diagonal)
    if np.any(diagonal < 0):
        raise ValueError(f"kernel must have a diagonal of at least 0, got {diagonal.min():.6g} at pair {int(diagonal.argmin())}")
    largest, gap = 0.0, 0.0
    for rows in _blocks(len(kernel)):
        above, below = kernel[rows, rows.start :], kernel[rows.start :, rows]
        # A NaN or an infinity on either side makes the gap NaN or infinite.
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.maximum(gap, np.max(np.abs(above - below.T)))
        largest = max(largest, float(np.max(np.abs(above))))
    if not np.isfinite(gap):
        check_finite("kernel", kernel)
    if gap > SYMMETRY_TOLERANCE * largest:
        raise ValueError(f"kernel must be symmetric, got entries K_ij and K_ji that differ by {gap:.6g}")


def _check_pairs(mdp: MDP, coupling: Coupling) -> None:
    check_is("mdp", mdp, MDP)
    check_is("coupling", coupling, Coupling)
    if len(coupling.rho) != mdp.n_states * mdp.n_actions:
        raise ValueError(f"coupling must have S A = {mdp.n_states * mdp.n_actions} pairs, as mdp has, got {len(coupling.rho)}")
