r"""What mends off-policy TD, each as a change of one factor of $I - \alpha K D (I - \gamma P)$.

With $A = \Phi^\top D (I - \gamma P_\pi) \Phi$, $b = \Phi^\top D r_\pi$ and the covariance of the features $C = \Phi^\top D \Phi$:

- *emphatic TD* changes $D$: to the followon $f = (I - \gamma P_\pi^\top)^{-1} (d \circ i)$, whose key matrix is definite;
- *a target network* changes $K$: n inner steps towards a frozen target are one step with the matrix $S_n = C^{-1} (I - (I - \alpha C)^n)$
  in the place of the step size;
- *PreQN* on minibatches changes $D$: to the expected inverse of the minibatch's kernel, which for one state is $d_s / K_{ss}$ and for all
  states $K^+$;
- *longer returns* change $T$: to that of the chain that takes n steps at a time;
- *GTD2 and TDC* change $D$ to $(I - \gamma P_\pi)^\top D \Pi$, with a second set of parameters that learns what that asks for.

All of them are linear, so the verdict on each is `stability.analyse_stability` or a spectral radius.

>>> from deadly_triad.examples import baird, w_to_2w
>>> from deadly_triad.stability import analyse_stability, spectral_radius
>>> analyse_stability(emphatic_td(baird().off_policy).A).verdict  # but for the null direction of its features
'semistable'
>>> [spectral_radius(frozen_target_update(w_to_2w().off_policy, 0.1, n)) < 1 for n in (1, 10, 1000)]
[False, False, False]
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from deadly_triad._checks import (
    Numbers,
    check_count,
    check_discount,
    check_distribution,
    check_entries,
    check_finite,
    check_is,
    check_number,
    check_positive,
    check_step_size,
    check_stochastic,
    check_weights,
    shorten,
)
from deadly_triad.linear_td import LinearTD, SampledTD, Transitions, _semi_gradients, check_sampling, run_samples, trajectories
from deadly_triad.mdp import MDP, check_policy, importance_ratios, policy_transitions, stationary_distribution


def covariance(system: LinearTD) -> Float[np.ndarray, "k k"]:
    r"""$C = \Phi^\top D \Phi$, the second moments of the features under the data, shape (k, k)."""
    check_is("system", system, LinearTD)
    return system.features.T @ (system.weighting[:, None] * system.features)


# --- Another D: emphatic weighting -----------------------------------------------------------------------------------


def followon(
    transitions: Numbers[ArrayLike, "n n"],
    weighting: Numbers[ArrayLike, " n"],
    discount: float,
    interest: Numbers[ArrayLike, " n"] | None = None,
) -> Float[np.ndarray, " n"]:
    r"""$f = (I - \gamma P_\pi^\top)^{-1} (d \circ i)$: how often a state is met, discounted, by walks of the target that start in the data.

    It sums to $d^\top i / (1 - \gamma)$ (Sutton, Mahmood & White 2016; Sutton & Barto 2018, sec. 11.8).

    Args:
        transitions: $P_\pi$, shape (n, n).
        weighting: $d$, weights of the states in the data, shape (n,).
        discount: $\gamma$, in [0, 1).
        interest: $i$, how much each state matters, at least 0, shape (n,); 1 everywhere by default.

    Raises:
        ValueError: if `transitions` is not a stochastic matrix, `weighting` or `interest` has another shape or a negative entry, or the
            discount is not in [0, 1).
    """
    transitions, discount = check_stochastic("transitions", transitions), check_discount(discount)
    n = len(transitions)
    weighting = check_weights("weighting", weighting, (n,))
    interest = np.ones(n) if interest is None else check_weights("interest", interest, (n,))
    return np.linalg.solve(np.eye(n) - discount * transitions.T, weighting * interest)


def emphatic_td(system: LinearTD, interest: Numbers[ArrayLike, " n"] | None = None) -> LinearTD:
    r"""Expected emphatic TD(0): `system` with its states weighted by the followon.

    The weighting is divided by its sum, so $A$ and $b$ are those of the algorithm up to one positive factor, $d^\top i / (1 - \gamma)$,
    which belongs to the step size.

    Args:
        system: off-policy TD.
        interest: $i$, shape (n,); 1 everywhere by default.

    Raises:
        ValueError: as `followon`, and if no state of the data is of interest.
    """
    check_is("system", system, LinearTD)
    f = followon(system.transitions, system.weighting, system.discount, interest)
    if not f.sum() > 0:
        raise ValueError("interest must be positive in some state with positive weighting")
    return replace(system, weighting=f / f.sum())


# --- Another T: longer returns ---------------------------------------------------------------------------------------


def n_step_td(system: LinearTD, n_steps: int) -> LinearTD:
    r"""Expected TD towards the n-step return of the target policy: TD(0) on the chain that takes n steps at a time.

    The target is $\sum_{k < n} (\gamma P)^k r + (\gamma P)^n v$, so $P^n$ takes the place of $P$, and $\gamma^n$ that of $\gamma$.
    The true values stay what they are.

    Raises:
        ValueError: if `n_steps` is not a whole number of at least 1.
    """
    check_is("system", system, LinearTD)
    steps, rewards = np.eye(len(system.weighting)), np.zeros(len(system.weighting))
    for k in range(check_count("n_steps", n_steps)):
        rewards += system.discount**k * steps @ system.rewards
        steps = steps @ system.transitions
    return replace(system, transitions=steps / steps.sum(axis=1, keepdims=True), rewards=rewards, discount=system.discount**n_steps)


# --- Emphasis in samples ---------------------------------------------------------------------------------------------


def squared_ratio_matrix(mdp: MDP, target: Numbers[ArrayLike, "S A"], behaviour: Numbers[ArrayLike, "S A"]) -> Float[np.ndarray, "S S"]:
    r"""$\tilde P(s' | s) = \sum_a \frac{\pi(a|s)^2}{b(a|s)} P(s' | s, a)$, shape (S, S): $P_\pi$ with each action weighted by its ratio.

    Along a trajectory of the behaviour policy the followon trace $F_t = 1 + \gamma \rho_{t-1} F_{t-1}$ has second moments
    $g_t(s) = E[F_t^2 1\{S_t = s\}]$ with
    $g_{t+1} = d + 2 \gamma P_\pi^\top m_t + \gamma^2 \tilde P^\top g_t$, where $m_t$ are the first ones.

    Raises:
        ValueError: if a policy does not fit the MDP, or `behaviour` does not cover `target`.
    """
    target, behaviour = check_policy("target", mdp, target), check_policy("behaviour", mdp, behaviour)
    return np.einsum("sa,sat->st", target * importance_ratios(target, behaviour), mdp.transitions)


def followon_moments(
    mdp: MDP, target: Numbers[ArrayLike, "S A"], behaviour: Numbers[ArrayLike, "S A"], n_steps: int
) -> tuple[Float[np.ndarray, " {n_steps+1}"], Float[np.ndarray, " {n_steps+1}"]]:
    r"""Exact mean and mean square of the followon trace $F_0, …, F_T$ along trajectories of the behaviour policy, from $F_0 = 1$.

    Trajectories start in the stationary distribution of `behaviour`. See `squared_ratio_matrix` for the recursion.

    Raises:
        ValueError: as `squared_ratio_matrix`; if `behaviour` has no unique stationary distribution, `n_steps` is not positive, or a moment
            leaves the range of floating point.
    """
    n_steps = check_count("n_steps", n_steps)
    squares = squared_ratio_matrix(mdp, target, behaviour)
    P = policy_transitions(mdp, target)
    d = stationary_distribution(policy_transitions(mdp, behaviour))
    first, second = d, d
    moments = [(first.sum(), second.sum())]
    for t in range(n_steps):
        with np.errstate(over="ignore", invalid="ignore"):
            second = d + 2 * mdp.discount * P.T @ first + mdp.discount**2 * squares.T @ second
        first = d + mdp.discount * P.T @ first
        moments.append((first.sum(), second.sum()))
        if not np.isfinite(moments[-1][1]):
            raise ValueError(f"n_steps must be at most {t} here: the mean square leaves the range of floating point after that")
    means, squares_of_trace = np.array(moments).T
    return means, squares_of_trace


def sampled_emphatic_td(
    mdp: MDP,
    features: Numbers[ArrayLike, "S k"],
    *,
    target: Numbers[ArrayLike, "S A"],
    behaviour: Numbers[ArrayLike, "S A"],
    start: Numbers[ArrayLike, " k"],
    step_size: float,
    n_steps: int,
    n_runs: int,
    rng: np.random.Generator,
    keep_every: int = 1,
) -> tuple[SampledTD, Float[np.ndarray, "{n_runs} {n_steps}"]]:
    r"""Emphatic TD(0) along trajectories of the behaviour policy, many independent runs at once.

    $\theta \mathrel{+}= \alpha F_t \rho_t (r + \gamma \theta^\top \phi' - \theta^\top \phi) \phi$ with
    $F_t = 1 + \gamma \rho_{t-1} F_{t-1}$ and $F_0 = 1$ (Sutton & Barto 2018, sec. 11.8, with interest 1). Runs start in the stationary
    distribution of `behaviour`.

    Args:
        mdp: the decision process.
        features: $\Phi$, shape (S, k).
        target: $\pi$, shape (S, A).
        behaviour: $b$, shape (S, A).
        start: $\theta_0$, shape (k,).
        step_size: $\alpha$.
        n_steps: transitions per run.
        n_runs: number of runs, R.
        rng: source of all randomness.
        keep_every: keep the parameters of every so many steps (and of step 0).

    Returns:
        The parameters, and the followon traces $F_0, …, F_{T-1}$ of all runs.

    Raises:
        ValueError: if an argument does not fit the MDP or is not positive, or `behaviour` does not cover `target` or has no unique
            stationary distribution.
    """
    features, target, behaviour, start = check_sampling(mdp, features, target, behaviour, start)
    step_size, samples = check_step_size(step_size), trajectories(mdp, behaviour, n_runs, rng)
    ratios, traces = importance_ratios(target, behaviour), [np.ones(n_runs)]

    def increments(sample: Transitions, theta: Float[np.ndarray, "R k"]) -> Float[np.ndarray, "R k"]:
        ratio, trace = ratios[sample.states, sample.actions], traces[-1]
        traces.append(1 + mdp.discount * ratio * trace)
        return (step_size * trace * ratio)[:, None] * _semi_gradients(mdp, features, sample, theta)

    runs = run_samples(samples, increments, start, n_steps=n_steps, n_runs=n_runs, keep_every=keep_every)
    return runs, np.stack(traces[:-1], axis=1)


# --- Another K: target networks --------------------------------------------------------------------------------------


def inner_steps_matrix(system: LinearTD, step_size: float, n_inner: int) -> Float[np.ndarray, "k k"]:
    r"""$S_n = \alpha \sum_{j<n} (I - \alpha C)^j$, what n inner steps of size $\alpha$ make of a step size, shape (k, k).

    $S_1 = \alpha I$, and $S_n \to C^{-1}$ if $C$ is invertible and $\alpha < 2 / \lambda_{\max}(C)$.

    Raises:
        ValueError: if `step_size` or `n_inner` is not positive, or the inner steps leave the range of floating point.
    """
    check_is("system", system, LinearTD)
    step_size, n_inner = check_step_size(step_size), check_count("n_inner", n_inner, most=2**63 - 1)
    k = system.features.shape[1]
    one = np.block([[np.eye(k) - step_size * covariance(system), step_size * np.eye(k)], [np.zeros((k, k)), np.eye(k)]])
    # The powers of [[M, a I], [0, I]] carry the geometric sum in their corner, and need no inverse of C.
    with np.errstate(over="ignore", invalid="ignore"):
        corner = np.linalg.matrix_power(one, n_inner)[:k, k:]
    if not np.all(np.isfinite(corner)):
        raise ValueError(f"step_size must be below 2 / lambda_max(C) for so many inner steps, got {step_size}")
    return corner


def frozen_target_update(system: LinearTD, step_size: float, n_inner: int) -> Float[np.ndarray, "k k"]:
    r"""$I - S_n A$: what one cycle of a target network does to the error of the parameters, shape (k, k).

    A cycle freezes the target $\theta^-$ at the present parameters and makes n steps
    $\theta \mathrel{+}= \alpha (b + (C - A) \theta^- - C \theta)$.
    With n = 1 it is TD; as n grows it tends to $I - C^{-1} A$, projected value iteration, if $C$ is invertible and the inner steps settle.

    Raises:
        ValueError: as `inner_steps_matrix`.
    """
    inner = inner_steps_matrix(system, step_size, n_inner)
    return np.eye(len(inner)) - inner @ system.A


def projected_iteration(system: LinearTD) -> Float[np.ndarray, "k k"]:
    r"""$I - C^+ A$: the target network after infinitely many inner steps, projected value iteration in parameters, shape (k, k).

    Null directions of the features stay where they are, as under the inner steps.

    Raises:
        ValueError: if the weighting leaves out states so that $C$ cannot tell apart functions which $A$ can.
    """
    system = _unit_size(system)
    root = _whitening(system)
    return np.eye(len(root)) - root @ root.T @ system.A


def averaged_target_update(system: LinearTD, step_size: float, rate: float) -> Float[np.ndarray, "m m"]:
    r"""One step with a target that follows: on the errors of $(\theta, \theta^-)$, shape (2 k, 2 k).

    $\theta \mathrel{+}= \alpha (b + (C - A) \theta^- - C \theta)$, then $\theta^- \mathrel{+}= \tau (\theta - \theta^-)$ with the new
    $\theta$ (Lillicrap et al. 2016). With $\tau = 1$ it is TD.

    Args:
        system: off-policy TD.
        step_size: $\alpha$.
        rate: $\tau$, in (0, 1].

    Raises:
        ValueError: if `step_size` is not positive or `rate` is not in (0, 1].
    """
    step_size = check_step_size(step_size)
    rate = check_number("rate", rate, "lie in (0, 1]", lambda number: 0 < number <= 1)
    C = covariance(system)
    identity = np.eye(len(C))
    above = np.hstack([identity - step_size * C, step_size * (C - system.A)])
    below = rate * above
    below[:, len(C) :] += (1 - rate) * identity
    return np.vstack([above, below])


# --- From another D to another K: PreQN on minibatches ---------------------------------------------------------------


def drawn_sets(weighting: Numbers[ArrayLike, " n"], batch_size: int) -> tuple[Bool[np.ndarray, "m n"], Float[np.ndarray, " m"]]:
    r"""Which states a minibatch of independent draws holds, as sets, and with which chance.

    Least squares does not see how often a state was drawn, so the set is all that matters to PreQN.

    Args:
        weighting: $d$, from which the states are drawn, shape (n,); at most 16 of them may be positive.
        batch_size: draws, with replacement.

    Returns:
        The sets, one a row, and their chances, which are positive and sum to 1.

    Raises:
        ValueError: if `weighting` holds a negative entry, or no positive one or more than 16; or if `batch_size` is not positive.

    >>> sets, chances = drawn_sets([0.5, 0.5], 2)
    >>> [(row.tolist(), float(chance)) for row, chance in zip(sets, chances, strict=True)]
    [([True, False], 0.25), ([False, True], 0.25), ([True, True], 0.5)]
    """
    weighting, batch_size = check_weights("weighting", weighting), check_count("batch_size", batch_size)
    seen = np.flatnonzero(weighting)
    if weighting.ndim != 1 or not 0 < len(seen) <= 16:
        raise ValueError(f"weighting must be a vector with 1 to 16 positive entries, got {shorten(weighting)}")
    d = weighting[seen] / weighting[seen].max()
    d /= d.sum()
    codes = np.arange(2 ** len(seen))
    holds = codes[:, None] >> np.arange(len(seen)) & 1 == 1
    chances = (codes == 0).astype(float)
    for _ in range(batch_size):
        after = chances * (holds @ d)
        for k, share in enumerate(d):
            np.add.at(after, codes[~holds[:, k]] | 1 << k, share * chances[~holds[:, k]])
        chances = after
    sets = np.zeros((len(codes), len(weighting)), bool)
    sets[:, seen] = holds
    return sets[chances > 0], chances[chances > 0]


def preqn_matrix(
    system: LinearTD, sets: Numbers[ArrayLike, "m n"], chances: Numbers[ArrayLike, " m"] | None = None
) -> Float[np.ndarray, "k k"]:
    r"""$E[\Phi_B^+ (\Phi - \gamma P_\pi \Phi)_B]$, shape (k, k): an expected step of linear PreQN is $I - \alpha$ times it.

    One step on the minibatch $B$ is $\theta' = \theta + \alpha \Phi_B^+ (T v - v)_B$, with the least-squares solution of least norm. In
    values the expectation is $I - \alpha K N (I - \gamma P_\pi)$, $N = E[E_B^\top K_{BB}^+ E_B]$, where $E_B$ picks the rows of $B$.

    Args:
        system: off-policy TD; its weighting is not used, as the sets say what is in a minibatch.
        sets: minibatches, one a row; True or 1 where the state is in it.
        chances: with which probability each occurs; all alike by default.

    Raises:
        ValueError: if `sets` or `chances` has another shape, `sets` another entry, or `chances` is not a probability distribution.
    """
    check_is("system", system, LinearTD)
    holds = check_finite("sets", sets)
    if holds.ndim != 2 or holds.shape[1] != len(system.features):
        raise ValueError(f"sets must have shape (m, n) with n = {len(system.features)}, got {holds.shape}")
    check_entries("sets", holds, "hold zeros and ones", (holds == 0) | (holds == 1))
    shares = np.full(len(holds), 1 / len(holds)) if chances is None else check_distribution("chances", chances)
    if shares.shape != (len(holds),):
        raise ValueError(f"chances must have shape ({len(holds)},), got {shares.shape}")
    Phi = system.features
    errors = Phi - system.discount * system.transitions @ Phi
    steps = [share * np.linalg.pinv(Phi[B]) @ errors[B] for B, share in zip(holds == 1, shares, strict=True)]
    return np.sum(steps, axis=0)


# --- Another update: gradient TD ---------------------------------------------------------------------------------------


def gtd2_matrix(system: LinearTD, ratio: float) -> Float[np.ndarray, "m m"]:
    r"""$M$ of expected GTD2 on $(\theta, w)$: one step of size $\alpha$ multiplies the error by $I - \alpha M$, shape (2 k, 2 k).

    $\theta \mathrel{+}= \alpha A^\top w$ and $w \mathrel{+}= \alpha \eta (b - A \theta - C w)$
    (Sutton et al. 2009; Sutton & Barto 2018, sec. 11.7).

    Args:
        system: off-policy TD.
        ratio: $\eta$, the step size of $w$ over that of $\theta$.

    Raises:
        ValueError: if `ratio` is not positive and finite.
    """
    check_is("system", system, LinearTD)
    ratio = check_positive("ratio", ratio)
    A, C = system.A, covariance(system)
    return np.block([[np.zeros_like(A), -A.T], [ratio * A, ratio * C]])


def tdc_matrix(system: LinearTD, ratio: float) -> Float[np.ndarray, "m m"]:
    r"""$M$ of expected TDC on $(\theta, w)$: one step of size $\alpha$ multiplies the error by $I - \alpha M$, shape (2 k, 2 k).

    $\theta \mathrel{+}= \alpha (b - A \theta - (C - A^\top) w)$ and $w \mathrel{+}= \alpha \eta (b - A \theta - C w)$: TD with a
    correction (Sutton et al. 2009; Sutton & Barto 2018, sec. 11.7).

    Args:
        system: off-policy TD.
        ratio: $\eta$, the step size of $w$ over that of $\theta$.

    Raises:
        ValueError: if `ratio` is not positive and finite.
    """
    check_is("system", system, LinearTD)
    ratio = check_positive("ratio", ratio)
    A, C = system.A, covariance(system)
    return np.block([[A, C - A.T], [ratio * A, ratio * C]])


def tdc_ratio(system: LinearTD) -> float:
    r"""$\max(0, -\lambda_{\min})$ of the symmetric part of $A$ relative to $C$: TDC is stable for every larger ratio (Maei 2011).

    Null directions of the features do not count.

    Raises:
        ValueError: if the weighting leaves out states so that $C$ cannot tell apart functions which $A$ can.
    """
    system = _unit_size(system)
    A, root = system.A, _whitening(system)
    relative = root.T @ (A + A.T) @ root / 2
    return float(-np.min(np.linalg.eigvalsh(relative), initial=0.0))


def gradient_td_limit(system: LinearTD) -> Float[np.ndarray, "k k"]:
    r"""$A^\top C^+ A$: what GTD2 and TDC are when $w$ is much faster than $\theta$, gradient descent on the projected Bellman error.

    Symmetric and positive semidefinite, shape (k, k).

    Raises:
        ValueError: if the weighting leaves out states so that $C$ cannot tell apart functions which $A$ can.
    """
    check_is("system", system, LinearTD)
    turned = _whitening(system).T @ system.A
    return turned.T @ turned


def _unit_size(system: LinearTD) -> LinearTD:
    """The system with features of about size 1, for what does not depend on their size: squares of tiny ones would be lost."""
    check_is("system", system, LinearTD)
    return replace(system, features=np.ldexp(system.features, -np.frexp(np.abs(system.features).max())[1]))


def _whitening(system: LinearTD) -> Float[np.ndarray, "k r"]:
    """Columns W with W W^T = C^+: the new features Phi W have the covariance I."""
    A, C = system.A, covariance(system)
    eigenvalues, vectors = np.linalg.eigh(C)
    seen = eigenvalues > 1e-12 * eigenvalues[-1]
    unseen = vectors[:, ~seen]
    if np.max(np.abs(A @ unseen), initial=0.0) > 1e-9 * max(float(np.abs(A).max()), float(eigenvalues[-1])):
        raise ValueError("weighting must cover enough states: A sees directions of the parameters that C does not")
    return vectors[:, seen] / np.sqrt(eigenvalues[seen])
