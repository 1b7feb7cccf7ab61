"""The checks that `conftest` switches on are on: in every module a wrongly shaped array is refused before the code sees it."""

import jax
import jaxtyping
import numpy as np
import pytest
from deadly_triad import (
    agents,
    certificates,
    cures,
    diagnosis,
    environments,
    examples,
    fixed_point,
    kernel_updates,
    linear_q,
    linear_td,
    mdp,
    networks,
    ntk,
    preqn,
    stability,
    training,
    value_updates,
)

ONE_STATE = mdp.MDP(np.ones((1, 1, 1)), np.zeros((1, 1)), 0.0)
SYSTEM = linear_td.LinearTD(np.ones((1, 1)), np.ones(1), np.ones((1, 1)), np.zeros(1), 0.0)
WRONG = {
    "fixed_point": lambda: fixed_point.SUP.of_matrix(np.ones((2, 3))),
    "mdp": lambda: mdp.MDP(np.ones((1, 1, 1)), np.zeros(1), 0.0),
    "stability": lambda: stability.spectral_radius(np.ones((2, 3))),
    "linear_td": lambda: linear_td.expected_iteration(SYSTEM, np.ones((1, 1)), step_size=0.1, n_steps=1),
    "linear_q": lambda: linear_q.LinearQ(ONE_STATE, np.ones(1), np.ones(1)),
    "environments": lambda: environments.Pendulum().observation(jax.numpy.ones(3), None),
    "training": lambda: training.train(environments.Pendulum(), agents.TD3, "one", [0]),
    "agents": lambda: agents.empty_rows("one", 1, 1),
    "preqn": lambda: preqn.solve_kernel(jax.numpy.ones((2, 3)), jax.numpy.ones(2)),
    "diagnosis": lambda: diagnosis.error_matrix(kernel_updates.Coupling(np.eye(2), np.ones(2)), np.ones(2), np.eye(2), 0.5),
    "networks": lambda: networks.dense(networks.init_dense(jax.random.key(0), 1, 1), np.ones((1, 1))),  # a JAX array is asked for
    "ntk": lambda: ntk.condition_number(np.ones((2, 3))),
    "value_updates": lambda: value_updates.update_matrix(np.ones((1, 1)), np.ones((1, 1)), 0.0, 1.0),
    "kernel_updates": lambda: kernel_updates.Coupling(np.ones((2, 3)), np.ones(2)),
    "certificates": lambda: certificates.weighted_sup_certificate(np.ones((2, 2))),
    "cures": lambda: cures.followon(np.ones((2, 3)), np.ones(2), 0.5),
    "examples": lambda: examples.Example(ONE_STATE, np.ones((1, 1)), np.ones((1, 1)), np.ones((2, 1)), np.ones(1)),
}


@pytest.mark.parametrize("module", WRONG)
def test_a_wrongly_shaped_array_is_refused_while_tests_run(module):
    with pytest.raises(jaxtyping.TypeCheckError):
        WRONG[module]()


@pytest.mark.usefixtures("unchecked")
def test_the_checks_can_be_switched_off():
    with pytest.raises(ValueError, match=r"^matrix must be a square matrix, got shape \(2, 3\)$"):
        WRONG["fixed_point"]()
