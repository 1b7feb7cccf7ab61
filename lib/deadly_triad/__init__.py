"""The mathematics of *When Q-Learning Diverges*, importable without a notebook.

Six floors; a module imports only from floors below its own, inside functions too:

    5  training        two loops: one compiled, for environments in JAX; one on the host, for Gymnasium
    4  diagnose        the report as a command, python -m deadly_triad.diagnose
    4  agents          act and update of an actor and its critics (PreQN, DDPG, TD3), the memory
    3  adapters        networks of Flax, Equinox and PyTorch, any function, agents of stable-baselines3
    3  preqn           Q-learning preconditioned by the kernel of its minibatch, with a line search
    3  diagnosis       from a network and its transitions to the verdicts of the theory
    3  cures           emphatic weighting, gradient TD, target networks
    3  examples        Baird's counterexample, w -> 2w, random MDPs
    3  linear_q        Expected Sarsa and linear Q-learning on state-action pairs
    2  linear_td       expected and sampled linear TD: the parameter view
    2  ntk             the kernel of a network without its Jacobian, J^T z
    2  certificates    is there a norm in which a set of matrices contracts?
    2  kernel_updates  updates that generalise, and Theorem 2: the value view
    2  value_updates   updates of a table
    2  stability       when does x -> x - step_size (M x - c) settle?
    1  networks        small networks as functions, initialisations, activations
    1  episodes        where recorded episodes end, and whether their marks can be true
    1  environments    what a functional environment is, and the pendulum
    1  mdp             finite MDPs, policies, Bellman operators, exact values
    1  fixed_point     iterate a map, norms, modulus, Banach's bounds
    0  _checks         what is asked of arguments

The names that a reader of the book uses need no module:

>>> import deadly_triad as dt
>>> dt.analyse_stability(dt.baird(discount=0.99).off_policy.A).verdict
'unstable'

Modules and names are imported when they are first asked for, so that whoever needs no network does not wait for JAX.
"""

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    # isort: off
    # fmt: off
    from deadly_triad.diagnosis import diagnose as diagnose, row_sums as row_sums
    from deadly_triad.examples import baird as baird, chain as chain, random_mdp as random_mdp, w_to_2w as w_to_2w
    from deadly_triad.fixed_point import iterate as iterate
    from deadly_triad.kernel_updates import (
        Coupling as Coupling, kernel_modulus as kernel_modulus, kernel_update as kernel_update, theorem_2 as theorem_2,
    )
    from deadly_triad.linear_q import LinearQ as LinearQ, expected_sarsa as expected_sarsa
    from deadly_triad.linear_td import LinearTD as LinearTD, td_fixed_point as td_fixed_point
    from deadly_triad.mdp import (
        MDP as MDP, action_values as action_values, optimal_action_values as optimal_action_values, optimality_operator
        as optimality_operator, state_values as state_values, stationary_distribution as stationary_distribution,
    )
    from deadly_triad.networks import init_mlp as init_mlp, value_network as value_network
    from deadly_triad.ntk import kernel_factors as kernel_factors
    from deadly_triad.stability import analyse_stability as analyse_stability, spectral_radius as spectral_radius
    from deadly_triad.value_updates import full_update as full_update, weighted_update as weighted_update
    # fmt: on
    # isort: on

# fmt: off
_FACE: Final = {
    "diagnosis": ("diagnose", "row_sums",),
    "examples": ("baird", "chain", "random_mdp", "w_to_2w",),
    "fixed_point": ("iterate",),
    "kernel_updates": ("Coupling", "kernel_modulus", "kernel_update", "theorem_2",),
    "linear_q": ("LinearQ", "expected_sarsa",),
    "linear_td": ("LinearTD", "td_fixed_point",),
    "mdp": ("MDP", "action_values", "optimal_action_values", "optimality_operator", "state_values", "stationary_distribution",),
    "networks": ("init_mlp", "value_network",),
    "ntk": ("kernel_factors",),
    "stability": ("analyse_stability", "spectral_radius",),
    "value_updates": ("full_update", "weighted_update",),
}
# fmt: on
_HOME: Final = {name: module for module, names in _FACE.items() for name in names}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """A name of the face, a module, or the version."""
    if name == "__version__":
        return version("deadly-triad")
    if name in _HOME:
        return getattr(import_module(f"deadly_triad.{_HOME[name]}"), name)
    if not name.startswith("_") and any((Path(__file__).parent / path).exists() for path in (f"{name}.py", f"{name}/__init__.py")):
        return import_module(f"deadly_triad.{name}")
    raise AttributeError(f"module 'deadly_triad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
