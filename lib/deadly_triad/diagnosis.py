r"""From a network and a minibatch of transitions to the verdicts of the theory.

The batch has n pairs $x_i$ with weights $\rho_i$. Its target at pair i is $r_i + \gamma \sum_j B_{ij} Q(y_j)$, a mix of the values at m
*bootstrap pairs* $y_j$: one of them and weight 1 for $Q(s', \mu(s'))$ or for the greedy action, the probabilities of the actions for
Expected Sarsa, and a row of zeros where the episode ends. So the pairs that the update speaks of are the n of the batch together with
the m others, and only those of the batch carry weight. With the Jacobians $J$ and $J'$ of the values at the batch and at the bootstrap
pairs, the semi-gradient update $\theta' = \theta + \alpha J^\top D_\rho \delta$ moves, to first order, all n + m values by

$$\alpha \begin{pmatrix} K \\ K' \end{pmatrix} D_\rho \, \delta, \qquad K = J J^\top, \quad K' = J' J^\top .$$

That is $U_3$ with $D = \operatorname{diag}(\rho, 0)$ and a $P$ whose first n rows are $(0, B)$. With
$\delta = r + \gamma B Q(y) - Q(x)$ the temporal-difference errors obey an iteration of their own,

$$\delta' = (I - \alpha M) \, \delta, \qquad M = (K - \gamma B K') D_\rho, \quad \text{shape } (n, n) .$$

$M = (J - \gamma B J') \, J^\top D_\rho$ has the non-zero eigenvalues of $J^\top D_\rho (J - \gamma B J')$, which is the matrix A of linear
TD with the gradients as features, and those of $K_{\text{all}} D (I - \gamma P)$ on all n + m pairs. So `stability` is asked about $M$:
whether the errors of this batch die out if the kernel, and the choice of the bootstrap pairs, stay as they are.

A network with a single weight, at a pair whose successor has twice its value (w -> 2w):

>>> from deadly_triad.networks import Dense
>>> line = Dense(jnp.ones((1, 1)), None)
>>> places, following = jnp.array([[1.0], [2.0]]), jnp.array([[2.0], [2.0]])
>>> seen = diagnose(lambda p, x, hook: hook(p, x)[:, 0], line, places, following, discount=0.9, step_size=0.1, rho=np.array([1.0, 0.0]))
>>> seen.stability.verdict, round(float(seen.stability.eigenvalues.real[0]), 6)
('unstable', -0.8)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from deadly_triad._checks import check_count, check_discount, check_number, check_positive, check_shape, check_step_size
from deadly_triad.episodes import Episodes
from deadly_triad.kernel_updates import Coupling, Rows, Theorem2, theorem_2
from deadly_triad.networks import Network, dense
from deadly_triad.ntk import Factors, add_squares, check_network, count_samples, gram, in_float64, kernel_factors
from deadly_triad.stability import Stability, analyse_stability, spectral_radius

HORIZON: Final = 1000
"""What grows by less than a factor e in so many updates is not what blew a network up: on minibatches the sign alone says nothing."""
_ALIKE = 0.1  # shares of a leg that are closer than this are not told apart
_MOST = 1e12  # by which the table of cures says that something grows
_INNER_STEPS = 200  # how long a target network is held in the table of cures: one over the rate 0.005

SOURCES: Final = {
    "values": "Bellman operators",
    "record": "Bellman operators",
    "kernel": "The kernel of deep Q-learning",
    "move": "PreQN",
    "theorem 2": "Theorem 2",
    "spectrum": "From parameters to values",
    "cures": "Other cures",
    "leg": "Diagnose your own",
}
"""The chapters that explain the parts of a report."""


@dataclass(frozen=True, eq=False)
class Values:
    r"""What the values of a batch are, beside what they can be.

    Attributes:
        largest_value: the largest |Q|.
        largest_target: the largest |target|; NaN without rewards.
        bound: $\max |r| / (1 - \gamma)$ with the largest |r| that is known: no true value is above it. NaN without rewards.
        td_error: root mean square of targets minus values; NaN without rewards.
        overestimation: mean of $Q(s, \mu(s)) - Q(s, a)$ over the batch; NaN without the policy.
        slope: mean norm of $\nabla_a Q(s, \mu(s))$; NaN without the policy, or for actions that have no gradient.
    """

    largest_value: float
    largest_target: float = np.nan
    bound: float = np.nan
    td_error: float = np.nan
    overestimation: float = np.nan
    slope: float = np.nan

    @property
    def out_of_bound(self) -> bool:
        """Whether a value or a target is larger than any true value."""
        return max(self.largest_value, self.largest_target) > self.bound


@dataclass(frozen=True, eq=False)
class Move:
    r"""What the update that is to come would do to the values of its batch; NaN if nothing moves.

    Attributes:
        alignment: cosine of their move with the errors, targets minus values.
        second_order: how far first order is from the move, in its length, $\|\Delta Q - \alpha K D \delta\| / \|\Delta Q\|$.
    """

    alignment: float
    second_order: float


@dataclass(frozen=True, eq=False)
class Fault:
    """Where the fault lies.

    Attributes:
        name: "record", "step", one of the legs "bootstrapping", "off-policy actions" and "generalisation", "none" or "can't tell".
        reason: in a sentence.
    """

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Diagnosis:
    r"""What the theory says of one network and one minibatch; `print` it, `draw` it, or log `numbers`.

    Attributes:
        coupling: $K$ and $\rho$ on the pairs of the batch.
        theorem_2: its conditions at the pairs of the batch. A bootstrap pair outside the batch has no weight and breaks (17) as soon as
            anything moves it, so where the conditions are broken here the theorem does not apply, and where they hold it applies to
            problems whose bootstrap pairs lie in the batch.
        stability: of the temporal-difference errors of the batch, with $M = (K - \gamma B K') D_\rho$. "semistable": some of them do not
            move, as when a pair occurs twice, and the others settle.
        matrix: $M$, shape (n, n).
        largest_step_with_fixed_targets: $2 / \lambda_{\max}(K D_\rho)$, with momentum $\beta$ $(1 + \beta) / (1 - \beta)$
            times that; longer steps overshoot even where nothing is bootstrapped, and infinity where nothing moves.
        values: of the batch.
        condition: largest over smallest eigenvalue of K, infinity where the smallest is zero in the precision of the network.
        move: of the next update; None without rewards.
        episodes: of the record that the batch was drawn from, if there is one.
        bootstrap_diagonal: $\|\nabla Q(y_j)\|^2$ at the bootstrap pairs that have weight, as a mean over each row of the batch, shape (n,).
        matrix_of_data: $M$ for the actions that the data took next; None if they were not told.
        hold: for how many updates targets are held; 1 without a target network.
        momentum: of the update.
    """

    coupling: Coupling
    theorem_2: Theorem2
    stability: Stability
    matrix: Float[np.ndarray, "n n"]
    largest_step_with_fixed_targets: float
    values: Values
    condition: float
    move: Move | None
    episodes: Episodes | None
    bootstrap_diagonal: Float[np.ndarray, " n"]
    matrix_of_data: Float[np.ndarray, "n n"] | None
    hold: int
    momentum: float

    @property
    def discount(self) -> float:
        r"""$\gamma$."""
        return self.theorem_2.discount

    @property
    def step_size(self) -> float:
        r"""$\alpha$."""
        return self.theorem_2.step_size

    @property
    def settles(self) -> bool:
        """Whether the errors that move die out at this step size, without a target network."""
        return self.factor < 1

    @cached_property
    def factor(self) -> float:
        """By which the slowest error that moves shrinks in an update, in the long run; above 1 the fastest one grows by it."""
        seen = self.stability.eigenvalues
        moving = seen[np.argsort(np.abs(seen))[self.stability.n_null :]]
        return _modulus(moving, self.step_size, self.momentum)

    @cached_property
    def updates_to_grow(self) -> float:
        """After how many updates the fastest error has grown by a factor e, with targets held as `hold` says; infinity if none does."""
        rate = self._rate(self.coupling.kernel, self.matrix, self.hold)
        return 1 / rate if rate > 0 else np.inf

    @cached_property
    def legs(self) -> dict[str, float]:
        r"""How much of each leg of the triad may stay, from 0 to 1, so that nothing grows by e within `HORIZON` updates. Takes a while.

        NaN where errors grow without the leg too.

        - "bootstrapping": the share $t$ of $\gamma$.
        - "off-policy actions": targets $t \, Q(s', \mu(s')) + (1 - t) \, Q(s', a')$ with the actions $a'$ that the data took. Only where
          these are known.
        - "generalisation": $t M + (1 - t) \bar k I$, between the network and a table in which an update moves each pair as much as the
          network does on average, $\bar k$ being the mean of $K_{ii} \rho_i$.
        """
        K, rho, own = self.coupling.kernel, self.coupling.rho, float(np.mean(self.coupling.own))
        table = np.diag(np.divide(own, rho, out=np.zeros_like(rho), where=rho > 0))
        found = {"bootstrapping": self._share(K, K * rho), "generalisation": self._share(table, own * np.eye(len(rho)))}
        if self.matrix_of_data is not None:
            found["off-policy actions"] = self._share(K, self.matrix_of_data)
        return found

    @cached_property
    def fault(self) -> Fault:
        """Where the fault lies, by what is least doubtful first: the record, the step, then the leg of which least has to go."""
        if self.episodes is not None and self.episodes.faults:
            return Fault("record", "ends and cuts look confused, and every other figure rests on them")
        if self.updates_to_grow > HORIZON:
            if self.values.out_of_bound:
                return Fault(
                    "can't tell", f"values are out of bound, and yet nothing grows by e within {HORIZON} updates: what blew up has passed"
                )
            return Fault("none", f"no error grows by e within {HORIZON} updates")
        if self.step_size * self.decay_needed * HORIZON <= 1:
            return Fault("step", "errors overshoot, and with a short step none would grow; no leg of the triad is needed for that")
        if self.step_size >= self.largest_step_with_fixed_targets:
            return Fault("step", "it is longer than even fixed targets bear, so it hides what else there is: shorten it and ask again")
        shares = {name: share for name, share in self.legs.items() if np.isfinite(share)}
        first, second, *_ = [*sorted(shares, key=lambda name: -shares[name])]
        said = ", ".join(f"{share:.2f} of {name}" for name, share in shares.items())
        if np.isnan(self.legs.get("off-policy actions", 0.0)):
            said += "; with the data's actions they grow too"
        if shares[first] - shares[second] < _ALIKE:
            return Fault("can't tell", f"it needs all legs alike: what may stay is {said}")
        return Fault(first, f"least of it has to go: what may stay is {said}")

    @cached_property
    def cures(self) -> dict[str, float]:
        r"""By what factor the fastest error grows in `HORIZON` updates under each cure, kernel and bootstrap pairs held as they are.

        1 is where the errors do not grow. "preconditioned" has the step 0.1; "target network" is held for 200 updates, "no target network"
        for none; "unit gradients" scales all gradients to one length, which is what normalisation aims at.
        """
        K, rho, M = self.coupling.kernel, self.coupling.rho, self.matrix
        n = len(K)
        own, ahead = np.sqrt(np.diag(K)), np.sqrt(self.bootstrap_diagonal)
        through = (K * rho - M) / np.where(ahead > 0, ahead, 1)[:, None]  # of each row's bootstrap, as if its gradient had length 1
        unit = (K * rho) / np.where(own > 0, own, 1)[:, None] - through
        unit = unit / np.where(own > 0, own, 1) * float(np.mean(own**2))
        live = rho > 0
        solved = np.linalg.solve(K + 1e-4 * np.mean(own**2) * np.eye(n), (M / np.where(live, rho, 1)).T).T * live
        rates = {
            "as it is": self._rate(K, M, self.hold),
            "preconditioned": float(np.log(max(1.0, _modulus(np.linalg.eigvals(solved), 0.1, 0.0)))),
            "unit gradients": self._rate(K, unit, 1),
            "no target network": self._rate(K, M, 1),
            "target network": self._rate(K, M, _INNER_STEPS),
        }
        if self.hold == 1:
            del rates["no target network"]  # which it is
        return {name: min(float(np.exp(min(HORIZON * rate, 30.0))), _MOST) for name, rate in rates.items()}

    @property
    def decay_needed(self) -> float:
        r"""The least weight decay, $\theta' = (1 - \alpha \eta) \theta + \dots$, with which no error grows."""
        return _growth(self.matrix, self.stability.eigenvalues)

    @property
    def numbers(self) -> dict[str, float]:
        """A flat table for logging; what is not known is left out. `legs` and `cures`, which take longer, are not in it."""
        real, rows = self.stability.eigenvalues.real, self.theorem_2.rows
        kept = {
            "largest_value": self.values.largest_value,
            "largest_target": self.values.largest_target,
            "bound": self.values.bound,
            "td_error": self.values.td_error,
            "overestimation": self.values.overestimation,
            "slope": self.values.slope,
            "diagonal": float(np.mean(np.diag(self.coupling.kernel))),
            "row_ratio": float(np.mean(rows.ratios)) if np.all(rows.own > 0) else np.nan,
            "condition": self.condition,
            "alignment": self.move.alignment if self.move else np.nan,
            "second_order": self.move.second_order if self.move else np.nan,
            "breaks_16": float(len(self.theorem_2.breaks_16)),
            "breaks_17": float(len(self.theorem_2.breaks_17)),
            "modulus": self.theorem_2.modulus,
            "least_eigenvalue": float(real.min()),
            "largest_eigenvalue": float(real.max()),
            "step_size": self.step_size,
            "largest_stable_step": self.stability.largest_stable_step,
            "largest_step_with_fixed_targets": self.largest_step_with_fixed_targets,
            "updates_to_grow": self.updates_to_grow,
        }
        return {name: value for name, value in kept.items() if not np.isnan(value)}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _repr_pretty_(self, printer: object, _cycle: bool) -> None:
        """Let a notebook show the report as text when it ends a cell."""
        printer.text(str(self))  # type: ignore[attr-defined]

    def draw(self, axes: Any) -> None:
        r"""Draw four pictures: values and targets beside the bound, K, the spectrum of $I - \alpha M$, and what may stay of each leg.

        Args:
            axes: four of Matplotlib's.

        Raises:
            ValueError: if there are not four.
        """
        if len(axes) != 4:
            raise ValueError(f"axes must be four, got {len(axes)}")
        values, kernel, spectrum, legs = axes
        named = {"|Q|": self.values.largest_value, "|target|": self.values.largest_target, "bound": self.values.bound}
        named = {name: value for name, value in named.items() if np.isfinite(value)}
        values.barh(list(named), list(named.values()))
        values.set(title="largest values")
        own = np.sqrt(np.diag(self.coupling.kernel))
        own = np.where(own > 0, own, 1)
        kernel.imshow(self.coupling.kernel / own / own[:, None], vmin=-1, vmax=1, cmap="RdBu_r")
        kernel.set(title="K, as cosines", xlabel="pair", ylabel="pair")
        circle, after = np.exp(2j * np.pi * np.linspace(0, 1, 200)), 1 - self.step_size * self.stability.eigenvalues
        spectrum.plot(circle.real, circle.imag, linewidth=1)
        spectrum.plot(after.real, after.imag, ".")
        spectrum.set(title="eigenvalues of an update", xlabel="real part", ylabel="imaginary part")
        if self.updates_to_grow <= HORIZON:
            shares = {name: share for name, share in self.legs.items() if np.isfinite(share)}
            legs.barh(list(shares), list(shares.values()))
        legs.set(title="what may stay", xlim=(0, 1))

    # --- The report as text ---

    def _rate(self, K: Float[np.ndarray, "n n"], M: Float[np.ndarray, "n n"], hold: int) -> float:
        r"""Logarithm of what the fastest error grows by in an update, 0 if none grows, infinity beyond floating point.

        While targets are held, errors obey the iteration with $K D$ in the place of $M$, and the updates add up to $S$ times the first
        errors, $S$ a function of $K D$; after they are renewed $\delta' = (I - M S) \delta$. Momentum begins anew with each hold.
        """
        if hold == 1:
            return float(np.log(max(1.0, _modulus(np.linalg.eigvals(M), self.step_size, self.momentum))))
        root = np.sqrt(self.coupling.rho)
        kappa, U = np.linalg.eigh(root[:, None] * K * root)
        kappa = np.append(np.where(kappa > 1e-12 * abs(kappa[-1]), kappa, 0.0), 0.0)
        total, velocity = np.zeros_like(kappa), np.zeros_like(kappa)
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(hold):
                velocity = self.momentum * velocity + (1 - self.momentum) * (1 - kappa * total)
                total = total + self.step_size * velocity
            moved = np.divide(total[:-1] - total[-1], kappa[:-1], out=np.zeros(len(U)), where=kappa[:-1] > 0)
            refresh = np.eye(len(U)) - M @ (total[-1] * np.eye(len(U)) + (K * root) @ (U * moved) @ U.T * root)
        if not np.all(np.isfinite(refresh)):
            return np.inf
        return float(np.log(max(1.0, spectral_radius(refresh)))) / hold

    def _share(self, other_K: Float[np.ndarray, "n n"], other: Float[np.ndarray, "n n"]) -> float:
        """The share t up to which nothing grows in t M + (1 - t) other; NaN if something does at 0.

        It is found by bisection, as if growth only rose with t.
        """

        def quiet(t: float) -> bool:
            K, M = (t * here + (1 - t) * there for here, there in ((self.coupling.kernel, other_K), (self.matrix, other)))
            return self._rate(K, M, self.hold) * HORIZON <= 1

        if not quiet(0.0):
            return np.nan
        if quiet(1.0):
            return 1.0
        low, high = 0.0, 1.0
        while high - low > 0.01:
            middle = (low + high) / 2
            low, high = (middle, high) if quiet(middle) else (low, middle)
        return low

    def _lines(self) -> Iterator[str]:
        seen, n, told = self.stability, len(self.matrix), self.numbers
        real, largest = seen.eigenvalues.real, seen.largest_stable_step
        reach = f"below step size {largest:.6g}" if largest else "at no step size"
        reach += ", without momentum" if self.momentum else ""
        yield f"Fault: {self.fault.name}; {self.fault.reason} [{SOURCES['leg']}]"
        yield from self._value_lines()
        if self.episodes is not None:
            first, *others = str(self.episodes).splitlines()
            yield f"Record: {first} [{SOURCES['record']}]"
            yield from others
        ratio = f", row ratio {told['row_ratio']:.3g}" if "row_ratio" in told else ""
        yield f"Kernel: diagonal {told['diagonal']:.4g} on average{ratio}, condition {self.condition:.3g} [{SOURCES['kernel']}]"
        if self.move is not None:
            yield (
                f"Next step: cosine {self.move.alignment:.3g} with the errors; first order is off by {self.move.second_order:.3g} of its "
                f"length [{SOURCES['move']}]"
            )
        yield f"Errors of {n} pairs, discount {self.discount:.6g}: {seen.verdict}, die out {reach} [{SOURCES['spectrum']}]"
        yield f"     at step size {self.step_size:.6g}: {'die out' if self.settles else 'do not'}, factor {self.factor:.6g} an update"
        yield f"     real parts of eigenvalues: {real.min():.4g} to {real.max():.4g}; {seen.n_null} of {n} eigenvalues are zero"
        yield f"With fixed targets: settles below step size {self.largest_step_with_fixed_targets:.6g}"
        if self.hold > 1:
            grows = "none grows" if np.isinf(self.updates_to_grow) else f"the fastest grows by e in {self.updates_to_grow:.3g} updates"
            yield f"With targets held for {self.hold} updates, as here: {grows}"
        if self.updates_to_grow <= HORIZON:
            yield f"Growth in {HORIZON} updates [{SOURCES['cures']}]"
            for name, factor in self.cures.items():
                yield f"     {name}: {'none' if factor < 1.005 else 'by more than 1e12' if factor >= _MOST else f'by {factor:.3g}'}"
            yield f"     weight decay: none from {self.decay_needed:.3g} on; not told by a batch: emphatic weighting, gradient TD"
        first, *others = str(self.theorem_2).splitlines()
        yield f"{first} [{SOURCES['theorem 2']}]"
        yield from others

    def _value_lines(self) -> Iterator[str]:
        v = self.values
        if np.isnan(v.bound):
            yield f"Values: |Q| up to {v.largest_value:.4g}; no rewards, no bound [{SOURCES['values']}]"
        else:
            said = "OUT OF BOUND" if v.out_of_bound else "within"
            yield (
                f"Values: |Q| up to {v.largest_value:.4g}, targets up to {v.largest_target:.4g}, bound {v.bound:.4g}: {said}; "
                f"error {v.td_error:.4g} [{SOURCES['values']}]"
            )
        if not np.isnan(v.overestimation):
            slope = "" if np.isnan(v.slope) else f"; slope of Q in the action there {v.slope:.4g}"
            yield f"     at the policy's actions Q is {v.overestimation:+.4g} against those of the data{slope}"


def diagnose(
    network: "Network | Differentiable",
    parameters: PyTree,
    inputs: PyTree,
    next_inputs: PyTree,
    *,
    discount: float,
    step_size: float,
    rho: Float[np.ndarray, " n"] | None = None,
    bootstrap: Float[np.ndarray, "n columns"] | None = None,
    ends: Bool[np.ndarray, " n"] | None = None,
    names: Sequence[str] | None = None,
    rewards: Float[np.ndarray, " n"] | None = None,
    targets: Float[np.ndarray, " n"] | None = None,
    largest_reward: float | None = None,
    at_policy: PyTree | None = None,
    n_action_columns: int = 0,
    next_of_data: PyTree | None = None,
    episodes: Episodes | None = None,
    scales: PyTree | None = None,
    hold: int = 1,
    momentum: float = 0.0,
) -> Diagnosis:
    r"""Diagnose a network on a minibatch: Theorem 2, the spectrum of the update, the verdict, the largest steps, and where the fault lies.

    The network is differentiated in the precision of its parameters, everything after that is float64. Of float32 gradients, eigenvalues
    below 1e-7 of the largest one are not to be trusted. With 256 pairs it takes about a tenth of a second, half of it for eigenvalues; the
    legs and cures, which are found when they are asked for or printed, take as much again several times.

    Args:
        network: the function $Q_\theta$ (see `networks`), or what `adapters.from_torch` makes of a module of PyTorch.
        parameters: $\theta$; None with a network that has its own.
        inputs: the n pairs of the batch.
        next_inputs: the m bootstrap pairs. What stands in those without weight is not looked at.
        discount: $\gamma$, in [0, 1).
        step_size: $\alpha$, of the update $\theta' = \theta + \alpha J^\top D_\rho \delta$.
        rho: $\rho$, the weights of the pairs, at least 0; 1/n each by default, the mean over the batch.
        bootstrap: $B$: either of shape (n, m), or of shape (n, k) with m = n k, when row i mixes the bootstrap pairs i k, …, i k + k - 1.
            Weights of at least 0 that sum to at most 1 in a row. By default m = n, and pair i bootstraps from pair i alone.
        ends: which transitions end the episode, and so bootstrap from nothing.
        names: what the report calls the pairs.
        rewards: of the transitions; without them there are no targets.
        targets: those that the agent uses; by default $r + \gamma B Q(y)$. With a target network, twins or an entropy term they are others.
        largest_reward: the largest |r| that can occur; by default the largest in `rewards`.
        at_policy: the batch's observations with the actions that the policy takes there.
        n_action_columns: so many last columns of the inputs, then an array, are the action; 0 where it has no gradient.
        next_of_data: for each transition the pair that followed in the data; what stands there at ends is not looked at.
        episodes: of the record that the batch is from, by `episodes.read_episodes`.
        scales: positive numbers $p$, shaped as the parameters, for an update $\theta' = \theta + \alpha \, p \circ J^\top D_\rho \delta$:
            of Adam $1 / (\sqrt{v} + \epsilon)$, with its step size in $\alpha$. The kernel is then $J \operatorname{diag}(p) J^\top$, and
            costs the Jacobian.
        hold: for how many updates the targets are held; of a target network that follows at a rate $\tau$ about $1 / \tau$.
        momentum: $\beta$ of a running mean of the updates, $m' = \beta m + (1 - \beta) J^\top D_\rho \delta$, as Adam has it.

    Raises:
        ValueError: if an argument is not as said here, or as `kernel_factors`.
    """
    check_discount(discount)
    check_step_size(step_size)
    check_count("hold", hold)
    check_number("momentum", momentum, "lie in [0, 1)", lambda number: 0 <= number < 1)
    n, m = count_samples(inputs), count_samples(next_inputs)
    B = _bootstrap(bootstrap, n, m)
    if ends is not None:
        if np.shape(ends) != (n,) or np.asarray(ends).dtype != bool:
            raise ValueError(f"ends must be {n} booleans, one a transition, got shape {np.shape(ends)} of {np.asarray(ends).dtype}")
        B = np.where(np.asarray(ends)[:, None], 0.0, B)
    if isinstance(network, Differentiable):
        if parameters is not None:
            raise ValueError("parameters must be None with a network that has its own")
        seen = network
    else:
        seen = _Function(network, parameters)
    here = seen.factors(inputs, scales)
    coupling = Coupling(gram(here), np.full(n, 1 / n) if rho is None else np.asarray(rho, float))
    across, ahead, sizes = _across(seen, next_inputs, here, B, scales)
    matrix = error_matrix(coupling, across, B, discount)
    matrix_of_data = None
    if next_of_data is not None:
        if count_samples(next_of_data) != n:
            raise ValueError(f"next_of_data must hold {n} pairs, one a transition, got {count_samples(next_of_data)}")
        E = np.diag(B.any(axis=1).astype(float))
        matrix_of_data = error_matrix(coupling, _across(seen, next_of_data, here, E, scales)[0], E, discount)
    eigenvalues, root = np.linalg.eigvalsh(coupling.kernel), np.sqrt(coupling.rho)
    if np.ptp(root) == 0:
        largest = float(coupling.rho[0] * eigenvalues[-1])
    else:
        largest = float(np.linalg.eigvalsh(root[:, None] * coupling.kernel * root)[-1])
    rounding = n * float(np.finfo(np.dtype(here.Q.dtype)).eps)
    values, move = _read_values(
        seen, inputs, here, coupling, discount * B @ ahead, discount, step_size, rewards, targets, largest_reward, scales
    )
    return Diagnosis(
        coupling,
        theorem_2(coupling, discount, step_size, names),
        analyse_stability(matrix),
        matrix,
        2 / largest * (1 + momentum) / (1 - momentum) if largest > 0 else np.inf,
        _read_policy(seen, here, values, at_policy, n_action_columns),
        float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > rounding * eigenvalues[-1] else np.inf,
        move,
        episodes,
        B @ sizes,
        matrix_of_data,
        hold,
        momentum,
    )


@runtime_checkable
class Differentiable(Protocol):
    """What `diagnose` asks of a network that is no function in JAX. Arrays are of NumPy or JAX, in the network's precision."""

    def factors(self, pairs: PyTree, scales: PyTree = None) -> Factors:
        """Values and gradients of n pairs; with scales, gradients times their roots, in `Factors.others`."""

    def values(self, pairs: PyTree) -> Any:
        """Of the pairs, shape (n,)."""

    def stepped(self, pairs: PyTree, zeta: Float[np.ndarray, " n"], scales: PyTree = None) -> Any:
        r"""Their values at $\theta + p \circ J^\top \zeta$, shape (n,)."""

    def slopes(self, pairs: PyTree) -> Any:
        """Gradients of the values in the pairs, then an array, of its shape."""


def _across(
    seen: Differentiable, pairs: PyTree, here: Factors, B: Float[np.ndarray, "n m"], scales: PyTree
) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The kernel between other pairs and the batch, their values and squared gradients; zero for those that have no weight."""
    used, n = np.asarray(B.any(axis=0)), len(here.Q)
    across, values, sizes = np.zeros((len(used), n)), np.zeros(len(used)), np.zeros(len(used))
    if used.any():
        there = seen.factors(jax.tree.map(lambda leaf: np.asarray(leaf)[used], pairs), scales)
        across[used], values[used], sizes[used] = gram(there, here), np.asarray(there.Q, float), add_squares(in_float64(there))
    return across, values, sizes


def _read_values(
    seen: Differentiable,
    inputs: PyTree,
    here: Factors,
    coupling: Coupling,
    bootstrapped: Float[np.ndarray, " n"],
    discount: float,
    step_size: float,
    rewards: Any,
    targets: Any,
    largest_reward: float | None,
    scales: PyTree,
) -> tuple[Values, Move | None]:
    """Values and targets beside their bound, and the next step."""
    Q = np.asarray(here.Q, float)
    largest = float(np.abs(Q).max())
    if rewards is None:
        if targets is not None:
            raise ValueError("targets must come with rewards, which say what they may be")
        return Values(largest), None
    rewards = check_shape("rewards", rewards, Q.shape)
    targets = rewards + bootstrapped if targets is None else check_shape("targets", targets, Q.shape)
    reach = float(np.abs(rewards).max()) if largest_reward is None else check_positive("largest_reward", largest_reward)
    delta = targets - Q
    values = Values(largest, float(np.abs(targets).max()), reach / (1 - discount), float(np.sqrt(np.mean(delta**2))))
    zeta = step_size * coupling.rho * delta
    moved = np.asarray(seen.stepped(inputs, zeta, scales), float) - Q
    length = float(np.linalg.norm(moved))
    second = float(np.linalg.norm(moved - coupling.kernel @ zeta)) / length if length > 0 else np.nan
    cosine = float(moved @ delta) / (length * float(np.linalg.norm(delta))) if length > 0 else np.nan
    return values, Move(cosine, second)


def _read_policy(seen: Differentiable, here: Factors, values: Values, at_policy: PyTree, n_action_columns: int) -> Values:
    """Overestimation at the policy's actions, and the slope there."""
    if at_policy is None:
        return values
    n = len(here.Q)
    if count_samples(at_policy) != n:
        raise ValueError(f"at_policy must hold {n} pairs, one an observation of the batch, got {count_samples(at_policy)}")
    there = np.asarray(seen.values(at_policy), float)
    values = replace(values, overestimation=float(np.mean(there - np.asarray(here.Q, float))))
    if not n_action_columns:
        return values
    slopes = np.asarray(seen.slopes(at_policy), float)[:, -n_action_columns:]
    return replace(values, slope=float(np.mean(np.linalg.norm(slopes, axis=1))))


@dataclass(frozen=True)
class _Function:
    """A network that is a function in JAX, at its parameters; see `Differentiable`."""

    network: Network
    parameters: PyTree

    def factors(self, pairs: PyTree, scales: PyTree = None) -> Factors:
        plain = kernel_factors(self.network, self.parameters, pairs)
        if scales is None:
            return plain
        wrong = [np.shape(s) != np.shape(p) for s, p in zip(jax.tree.leaves(scales), jax.tree.leaves(self.parameters), strict=True)]
        if any(wrong) or not all(np.all(np.isfinite(s) & (np.asarray(s) > 0)) for s in jax.tree.leaves(scales)):
            raise ValueError("scales must be positive and finite, and shaped as the parameters")
        rows = _rows(self.network, self.parameters, self.follow(pairs))
        return Factors(plain.Q, (), tuple(r * jnp.sqrt(jnp.ravel(s)) for r, s in zip(rows, jax.tree.leaves(scales), strict=True)))

    def values(self, pairs: PyTree) -> Any:
        return self.network(self.parameters, self.follow(pairs), dense)

    def stepped(self, pairs: PyTree, zeta: Float[np.ndarray, " n"], scales: PyTree = None) -> Any:
        return _stepped(self.network, self.parameters, self.follow(pairs), zeta, scales)

    def slopes(self, pairs: PyTree) -> Any:
        return _slopes(self.network, self.parameters, self.follow(pairs))

    def follow(self, pairs: PyTree) -> PyTree:
        """The real ones among them in the precision of the network."""
        dtype = jnp.result_type(*jax.tree.leaves(self.parameters))
        return jax.tree.map(lambda x: jnp.asarray(x, dtype if jnp.issubdtype(jnp.result_type(x), jnp.floating) else None), pairs)


@partial(jax.jit, static_argnums=0)
def _rows(network: Network, parameters: PyTree, pairs: PyTree) -> list[Float[Array, "n size"]]:
    """The Jacobian, parameter by parameter."""

    def value(p: PyTree, pair: PyTree) -> Array:
        return network(p, jax.tree.map(lambda leaf: leaf[None], pair), dense)[0]

    rows = jax.vmap(lambda pair: jax.grad(value)(parameters, pair))(pairs)
    return [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(rows)]


@partial(jax.jit, static_argnums=0)
def _stepped(network: Network, parameters: PyTree, pairs: PyTree, zeta: Float[Array, " n"], scales: PyTree) -> Float[Array, " n"]:
    step = jax.grad(lambda p: jnp.sum(zeta * network(p, pairs, dense)))(parameters)
    if scales is not None:
        step = jax.tree.map(jnp.multiply, scales, step)
    return network(jax.tree.map(jnp.add, parameters, step), pairs, dense)


@partial(jax.jit, static_argnums=0)
def _slopes(network: Network, parameters: PyTree, pairs: Float[Array, "n d"]) -> Float[Array, "n d"]:
    return jax.grad(lambda x: jnp.sum(network(parameters, x, dense)))(pairs)


def _modulus(eigenvalues: Any, step_size: float, momentum: float) -> float:
    r"""The largest modulus of an update with these eigenvalues: roots of $z^2 - (1 + \beta - \alpha (1 - \beta) \lambda) z + \beta$."""
    if not momentum:
        return float(np.max(np.abs(1 - step_size * eigenvalues), initial=0.0))
    middle = (1 + momentum - step_size * (1 - momentum) * eigenvalues) / 2
    root = np.sqrt(middle.astype(complex) ** 2 - momentum)
    return float(np.max(np.maximum(np.abs(middle + root), np.abs(middle - root)), initial=0.0))


def _growth(matrix: Float[np.ndarray, "n n"], eigenvalues: Any = None) -> float:
    """How fast the fastest direction of the errors grows, in units of the step; 0 if none does."""
    return max(0.0, float(-(np.linalg.eigvals(matrix) if eigenvalues is None else eigenvalues).real.min()))


def error_matrix(
    coupling: Coupling, across: Float[np.ndarray, "m n"], bootstrap: Float[np.ndarray, "n m"], discount: float
) -> Float[np.ndarray, "n n"]:
    r"""$M = (K - \gamma B K') D_\rho$ of the module's equation, shape (n, n).

    Args:
        coupling: $K$ and $\rho$ on the pairs of the batch.
        across: $K'$, between the bootstrap pairs and those of the batch, shape (m, n). Where the batch holds all pairs of an MDP it is $K$.
        bootstrap: $B$, shape (n, m); then it is $P$.
        discount: $\gamma$.

    Raises:
        ValueError: if the shapes do not fit, or `discount` is not in [0, 1).
    """
    check_discount(discount)
    n, m = len(coupling.rho), len(across)
    if across.shape != (m, n) or bootstrap.shape != (n, m):
        raise ValueError(f"across and bootstrap must have shapes (m, {n}) and ({n}, m), got {across.shape} and {bootstrap.shape}")
    return (coupling.kernel - discount * bootstrap @ across) * coupling.rho


def row_sums(
    network: Network,
    parameters: PyTree,
    inputs: PyTree,
    rho: Float[Array, " N"] | Float[np.ndarray, " N"] | None = None,
    *,
    block_size: int = 512,
) -> Rows:
    r"""The weighted row sums of the kernel of many samples, in blocks: never more than `block_size`² of its entries at a time.

    The layer inputs and gradients of all samples are kept, which is linear in N. By symmetry each block serves its rows and its columns.
    The sums are formed in the precision of the parameters.

    Args:
        network: the function (see `networks`).
        parameters: its parameters.
        inputs: N samples.
        rho: $\rho$, one weight a sample, not negative; all 1 by default.
        block_size: number of samples in a block.

    Raises:
        ValueError: if a weight is negative or not finite, `block_size` is not positive, or as `kernel_factors` for the first block; and if
            a value is not finite.
    """
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    N = count_samples(inputs)
    weights = np.ones(N) if rho is None else np.asarray(rho, float)
    if weights.shape != (N,):
        raise ValueError(f"rho must have shape ({N},), got {weights.shape}")
    if not np.all(np.isfinite(weights) & (weights >= 0)):
        raise ValueError("rho must hold non-negative, finite weights")
    B = min(block_size, N)
    check_network(network, parameters, jax.tree.map(lambda leaf: leaf[: min(B, 256)], inputs))
    # The last block is filled up with copies of the first sample, which weigh nothing.
    filled = jax.tree.map(lambda leaf: _fill(jnp.asarray(leaf), -N % B, B), inputs)
    diagonal, others = _block_sums(network, parameters, filled, np.pad(weights, (0, -N % B)).reshape(-1, B))
    own, others = np.asarray(diagonal, float).ravel()[:N] * weights, np.asarray(others, float).ravel()[:N]
    if not np.all(np.isfinite(own) & np.isfinite(others)):
        raise ValueError("the kernel must be finite, got NaN or infinity among its entries")
    return Rows(own, others)


def _bootstrap(weights: Float[np.ndarray, "n columns"] | None, n: int, m: int) -> Float[np.ndarray, "n m"]:
    """$B$ as a matrix, from any of its three forms."""
    if weights is None:
        if m != n:
            raise ValueError(f"next_inputs must hold {n} bootstrap pairs, one a transition, unless bootstrap mixes them, got {m}")
        return np.eye(n)
    B = np.asarray(weights, float)
    if B.shape != (n, m) and not (B.ndim == 2 and len(B) == n and B.size == m):
        raise ValueError(f"bootstrap must have shape ({n}, {m}), or ({n}, k) with {n} k = {m} bootstrap pairs, got {B.shape}")
    if not np.all(B >= 0) or np.any(B.sum(axis=1) > 1 + 1e-6):
        raise ValueError("bootstrap must hold weights of at least 0 that sum to at most 1 in every row")
    if B.shape == (n, m):
        return B
    matrix, k = np.zeros((n, m)), B.shape[1]
    for i in range(n):
        matrix[i, i * k : (i + 1) * k] = B[i]
    return matrix


def _fill(leaf: Array, padding: int, block_size: int) -> Array:
    return jnp.concatenate([leaf, jnp.repeat(leaf[:1], padding, axis=0)]).reshape(-1, block_size, *leaf.shape[1:])


@partial(jax.jit, static_argnums=0)
def _block_sums(network: Network, parameters: PyTree, blocks: PyTree, weights: Float[Array, "m B"]) -> tuple[Array, Array]:
    """Diagonal without weights and off-diagonal row sums with them, for inputs in m blocks of B samples; both of shape (m, B)."""
    factors = jax.lax.map(partial(kernel_factors, network, parameters), blocks)
    rho = jnp.asarray(weights, factors.Q.dtype)
    m, B = rho.shape
    rows, columns = np.triu_indices(m)
    off_diagonal_mask = 1 - jnp.eye(B, dtype=rho.dtype)

    def add(sums: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        i, j = pair
        here, there = (jax.tree.map(lambda leaf, at=at: leaf[at], factors) for at in (i, j))
        K = jnp.abs(here.cross_kernel(there)) * jnp.where(i == j, off_diagonal_mask, 1)
        sums = sums.at[i].add(K @ rho[j])
        return sums.at[j].add(jnp.where(i == j, 0, rho[i] @ K)), None

    sums, _ = jax.lax.scan(add, jnp.zeros_like(rho), (jnp.asarray(rows), jnp.asarray(columns)))
    return jax.lax.map(Factors.diagonal, factors), sums
