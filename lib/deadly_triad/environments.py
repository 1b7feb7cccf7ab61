r"""Environments as pure functions in JAX: what the compiled loop of `training` asks of one, and the pendulum.

A functional environment keeps no state of its own: its methods map a state, an action and a key to what comes next, so that the loop
around them compiles and a batch of environments is one `vmap`. Randomness comes in as keys, each used once.

>>> pendulum = Pendulum()
>>> upright = jnp.zeros(2)
>>> abs(float(pendulum.reward(upright, jnp.zeros(1), upright, None))) < 1e-9, pendulum.low, pendulum.high
(True, (-2.0,), (2.0,))
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


@runtime_checkable
class Environment(Protocol):
    """A task with a bounded box of actions, in JAX.

    It must be hashable by value, as a frozen dataclass of numbers is: then an equal environment made anew compiles nothing. States are
    pytrees. Every method gets a key of its own.
    """

    @property
    def low(self) -> tuple[float, ...]:
        """Smallest action, one number a component."""

    @property
    def high(self) -> tuple[float, ...]:
        """Largest action."""

    def initial(self, key: Any) -> Any:
        """State at the start of an episode."""

    def observation(self, state: Any, key: Any) -> Array:
        """What is seen of a state."""

    def transition(self, state: Any, action: Array, key: Any) -> Any:
        """State after an action."""

    def reward(self, state: Any, action: Array, next_state: Any, key: Any) -> Array:
        """Reward of a transition, a scalar."""

    def terminal(self, state: Any, key: Any) -> Array:
        """Whether the episode ends in this state, so that nothing follows; a time limit is not an end."""


@dataclass(frozen=True)
class Pendulum:
    r"""The torque-limited pendulum of Gymnasium's `Pendulum-v1`, which is to swing up and stay there; its episodes never end.

    A rod with a free end, state $(\varphi, \dot\varphi)$ with $\varphi = 0$ upright, under torque $u$:
    $\ddot\varphi = \tfrac{3 g}{2 l} \sin \varphi + \tfrac{3}{m l^2} u$, first the speed is stepped (and clipped), then with it the angle.
    A step costs $\varphi^2 + 0.1 \dot\varphi^2 + 0.001 u^2$, with the angle in $[-\pi, \pi)$.

    Attributes:
        gravity: $g$.
        mass: $m$.
        length: $l$.
        max_speed: bound of the speed.
        max_torque: bound of the torque.
        dt: length of a step in time.
    """

    gravity: float = 10.0
    mass: float = 1.0
    length: float = 1.0
    max_speed: float = 8.0
    max_torque: float = 2.0
    dt: float = 0.05

    @property
    def low(self) -> tuple[float]:
        """Largest torque to the one side."""
        return (-self.max_torque,)

    @property
    def high(self) -> tuple[float]:
        """Largest torque to the other."""
        return (self.max_torque,)

    def initial(self, key: Any) -> Float[Array, "2"]:
        """Any angle, and a speed between -1 and 1, both uniform."""
        high = jnp.array([jnp.pi, 1.0])
        return jax.random.uniform(key, (2,), minval=-high, maxval=high)

    def observation(self, state: Float[Array, "2"], key: Any) -> Float[Array, "3"]:  # noqa: ARG002
        """Cosine and sine of the angle, and the speed."""
        return jnp.array([jnp.cos(state[0]), jnp.sin(state[0]), state[1]])

    def transition(self, state: Float[Array, "2"], action: Float[Array, "1"], key: Any) -> Float[Array, "2"]:  # noqa: ARG002
        """The state one step later."""
        angle, speed = state
        torque = jnp.clip(action[0], -self.max_torque, self.max_torque)
        acceleration = 1.5 * self.gravity / self.length * jnp.sin(angle) + 3.0 / (self.mass * self.length**2) * torque
        speed = jnp.clip(speed + acceleration * self.dt, -self.max_speed, self.max_speed)
        return jnp.array([angle + speed * self.dt, speed])

    def reward(self, state: Float[Array, "2"], action: Float[Array, "1"], next_state: Any, key: Any) -> Float[Array, ""]:  # noqa: ARG002
        """Minus the cost of the state that is left."""
        angle, speed = state
        torque = jnp.clip(action[0], -self.max_torque, self.max_torque)
        angle = (angle + jnp.pi) % (2 * jnp.pi) - jnp.pi
        return -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)

    def terminal(self, state: Float[Array, "2"], key: Any) -> Bool[Array, ""]:  # noqa: ARG002
        """Never."""
        return jnp.array(False)
