"""What the property tests draw: a seed and sizes from hypothesis, the numbers from NumPy.

Nearly every draw of continuous entries is generic (invertible, diagonalisable, without ties), which is what most properties want; special
cases (Jordan blocks, transient states, missing coverage) are written out in the tests that need them.
"""

import numpy as np
from deadly_triad.examples import random_mdp, random_policy
from deadly_triad.fixed_point import Norm
from deadly_triad.linear_td import LinearTD, linear_td
from deadly_triad.mdp import MDP
from hypothesis import strategies as st

ORDERS = (1, 2, np.inf)

generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def matrices(draw: st.DrawFn, max_size: int = 5) -> np.ndarray:
    """A square matrix of standard normal entries."""
    n = draw(st.integers(1, max_size))
    return draw(generators).standard_normal((n, n))


@st.composite
def norms(draw: st.DrawFn, size: int) -> Norm:
    """A norm on vectors of `size` entries: any order, with or without a scale."""
    order = draw(st.sampled_from(ORDERS))
    # Singular values of at most sqrt(2) and at least 1/sqrt(2): the scale costs no digits worth counting.
    scale = rotation(draw(generators), size) @ np.diag(draw(generators).uniform(0.5, 2, size) ** 0.5)
    return Norm(order, draw(st.sampled_from((None, scale))))


@st.composite
def mdps(draw: st.DrawFn, max_states: int = 5, max_actions: int = 3) -> MDP:
    """A random MDP with any branching and a discount of at most 0.99."""
    n_states, n_actions = draw(st.integers(1, max_states)), draw(st.integers(1, max_actions))
    branching, discount = draw(st.integers(1, n_states)), draw(st.floats(0, 0.99))
    return random_mdp(draw(generators), n_states, n_actions, discount=discount, branching=branching)


@st.composite
def mdps_with_policy(draw: st.DrawFn) -> tuple[MDP, np.ndarray]:
    """A random MDP and a policy of it."""
    mdp = draw(mdps())
    return mdp, random_policy(draw(generators), mdp)


@st.composite
def systems(draw: st.DrawFn) -> LinearTD:
    """Off-policy linear TD on a random MDP: at most as many features as states, every state weighted."""
    mdp, target = draw(mdps_with_policy())
    rng = draw(generators)
    features = rng.standard_normal((mdp.n_states, draw(st.integers(1, mdp.n_states))))
    # Bounded away from 0, so that inverses lose few digits.
    weighting = rng.uniform(0.2, 1, mdp.n_states)
    return linear_td(mdp, features, target=target, weighting=weighting / weighting.sum())


def rotation(rng: np.random.Generator, size: int) -> np.ndarray:
    """A random orthogonal matrix."""
    return np.linalg.qr(rng.standard_normal((size, size)))[0]
