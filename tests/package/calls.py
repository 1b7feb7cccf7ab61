"""A valid call of every public function, constructor and method: `test_inputs` replaces its arguments one by one.

A module is covered once it stands in `MODULES`; then each public name that it defines needs an entry in `CALLS` or `MADE_BY_THE_PACKAGE`.
Arguments are made anew for each call. What kind an argument is follows from its value: an array, a number, a count (an int), a function, or
another object. The arrays hold whole numbers where they can, so that integers can be tried in their place.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from deadly_triad import (
    certificates,
    cures,
    examples,
    fixed_point,
    kernel_updates,
    linear_q,
    linear_td,
    mdp,
    stability,
    value_updates,
)

MODULES = (certificates, cures, examples, fixed_point, kernel_updates, linear_q, linear_td, mdp, stability, value_updates)
MADE_BY_THE_PACKAGE = {
    "certificates.Certificate",
    "fixed_point.Trace",
    "kernel_updates.Theorem2",
    "kernel_updates.WorstProblem",
    "linear_td.SampledTD",
    "linear_td.Transitions",
    "stability.Stability",
}


class Call(NamedTuple):
    """What is called, how its arguments are made, and which bad values (by argument) are none for it."""

    run: Callable[..., Any]
    arguments: Callable[[], dict[str, Any]]
    fine: Mapping[str, set[str]] = MappingProxyType({})


ANY_SHAPE = {"another shape"}

# Two states: action 0 changes places, action 1 stays.
TRANSITIONS = np.array([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
REWARDS = np.array([[0.0, 1.0], [2.0, 0.0]])
CHANGE = np.array([[1.0, 0.0], [1.0, 0.0]])
TWO_STATES = mdp.MDP(TRANSITIONS, REWARDS, 0.5)
FEATURES = np.array([[1.0, 0.0], [0.0, 2.0]])
CYCLE = np.array([[0.0, 1.0], [1.0, 0.0]])
SYSTEM = linear_td.LinearTD(FEATURES, np.array([0.5, 0.5]), CYCLE, np.array([1.0, 2.0]), 0.5)
PAIR_FEATURES = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 1.0]])
PROBLEM = linear_q.LinearQ(TWO_STATES, PAIR_FEATURES, np.full(4, 0.25))
KERNEL = np.eye(4) + 1
COUPLING = kernel_updates.Coupling(KERNEL, np.ones(4))
NORM = fixed_point.Norm(2, np.diag([1.0, 2.0]))
MATRICES = np.array([[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])


def halve(x: np.ndarray) -> np.ndarray:
    """A contraction of everything."""
    return x / 2


def transitions() -> linear_td.Transitions:
    """One transition of each of two runs."""
    return linear_td.Transitions(np.array([0, 1]), np.array([0, 0]), np.array([0.0, 2.0]), np.array([1, 0]))


def sampling() -> dict[str, Any]:
    """What all sampled algorithms on an MDP ask for."""
    return {
        "mdp": TWO_STATES,
        "features": FEATURES.copy(),
        "target": CHANGE.copy(),
        "behaviour": CHANGE.copy(),
        "start": np.array([1.0, 2.0]),
        "step_size": 0.5,
        "n_steps": 4,
    }


def runs() -> dict[str, Any]:
    """And what several runs ask for on top."""
    return {"n_runs": 2, "rng": np.random.default_rng(0), "keep_every": 2}


def policies() -> dict[str, Any]:
    """An MDP and two policies."""
    return {"mdp": TWO_STATES, "target": CHANGE.copy(), "behaviour": CHANGE.copy()}


def system(**more: Any) -> Callable[[], dict[str, Any]]:
    """Arguments of a function of expected TD."""
    return lambda: {"system": SYSTEM, **more}


CALLS = {
    "certificates.joint_spectral_bounds": Call(
        certificates.joint_spectral_bounds, lambda: {"matrices": MATRICES.copy(), "norm": NORM, "length": 3}
    ),
    "certificates.quadratic_certificate": Call(certificates.quadratic_certificate, lambda: {"matrices": MATRICES.copy()}),
    "certificates.weighted_sup_certificate": Call(
        certificates.weighted_sup_certificate, lambda: {"matrices": MATRICES.copy(), "max_steps": 5}
    ),
    "cures.averaged_target_update": Call(cures.averaged_target_update, system(step_size=0.5, rate=1.0)),
    "cures.covariance": Call(cures.covariance, system()),
    "cures.drawn_sets": Call(cures.drawn_sets, lambda: {"weighting": np.array([1.0, 3.0]), "batch_size": 2}, {"weighting": ANY_SHAPE}),
    "cures.emphatic_td": Call(cures.emphatic_td, lambda: {"system": SYSTEM, "interest": np.array([1.0, 0.0])}),
    "cures.followon": Call(
        cures.followon,
        lambda: {
            "transitions": CYCLE.copy(),
            "weighting": np.array([1.0, 0.0]),
            "discount": 0.5,
            "interest": np.array([1.0, 0.0]),
        },
    ),
    "cures.followon_moments": Call(cures.followon_moments, lambda: policies() | {"n_steps": 3}),
    "cures.frozen_target_update": Call(cures.frozen_target_update, system(step_size=0.5, n_inner=3)),
    "cures.gradient_td_limit": Call(cures.gradient_td_limit, system()),
    "cures.gtd2_matrix": Call(cures.gtd2_matrix, system(ratio=2.0)),
    "cures.inner_steps_matrix": Call(cures.inner_steps_matrix, system(step_size=0.5, n_inner=3)),
    "cures.preqn_matrix": Call(
        cures.preqn_matrix,
        system(sets=np.array([[1.0, 0.0], [1.0, 1.0]]), chances=np.array([1.0, 0.0])),
    ),
    "cures.projected_iteration": Call(cures.projected_iteration, system()),
    "cures.n_step_td": Call(cures.n_step_td, lambda: {"system": SYSTEM, "n_steps": 2}),
    "cures.sampled_emphatic_td": Call(cures.sampled_emphatic_td, lambda: sampling() | runs()),
    "cures.squared_ratio_matrix": Call(cures.squared_ratio_matrix, policies),
    "cures.tdc_matrix": Call(cures.tdc_matrix, system(ratio=2.0)),
    "cures.tdc_ratio": Call(cures.tdc_ratio, system()),
    "examples.Example": Call(
        examples.Example, lambda: {name: value for name, value in sampling().items() if name not in ("step_size", "n_steps")}
    ),
    "examples.baird": Call(examples.baird, lambda: {"discount": 0.5, "solid_probability": 1.0, "n_upper": 2}),
    "examples.baird_boundary": Call(examples.baird_boundary, lambda: {"discount": 0.99, "n_upper": 6}),
    "examples.chain": Call(examples.chain, lambda: {"n_states": 3, "discount": 0.5}),
    "examples.random_mdp": Call(
        examples.random_mdp,
        lambda: {"rng": np.random.default_rng(0), "n_states": 3, "n_actions": 2, "discount": 0.5, "branching": 2},
    ),
    "examples.random_policy": Call(examples.random_policy, lambda: {"rng": np.random.default_rng(0), "mdp": TWO_STATES}),
    "examples.w_to_2w": Call(examples.w_to_2w, lambda: {"discount": 0.5, "solid_probability": 1.0}),
    "examples.w_to_2w_boundary": Call(examples.w_to_2w_boundary, lambda: {"discount": 0.75}),
    "fixed_point.Norm": Call(fixed_point.Norm, lambda: {"order": 2.0, "scale": np.diag([1.0, 2.0])}, {"order": {"infinity"}}),
    "fixed_point.Norm.__call__": Call(NORM.__call__, lambda: {"x": np.array([1.0, 2.0])}, {"x": ANY_SHAPE}),
    "fixed_point.Norm.of_matrix": Call(NORM.of_matrix, lambda: {"matrix": CYCLE.copy()}),
    "fixed_point.a_posteriori_bound": Call(fixed_point.a_posteriori_bound, lambda: {"modulus": 0.5, "last_step": 2.0}),
    "fixed_point.a_priori_bound": Call(fixed_point.a_priori_bound, lambda: {"modulus": 0.5, "first_step": 2.0, "n_steps": 3}),
    "fixed_point.iterate": Call(
        fixed_point.iterate,
        lambda: {
            "f": halve,
            "start": np.array([4.0, 2.0]),
            "norm": NORM,
            "tolerance": 0.25,
            "max_steps": 9,
            "ceiling": 1024.0,
        },
        {"start": ANY_SHAPE, "tolerance": {"infinity"}, "ceiling": {"infinity"}, "f": {"gives NaN"}},
    ),
    "fixed_point.modulus_lower_bound": Call(
        fixed_point.modulus_lower_bound, lambda: {"f": halve, "points": np.array([[0.0, 1.0], [1.0, 3.0]]), "norm": NORM}
    ),
    "fixed_point.weighted_sup_norm": Call(fixed_point.weighted_sup_norm, lambda: {"weights": np.array([1.0, 2.0])}),
    "kernel_updates.Coupling": Call(kernel_updates.Coupling, lambda: {"kernel": KERNEL.copy(), "rho": np.array([1.0, 0.0, 2.0, 1.0])}),
    "kernel_updates.Rows": Call(kernel_updates.Rows, lambda: {"own": np.array([2.0, 1.0, 0.0]), "others": np.array([0.0, 1.0, 1.0])}),
    "kernel_updates.kernel_modulus": Call(kernel_updates.kernel_modulus, lambda: {"coupling": COUPLING, "discount": 0.5, "step_size": 0.5}),
    "kernel_updates.kernel_update": Call(
        kernel_updates.kernel_update,
        lambda: {"operator": halve, "values": REWARDS.copy(), "coupling": COUPLING, "step_size": 0.5},
        {"values": ANY_SHAPE},
    ),
    "kernel_updates.policy_matrices": Call(
        kernel_updates.policy_matrices, lambda: {"mdp": TWO_STATES, "coupling": COUPLING, "step_size": 0.5}
    ),
    "kernel_updates.problem_modulus": Call(
        kernel_updates.problem_modulus, lambda: {"mdp": TWO_STATES, "coupling": COUPLING, "step_size": 0.5}
    ),
    "kernel_updates.theorem_2": Call(
        kernel_updates.theorem_2,
        lambda: {"coupling": COUPLING, "discount": 0.5, "step_size": 0.5, "names": ["a", "b", "c", "d"]},
    ),
    "kernel_updates.worst_case_modulus": Call(
        kernel_updates.worst_case_modulus, lambda: {"coupling": COUPLING, "discount": 0.5, "step_size": 0.5}
    ),
    "kernel_updates.worst_problem": Call(
        kernel_updates.worst_problem, lambda: {"coupling": COUPLING, "discount": 0.5, "step_size": 0.5, "n_states": 2}
    ),
    "linear_q.LinearQ": Call(
        linear_q.LinearQ,
        lambda: {"mdp": TWO_STATES, "features": PAIR_FEATURES.copy(), "weighting": np.array([0.0, 1.0, 0.0, 0.0])},
    ),
    "linear_q.LinearQ.field": Call(PROBLEM.field, lambda: {"theta": np.array([1.0, 2.0])}),
    "linear_q.LinearQ.greedy_system": Call(PROBLEM.greedy_system, lambda: {"theta": np.array([1.0, 2.0])}),
    "linear_q.LinearQ.values": Call(PROBLEM.values, lambda: {"theta": np.array([1.0, 2.0])}),
    "linear_q.expected_q_iteration": Call(
        linear_q.expected_q_iteration,
        lambda: {"problem": PROBLEM, "start": np.array([1.0, 2.0]), "step_size": 0.5, "n_steps": 3},
    ),
    "linear_q.expected_sarsa": Call(
        linear_q.expected_sarsa,
        lambda: {
            "mdp": TWO_STATES,
            "features": PAIR_FEATURES.copy(),
            "target": CHANGE.copy(),
            "weighting": np.array([0.0, 1.0, 0.0, 0.0]),
        },
    ),
    "linear_q.sampled_q_learning": Call(
        linear_q.sampled_q_learning,
        lambda: {"problem": PROBLEM, "start": np.array([1.0, 2.0]), "step_size": 0.5, "n_steps": 4} | runs(),
    ),
    "linear_td.LinearTD": Call(
        linear_td.LinearTD,
        lambda: {
            "features": FEATURES.copy(),
            "weighting": np.array([1.0, 0.0]),
            "transitions": CYCLE.copy(),
            "rewards": np.array([1.0, 2.0]),
            "discount": 0.5,
        },
    ),
    "linear_td.expected_iteration": Call(
        linear_td.expected_iteration, lambda: {"system": SYSTEM, "start": np.array([1.0, 2.0]), "step_size": 0.5, "n_steps": 3}
    ),
    "linear_td.expected_update": Call(linear_td.expected_update, system(step_size=0.5)),
    "linear_td.linear_td": Call(
        linear_td.linear_td,
        lambda: {
            "mdp": TWO_STATES,
            "features": FEATURES.copy(),
            "target": CHANGE.copy(),
            "weighting": np.array([1.0, 0.0]),
        },
    ),
    "linear_td.projection": Call(linear_td.projection, system()),
    "linear_td.run_samples": Call(
        linear_td.run_samples,
        lambda: {
            "samples": [transitions()] * 4,
            "increments": lambda _, theta: -theta / 2,
            "start": np.array([1.0, 2.0]),
            "n_steps": 4,
            "n_runs": 2,
            "keep_every": 2,
        },
        {"increments": {"gives NaN"}},
    ),
    "linear_td.sample_transitions": Call(
        linear_td.sample_transitions,
        lambda: {
            "mdp": TWO_STATES,
            "behaviour": CHANGE.copy(),
            "weighting": np.array([1.0, 0.0]),
            "n_samples": 3,
            "rng": np.random.default_rng(0),
        },
    ),
    "linear_td.sampled_td": Call(linear_td.sampled_td, lambda: sampling() | runs() | {"importance_sampling": False}),
    "linear_td.sampled_td_mean": Call(linear_td.sampled_td_mean, sampling),
    "linear_td.td_fixed_point": Call(linear_td.td_fixed_point, system()),
    "linear_td.trajectories": Call(
        lambda **arguments: list(islice(linear_td.trajectories(**arguments), 3)),
        lambda: {"mdp": TWO_STATES, "behaviour": CHANGE.copy(), "n_runs": 2, "rng": np.random.default_rng(0)},
    ),
    "mdp.MDP": Call(mdp.MDP, lambda: {"transitions": TRANSITIONS.copy(), "rewards": REWARDS.copy(), "discount": 0.5}),
    "mdp.action_values": Call(mdp.action_values, lambda: {"mdp": TWO_STATES, "policy": CHANGE.copy()}),
    "mdp.deterministic_policy": Call(mdp.deterministic_policy, lambda: {"actions": np.array([1, 0, 1]), "n_actions": 3}),
    "mdp.importance_ratios": Call(mdp.importance_ratios, lambda: {"target": CHANGE.copy(), "behaviour": CHANGE.copy()}),
    "mdp.optimal_action_values": Call(mdp.optimal_action_values, lambda: {"mdp": TWO_STATES}),
    "mdp.optimality_operator": Call(mdp.optimality_operator, lambda: {"mdp": TWO_STATES, "values": REWARDS.copy()}),
    "mdp.pair_transitions": Call(mdp.pair_transitions, lambda: {"mdp": TWO_STATES, "policy": CHANGE.copy()}),
    "mdp.policy_operator": Call(mdp.policy_operator, lambda: {"mdp": TWO_STATES, "policy": CHANGE.copy(), "values": REWARDS.copy()}),
    "mdp.policy_rewards": Call(mdp.policy_rewards, lambda: {"mdp": TWO_STATES, "policy": CHANGE.copy()}),
    "mdp.policy_transitions": Call(mdp.policy_transitions, lambda: {"mdp": TWO_STATES, "policy": CHANGE.copy()}),
    "mdp.recurrent_classes": Call(mdp.recurrent_classes, lambda: {"transitions": CYCLE.copy()}),
    "mdp.state_values": Call(mdp.state_values, lambda: {"mdp": TWO_STATES, "policy": CHANGE.copy()}),
    "mdp.stationary_distribution": Call(mdp.stationary_distribution, lambda: {"transitions": CYCLE.copy()}),
    "stability.Stability.error_factor": Call(stability.analyse_stability(np.eye(2)).error_factor, lambda: {"step_size": 0.5}),
    "stability.analyse_stability": Call(
        stability.analyse_stability, lambda: {"matrix": np.array([[1.0, 1.0], [-1.0, 1.0]]), "null_tolerance": 0.0}
    ),
    "stability.contraction_norm": Call(stability.contraction_norm, lambda: {"matrix": np.array([[0.0, 1.0], [0.0, 0.0]]), "modulus": 0.5}),
    "stability.spectral_radius": Call(stability.spectral_radius, lambda: {"matrix": CYCLE.copy()}),
    "value_updates.frozen_problem": Call(
        value_updates.frozen_problem,
        lambda: {"mdp": TWO_STATES, "frozen": np.array([[True, False], [False, False]]), "values": REWARDS.copy()},
    ),
    "value_updates.full_update": Call(
        value_updates.full_update, lambda: {"operator": halve, "values": REWARDS.copy(), "step_size": 0.5}, {"values": ANY_SHAPE}
    ),
    "value_updates.largest_step_for_every_policy": Call(
        value_updates.largest_step_for_every_policy, lambda: {"rho": np.array([1.0, 2.0]), "discount": 0.5}, {"rho": ANY_SHAPE}
    ),
    "value_updates.update_matrix": Call(
        value_updates.update_matrix,
        lambda: {"transitions": CYCLE.copy(), "rho": np.array([1.0, 2.0]), "discount": 0.5, "step_size": 0.5},
    ),
    "value_updates.weighted_modulus": Call(
        value_updates.weighted_modulus, lambda: {"rho": np.array([1.0, 2.0]), "discount": 0.5, "step_size": 0.5}, {"rho": ANY_SHAPE}
    ),
    "value_updates.weighted_update": Call(
        value_updates.weighted_update,
        lambda: {"operator": halve, "values": REWARDS.copy(), "rho": REWARDS.copy(), "step_size": 0.5},
    ),
}
