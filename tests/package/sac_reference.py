"""Write sac_reference.npz: what SAC of stable-baselines3 makes of 20 minibatches, in float64, for `test_sac`.

    python tests/package/sac_reference.py            where torch and stable-baselines3 are installed

As `td3_reference.py`. The noise of the policy is handed in too, in place of the draws of PyTorch's normal distribution.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common import policies
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.sac import sac as library

sys.path.insert(0, str(Path(__file__).parent))
from td3_reference import UPDATES, D, K, N, Shapes


def networks(model, when):
    """The weights of all networks, by name, the policy's two heads side by side; and the logarithm of the temperature."""
    arrays = {f"{when}/log_temperature": model.log_ent_coef.detach().numpy().copy().reshape(())}
    for prefix, critic in (("critic", model.critic), ("target_critic", model.critic_target)):
        for i, network in enumerate(critic.q_networks):
            linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
            for j, layer in enumerate(linear):
                arrays[f"{when}/{prefix}{i}/{j}/weight"] = layer.weight.detach().numpy().copy()
                arrays[f"{when}/{prefix}{i}/{j}/bias"] = layer.bias.detach().numpy().copy()
    trunk = [layer for layer in model.actor.latent_pi if isinstance(layer, torch.nn.Linear)]
    for j, layers in enumerate([*([layer] for layer in trunk), [model.actor.mu, model.actor.log_std]]):
        arrays[f"{when}/actor/{j}/weight"] = np.concatenate([layer.weight.detach().numpy() for layer in layers])
        arrays[f"{when}/actor/{j}/bias"] = np.concatenate([layer.bias.detach().numpy() for layer in layers])
    return arrays


def main() -> None:
    """Run the library and write the file."""
    torch.set_default_dtype(torch.float64)
    policies.preprocess_obs = lambda observations, *_, **__: observations  # the library's own makes float32 of them
    model = SAC("MlpPolicy", Shapes(), seed=0, buffer_size=N, batch_size=N, policy_kwargs={"net_arch": [8, 8]}, device="cpu")
    model.set_logger(Logger(folder=None, output_formats=[]))
    # A temperature and targets of their own, so that a mix-up is seen; and a deviation past its clip in one action.
    with torch.no_grad():
        model.log_ent_coef += 0.3
        model.actor.log_std.bias[0] += 2.2
        for parameter in model.critic_target.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    assert all(parameter.dtype == torch.float64 for parameter in [*model.policy.parameters(), model.log_ent_coef])
    rng = np.random.default_rng(0)
    batches = {
        "observations": rng.normal(size=(UPDATES, N, D)),
        "actions": rng.uniform(-1, 1, (UPDATES, N, K)),
        "rewards": rng.normal(size=(UPDATES, N)),
        "next_observations": rng.normal(size=(UPDATES, N, D)),
        "ends": rng.uniform(size=(UPDATES, N)) < 0.2,
    }
    noise = rng.normal(size=(UPDATES, 2, N, K))
    queue = []
    torch.distributions.Normal.rsample = lambda self, *_: self.loc + self.scale * torch.tensor(queue.pop(0))
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
        queue[:] = noise[i]
        model.train(gradient_steps=1, batch_size=N)
        assert not queue
        targets.append(heard[0][0])
        losses.append(sum(float(loss) for _, loss in heard))
        if i + 1 in (1, 2, UPDATES):
            arrays |= networks(model, f"after{i + 1}")
    library.F.mse_loss = mse
    arrays |= {f"batches/{name}": column for name, column in batches.items()}
    arrays |= {"noise": noise, "targets": np.array(targets), "losses": np.array(losses)}
    versions = {f"version/{name}": np.array(version(name)) for name in ("torch", "stable-baselines3", "numpy")}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **arrays, **versions)


if __name__ == "__main__":
    main()
