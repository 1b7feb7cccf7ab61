r"""Agents of stable-baselines3 as they come: DQN, DDPG, TD3 and SAC with its `MlpPolicy`, and the zip files that they are saved in.

Five lines, for an agent of yours and the replay buffer that it was trained with:

    from stable_baselines3 import TD3
    import deadly_triad as dt
    agent = TD3.load("agent.zip"); agent.load_replay_buffer("buffer.pkl")
    for name, told in dt.adapters.from_sb3(agent).items():
        print(name, dt.diagnose(**told), sep="\n")

Twins give one report each, as if each bootstrapped from itself: the targets in it are those of the agent (least of the target networks,
entropy term of SAC), the spectrum is that of a critic on its own. Critics of this library take actions in the box from -1 to 1, as its
replay buffer holds them. Of the smoothing noise of TD3 nothing is drawn, of the policy of SAC one action for each target.

**The step.** Adam multiplies each gradient by $1 / (\sqrt v + \epsilon)$ with its second moments $v$. These are passed on as `scales`, so
that the kernel is that of its update and its own step size can be compared with an eigenvalue; momentum and the clipping of gradients
and errors are left out. A factor 2 is there where the loss of the method has it (TD3, DDPG). **The target network** counts as targets
that are held: for as many updates as the library says, or as one over the rate at which it follows.

`read_zip` reads a saved agent without stable-baselines3, from its weights and the readable part of its settings: nothing is unpickled.
"""

import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from deadly_triad.adapters.jax import require
from deadly_triad.episodes import read_episodes
from deadly_triad.networks import ACTIVATIONS, Dense, action_value_network, dense, value_network

Layers = list[Dense]


@dataclass(frozen=True, eq=False)
class Sb3Agent:
    """What a report needs of an agent.

    Attributes:
        kind: "DQN", "SAC", or "TD3" for DDPG too.
        critics: layers of each; of DQN one with an output an action.
        target_critics: of each.
        actor: its layers; none for DQN. Of SAC the last one gives the mean.
        target_actor: for the targets; of SAC the actor itself.
        log_deviation: of SAC, the layer that gives it.
        activation: of the critics.
        discount: of the return.
        temperature: of SAC; 0 else.
        low: least actions of the environment; none for DQN.
        high: largest.
        learning_rate: of Adam.
        hold: for how many updates targets are held, about.
        moments: for each critic Adam's second moments without bias, shaped as its layers; none if it has made no step.
    """

    kind: str
    critics: list[Layers]
    target_critics: list[Layers]
    actor: Layers | None
    target_actor: Layers | None
    log_deviation: Dense | None
    activation: str
    discount: float
    temperature: float
    low: Float[np.ndarray, " k"] | None
    high: Float[np.ndarray, " k"] | None
    learning_rate: float
    hold: int
    moments: list[Layers] | None


@dataclass(frozen=True, eq=False)
class Transitions:
    """Recorded transitions, in order if they can be had so.

    Attributes:
        observations: as the critic sees them, shape (n, d).
        actions: between -1 and 1, shape (n, k); or whole numbers, shape (n,).
        rewards: as the targets see them, shape (n,).
        next_observations: shape (n, d).
        ends: after which nothing follows, shape (n,).
        cuts: after which the record was cut off, shape (n,).
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    ends: np.ndarray
    cuts: np.ndarray


def torch_layers(state: Mapping[str, Any], prefix: str = "") -> Layers:
    """The linear layers of a state dict of PyTorch, in its order: for any plain stack of layers, of CleanRL and d3rlpy too.

    With `value_network("relu")` they go into `diagnose`. Names are of the form `…weight` and `…bias`.

    Raises:
        ValueError: if what begins with `prefix` is no stack of linear layers that fit each other, or a weight is not finite.
    """
    held = {name: np.asarray(value, np.float32) for name, value in state.items() if name.startswith(prefix)}
    layers = [Dense(jnp.asarray(w.T), jnp.asarray(held[name[:-6] + "bias"]) if name[:-6] + "bias" in held else None)
              for name, w in held.items() if name.endswith("weight") and w.ndim == 2]  # fmt: skip
    taken = sum(1 + (layer.bias is not None) for layer in layers)
    fits = all(a.weight.shape[1] == b.weight.shape[0] for a, b in pairwise(layers))
    if not layers or taken != len(held) or not fits:
        raise ValueError(f"the weights under {prefix!r} must be those of linear layers one after another, got {_shapes(held)}")
    if not all(np.isfinite(value).all() for value in held.values()):
        raise ValueError(f"the weights under {prefix!r} must be finite, got NaN or infinity: the agent has left the numbers")
    return layers


def from_sb3(
    agent: Any, transitions: Transitions | None = None, *, n: int = 256, seed: int = 0, step_size: float | None = None
) -> dict[str, dict[str, Any]]:
    """The arguments of `diagnose` for each critic of an agent, by name.

    Args:
        agent: of stable-baselines3, or what `read_zip` made of a saved one.
        transitions: by default those in the replay buffer of the agent.
        n: so many of them are drawn for the batch, without replacement.
        seed: of that draw, and of the actions of SAC.
        step_size: of plain semi-gradients, for an agent whose optimiser is not Adam (see the module).

    Raises:
        ValueError: if the agent is none of those that are read here, has no transitions or they do not fit it, or Adam has made no step
            and there is no `step_size`.
    """
    if transitions is None:
        if isinstance(agent, Sb3Agent):
            raise ValueError("transitions must be given with a saved agent, whose file holds none")
        transitions = read_buffer(agent)
    told = agent if isinstance(agent, Sb3Agent) else read_agent(agent)
    discrete = told.kind == "DQN"
    size = told.critics[0][0].weight.shape[0] - (0 if discrete else transitions.actions.shape[-1])
    if transitions.observations.shape[1] != size or (not discrete and transitions.actions.shape[1] != len(told.actor[-1].bias)):  # type: ignore
        raise ValueError(
            f"observations and actions must be those of the agent, got shapes {transitions.observations.shape} and "
            f"{transitions.actions.shape} for a critic with {told.critics[0][0].weight.shape[0]} inputs"
        )
    rng, total = np.random.default_rng(seed), len(transitions.rewards)
    rows = np.sort(rng.permutation(total)[:n])
    episodes = read_episodes(transitions.observations, transitions.next_observations, transitions.ends, transitions.cuts)
    obs, after, ends = (part[rows] for part in (transitions.observations, transitions.next_observations, transitions.ends))
    rewards, actions = transitions.rewards[rows], transitions.actions[rows]
    ahead = _bootstrapped(told, after, rng)
    targets = rewards + told.discount * np.where(ends, 0.0, ahead)
    following = np.minimum(rows + 1, total - 1)
    goes_on = np.isclose(transitions.observations[following], after, rtol=1e-5, atol=1e-7).all(axis=1) & (following > rows)
    found: dict[str, dict[str, Any]] = {}
    inputs: Any
    at_policy: Any
    next_inputs: Any
    for index, critic in enumerate(told.critics):
        if discrete:
            network = action_value_network(told.activation)
            best, best_after = (_forward(critic, x, told.activation).argmax(axis=1) for x in (obs, after))
            inputs, at_policy, next_inputs = (obs, actions), (obs, best), (after, best_after)
            of_data: Any = (after, np.where(goes_on, transitions.actions[following], best_after))
        else:
            network = value_network(told.activation)
            played, played_after = (_act(told, x) for x in (obs, after))
            inputs, at_policy = (np.concatenate([obs, a], axis=1) for a in (actions, played))
            next_inputs = np.concatenate([after, played_after], axis=1)
            of_data = np.concatenate([after, np.where(goes_on[:, None], transitions.actions[following], played_after)], axis=1)
        found[f"critic {index}"] = {
            "network": network,
            "parameters": critic,
            "inputs": inputs,
            "next_inputs": next_inputs,
            "discount": told.discount,
            **_step(told, index, step_size),
            "hold": told.hold,
            "ends": ends,
            "rewards": rewards,
            "targets": targets,
            "largest_reward": float(np.abs(transitions.rewards).max()) or None,
            "at_policy": at_policy,
            "n_action_columns": 0 if discrete else actions.shape[1],
            "next_of_data": of_data if goes_on.any() else None,
            "episodes": episodes if episodes.ordered else None,
        }
    return found


# --- Reading ---------------------------------------------------------------------------------------------------------


def read_agent(model: Any) -> Sb3Agent:
    """What a report needs of an agent of stable-baselines3 in memory.

    Raises:
        ValueError: if it is none of DQN, DDPG, TD3 and SAC with `MlpPolicy`.
    """
    torch = require("torch", "torch")
    if not hasattr(model, "policy") or not hasattr(model, "gamma"):
        raise ValueError(f"agent must be one of stable-baselines3, got {type(model).__name__}")
    state = {name: value.detach().cpu() for name, value in model.policy.state_dict().items()}
    network = getattr(model.policy, "q_net", None) or getattr(model, "critic", None)
    names = {type(part).__name__.lower() for part in network.modules() if type(part).__module__.startswith("torch.nn.modules.activation")}  # type: ignore[union-attr]
    variable = getattr(model, "log_ent_coef", None)
    temperature = float(torch.exp(variable.detach())) if variable is not None else float(getattr(model, "ent_coef_tensor", 0.0))
    optimizer = getattr(getattr(model, "critic", None), "optimizer", None) or model.policy.optimizer
    space = model.action_space
    box = None if hasattr(space, "n") else (np.ravel(space.low), np.ravel(space.high))
    hold = _hold(model.tau, getattr(model, "target_update_interval", 1), model.train_freq, model.gradient_steps)
    return _agent(state, names or {"relu"}, float(model.gamma), temperature, box, optimizer.state_dict(), hold)


def read_buffer(model: Any) -> Transitions:
    """The replay buffer of an agent, environment after environment, oldest first, normalised as the agent sees it.

    Raises:
        ValueError: if it is empty.
    """
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None or not buffer.size():
        raise ValueError("agent must have a replay buffer with transitions in it: agent.load_replay_buffer(…), or pass transitions")
    order = np.arange(buffer.size()) if not buffer.full else np.roll(np.arange(buffer.buffer_size), -buffer.pos)
    after = buffer.observations[(order + 1) % buffer.buffer_size] if buffer.optimize_memory_usage else buffer.next_observations[order]
    if buffer.optimize_memory_usage:  # the newest row has no successor yet
        order, after = order[:-1], after[:-1]

    def join(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array[:, i] for i in range(array.shape[1])])

    observations, after, rewards = join(buffer.observations[order]), join(after), join(buffer.rewards[order])
    if (normal := model.get_vec_normalize_env()) is not None:
        observations, after, rewards = normal.normalize_obs(observations), normal.normalize_obs(after), normal.normalize_reward(rewards)
    dones, cuts = (join(part[order]).astype(bool) for part in (buffer.dones, buffer.timeouts))
    actions = join(buffer.actions[order])
    n = len(rewards)
    discrete = hasattr(model.action_space, "n")
    return Transitions(
        observations.reshape(n, -1).astype(np.float32),
        actions.reshape(n).astype(int) if discrete else actions.reshape(n, -1).astype(np.float32),
        rewards.astype(float),
        after.reshape(n, -1).astype(np.float32),
        dones & ~cuts,
        cuts,
    )


def read_zip(path: str | Path) -> Sb3Agent:
    """What a report needs of a saved agent, from weights and readable settings: nothing is unpickled, whatever the file holds.

    Raises:
        ImportError: if PyTorch is missing.
        ValueError: if the file is no agent of the kinds above, is damaged, or would have to be unpickled to be read.
    """
    torch = require("torch", "torch")

    def weights(archive: zipfile.ZipFile, name: str) -> Any:
        try:
            return torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError) as reason:
            raise ValueError(f"{name} in {path} is damaged") from reason
        except Exception as reason:  # PyTorch's own, of pickle: what is no plain weight is refused
            raise ValueError(f"{name} in {path} holds something else than weights, which is not unpickled") from reason

    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if not {"data", "policy.pth"} <= names:
                raise ValueError(f"{path} is no complete zip file of stable-baselines3: it holds no data or policy.pth")
            data, state = json.loads(archive.read("data")), weights(archive, "policy.pth")
            optimizer = next((name for name in ("critic.optimizer.pth", "policy.optimizer.pth") if name in names), None)
            moments = weights(archive, optimizer) if optimizer else {"state": {}, "param_groups": [{"lr": np.nan}]}
            variables = weights(archive, "pytorch_variables.pth") if "pytorch_variables.pth" in names else {}
    except (zipfile.BadZipFile, EOFError, json.JSONDecodeError, UnicodeDecodeError) as reason:
        raise ValueError(f"{path} is no complete zip file of stable-baselines3: {reason}") from reason
    except OSError as reason:
        raise ValueError(f"{path} cannot be read: {reason.strerror or reason}") from reason
    kwargs = data.get("policy_kwargs") or {}
    written = re.search(r"activation\.(\w+)", str(kwargs.get("activation_fn", "activation.ReLU")))
    discount, space = data.get("gamma"), data.get("action_space") or {}
    if not isinstance(discount, float | int) or not written:
        raise ValueError(f"the discount or the activation in {path} is not written out, and nothing is unpickled")
    variables = variables or {}
    if "log_ent_coef" in variables:
        temperature = float(torch.exp(variables["log_ent_coef"].detach()))
    else:
        temperature = float(variables.get("ent_coef_tensor", 0.0))
    box = tuple(_numbers(space.get(side)) for side in ("low", "high")) if "low" in space else None
    hold = _hold(data.get("tau"), data.get("target_update_interval", 1), data.get("train_freq"), data.get("gradient_steps"))
    return _agent(state, {written[1].lower()}, float(discount), temperature, box, moments, hold)


def _hold(rate: Any, interval: Any, every: Any, times: Any) -> int:
    """For how many updates targets are held, about: DQN counts its interval in steps of the environment."""
    every = every[0] if isinstance(every, list | tuple) else every
    often = times / every if isinstance(every, int) and isinstance(times, int) and times > 0 else 1.0
    rate = rate if isinstance(rate, float | int) and 0 < rate <= 1 else 1.0
    return max(1, round((interval if isinstance(interval, int) else 1) * (often if rate == 1 else 1) / rate))


def _agent(state: Any, activations: set[str], discount: float, temperature: float, box: Any, optimizer: Any, hold: int) -> Sb3Agent:
    if not isinstance(state, Mapping):
        raise ValueError("policy.pth must hold a table of weights")
    if unknown := {name for name in state if "features_extractor" in name}:
        raise ValueError(f"the critic must see plain observations, and has a network before it: {min(unknown)}")
    activation = next(iter(activations - {"tanh"}), "tanh") if len(activations) > 1 else next(iter(activations))
    if activation not in ACTIVATIONS:
        raise ValueError(f"the activation of the critic must be one of {', '.join(ACTIVATIONS)}, got {activation}")
    low, high = (None, None) if box is None or any(side is None for side in box) else box
    deviation = None
    if any(name.startswith("q_net.") for name in state):
        kind, critics, targets = "DQN", [torch_layers(state, "q_net.")], [torch_layers(state, "q_net_target.")]
        actor = target_actor = None
    elif any(name.startswith("critic.qf0.") for name in state):
        twins = sorted({name.split(".")[1] for name in state if name.startswith("critic.qf")})
        critics, targets = ([torch_layers(state, f"{net}.{twin}.") for twin in twins] for net in ("critic", "critic_target"))
        if any(name.startswith("actor.latent_pi.") for name in state):
            kind, deviation = "SAC", torch_layers(state, "actor.log_std.")[0]
            actor = [*torch_layers(state, "actor.latent_pi."), *torch_layers(state, "actor.mu.")]
            target_actor = actor
        else:
            kind, actor, target_actor = "TD3", torch_layers(state, "actor.mu."), torch_layers(state, "actor_target.mu.")
    else:
        raise ValueError("agent must be DQN, DDPG, TD3 or SAC with MlpPolicy, and has critics of another name")
    rate = float(optimizer["param_groups"][0]["lr"])
    moments = _moments(optimizer, critics)
    return Sb3Agent(
        kind, critics, targets, actor, target_actor, deviation, activation, discount, temperature, low, high, rate, hold, moments
    )


def _moments(optimizer: Any, critics: list[Layers]) -> list[Layers] | None:
    """Second moments in the order of the critics' parameters; of an optimiser that holds others, or has made no step, none."""
    kept, beta = optimizer["state"], optimizer["param_groups"][0].get("betas", (0, 0.999))[1]
    leaves = [leaf for critic in critics for leaf in jax.tree.leaves(critic)]
    if len(kept) < len(leaves) or not all("exp_avg_sq" in kept[i] for i in range(len(leaves))):
        return None
    found = []
    for i, leaf in enumerate(leaves):
        v = np.asarray(kept[i]["exp_avg_sq"], float) / (1 - beta ** float(kept[i]["step"]))
        v = v.T if v.ndim == 2 else v
        if v.shape != leaf.shape:
            return None
        found.append(jnp.asarray(v))
    return jax.tree.unflatten(jax.tree.structure(critics), found)


# --- What the agent computes -----------------------------------------------------------------------------------------


def _forward(layers: Layers, inputs: np.ndarray, activation: str) -> np.ndarray:
    a = np.asarray(inputs, np.float32)
    for layer in layers[:-1]:
        a = np.asarray(dense(layer, jnp.asarray(a)))
        a = np.maximum(a, 0) if activation == "relu" else np.asarray(ACTIVATIONS[activation](jnp.asarray(a)))
    return np.asarray(dense(layers[-1], jnp.asarray(a)))


def _act(agent: Sb3Agent, observations: np.ndarray, *, target: bool = False) -> np.ndarray:
    """What the policy does, without noise."""
    layers = agent.target_actor if target else agent.actor
    return np.tanh(_forward(layers or [], observations, agent.activation))


def _bootstrapped(agent: Sb3Agent, after: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the targets of the agent add to the reward, over the discount."""
    if agent.kind == "DQN":
        return _forward(agent.target_critics[0], after, agent.activation).max(axis=1).astype(float)
    actions, entropy = _act(agent, after, target=True), 0.0
    if agent.kind == "SAC" and agent.actor is not None and agent.log_deviation is not None:
        hidden = _forward([*agent.actor[:-1], Dense(jnp.eye(len(agent.actor[-1].weight)), None)], after, agent.activation)
        hidden = np.maximum(hidden, 0) if agent.activation == "relu" else np.asarray(ACTIVATIONS[agent.activation](jnp.asarray(hidden)))
        log_deviation = np.clip(np.asarray(dense(agent.log_deviation, jnp.asarray(hidden)), float), -20, 2)
        noise = rng.standard_normal(actions.shape)
        actions = np.tanh(np.asarray(dense(agent.actor[-1], jnp.asarray(hidden)), float) + np.exp(log_deviation) * noise)
        density = -0.5 * noise**2 - log_deviation - 0.5 * np.log(2 * np.pi) - np.log(1 - actions**2 + 1e-6)
        entropy = -agent.temperature * density.sum(axis=1)
    pairs = np.concatenate([after, actions], axis=1)
    return np.min([_forward(critic, pairs, agent.activation)[:, 0] for critic in agent.target_critics], axis=0) + entropy


def _step(agent: Sb3Agent, index: int, step_size: float | None) -> dict[str, Any]:
    """The step of plain semi-gradients if there is one, else that of Adam and its scales; see the module."""
    if step_size is not None:
        return {"step_size": step_size}
    if agent.moments is None:
        raise ValueError("step_size must be given: the agent's Adam has made no step, or does not hold the critics alone")
    counted = 2.0 if agent.kind == "TD3" else 1.0
    return {
        "step_size": counted * agent.learning_rate,
        "scales": jax.tree.map(lambda v: 1 / (jnp.sqrt(v) + 1e-8), agent.moments[index]),
    }


def _numbers(text: Any) -> np.ndarray | None:
    """An array as NumPy prints it; none if it is shortened or something else."""
    if not isinstance(text, str) or "..." in text:
        return None
    found = re.findall(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf)", text)
    return np.array([float(x) for x in found]) if found else None


def _shapes(held: Mapping[str, np.ndarray]) -> str:
    shown = [f"{name} {value.shape}" for name, value in list(held.items())[:3]]
    return ", ".join(shown) + (f" and {len(held) - 3} more" if len(held) > 3 else "") if held else "none"
