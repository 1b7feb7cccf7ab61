"""Write td3_reference.npz: what TD3 of stable-baselines3 makes of 20 minibatches, in float64, for `test_agents`.

    python tests/package/td3_reference.py            where torch and stable-baselines3 are installed

Smoothing is off, the batches are handed to the library's own `train()`, and what it computes on the way is listened to: targets and critic
losses at its loss function, weights before, and after 1, 2 and 20 updates. The versions are in the file.
"""

from importlib.metadata import version
from pathlib import Path

import gymnasium
import numpy as np
import torch
from stable_baselines3 import TD3
from stable_baselines3.common import policies
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.td3 import td3 as library

N, D, K, UPDATES = 16, 5, 2, 20


class Shapes(gymnasium.Env):
    """An environment of which only the spaces are used."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (D,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (K,), np.float32)


def networks(model, when):
    """The weights of all six networks, by name."""
    found = {}
    for name, policy in (("actor", model.actor.mu), ("target_actor", model.actor_target.mu)):
        found[name] = policy
    for prefix, critic in (("critic", model.critic), ("target_critic", model.critic_target)):
        for i, network in enumerate(critic.q_networks):
            found[f"{prefix}{i}"] = network
    arrays = {}
    for name, network in found.items():
        linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
        for i, layer in enumerate(linear):
            arrays[f"{when}/{name}/{i}/weight"] = layer.weight.detach().numpy().copy()
            arrays[f"{when}/{name}/{i}/bias"] = layer.bias.detach().numpy().copy()
    return arrays


def main() -> None:
    """Run the library and write the file."""
    torch.set_default_dtype(torch.float64)
    policies.preprocess_obs = lambda observations, *_, **__: observations  # the library's own makes float32 of them
    model = TD3(
        "MlpPolicy",
        Shapes(),
        seed=0,
        buffer_size=N,
        batch_size=N,
        target_policy_noise=0.0,
        policy_kwargs={"net_arch": [8, 8]},
        device="cpu",
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    # Targets that differ from their networks, so that a mix-up is seen.
    with torch.no_grad():
        for parameter in [*model.actor_target.parameters(), *model.critic_target.parameters()]:
            parameter += 0.05 * torch.randn_like(parameter)
    assert all(parameter.dtype == torch.float64 for parameter in model.policy.parameters())
    rng = np.random.default_rng(0)
    batches = {
        "observations": rng.normal(size=(UPDATES, N, D)),
        "actions": rng.uniform(-1, 1, (UPDATES, N, K)),
        "rewards": rng.normal(size=(UPDATES, N)),
        "next_observations": rng.normal(size=(UPDATES, N, D)),
        "ends": rng.uniform(size=(UPDATES, N)) < 0.2,
    }
    arrays, targets, losses = networks(model, "start"), [], []
    heard, mse = [], library.F.mse_loss

    def listen(values, target):
        heard.append((target.detach().numpy().ravel().copy(), mse(values, target)))
        return heard[-1][1]

    library.F.mse_loss = listen
    for i in range(UPDATES):
        columns = {name: torch.tensor(np.asarray(batches[name][i], float).reshape(N, -1)) for name in batches}
        names = ("observations", "actions", "next_observations", "ends", "rewards")
        missing = len(ReplayBufferSamples._fields) - len(names)
        batch = ReplayBufferSamples(*(columns[name] for name in names), *[None] * missing)
        model.replay_buffer.sample = lambda *_, batch=batch, **__: batch
        heard.clear()
        model.train(gradient_steps=1, batch_size=N)
        targets.append(heard[0][0])
        losses.append(sum(float(loss) for _, loss in heard))
        if i + 1 in (1, 2, UPDATES):
            arrays |= networks(model, f"after{i + 1}")
    library.F.mse_loss = mse
    arrays |= {f"batches/{name}": column for name, column in batches.items()}
    arrays |= {"targets": np.array(targets), "losses": np.array(losses)}
    versions = {f"version/{name}": np.array(version(name)) for name in ("torch", "stable-baselines3", "numpy")}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **arrays, **versions)


if __name__ == "__main__":
    main()
