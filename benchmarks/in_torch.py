"""The kernel by PyTorch and TD3 by stable-baselines3, in an environment of its own: JSON requests and answers, one a line.

`{"load": file, "hidden": […], "activation": …}` loads weights and inputs and answers with the entries of a few rows of the kernel;
`{"time": "loop", "vmap" or "td3"}` runs it once and answers with the CPU seconds that it took.
"""

import json
import sys
import time

import gymnasium
import numpy as np
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch.func import functional_call, grad, vmap

torch.set_num_threads(1)


class Sine(torch.nn.Module):
    """The activation that PyTorch has no module for."""

    def forward(self, x):
        """The sine of each entry."""
        return torch.sin(x)


ACTIVATIONS = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sin": Sine}


class Shapes(gymnasium.Env):
    """An environment of which only the spaces are used."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (17,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (6,), np.float32)


def kernels(file, request):
    """The kernel by a loop over samples, and by vmap of grad."""
    modules = []
    for i in range(len(request["hidden"]) + 1):
        weight = torch.tensor(file[f"weight{i}"])
        layer = torch.nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = weight.T.contiguous(), torch.tensor(file[f"bias{i}"])
        modules += [layer, ACTIVATIONS[request["activation"]]()]
    network, inputs = torch.nn.Sequential(*modules[:-1]), torch.tensor(file["inputs"])

    def loop():
        rows = []
        for x in inputs:
            gradients = torch.autograd.grad(network(x)[0], list(network.parameters()))
            rows.append(torch.cat([g.ravel() for g in gradients]))
        J = torch.stack(rows)
        return J @ J.T

    parameters = {name: p.detach() for name, p in network.named_parameters()}
    gradients = vmap(grad(lambda p, x: functional_call(network, p, (x,))[0]), (None, 0))

    def mapped():
        J = torch.cat([g.reshape(len(inputs), -1) for g in gradients(parameters, inputs).values()], dim=1)
        return J @ J.T

    return {"loop": loop, "vmap": mapped}


def td3(file, request):
    """Two updates of the library's TD3 on a fixed minibatch: its sampling is not timed."""
    n = len(file["inputs"])
    policy = {"net_arch": list(request["hidden"]), "activation_fn": ACTIVATIONS[request["activation"]]}
    model = TD3("MlpPolicy", Shapes(), batch_size=n, buffer_size=n, policy_kwargs=policy, device="cpu")
    model.set_logger(Logger(folder=None, output_formats=[]))
    names = ("observations", "actions", "next_observations", "ends", "rewards")
    columns = [torch.tensor(file[name], dtype=torch.float32).reshape(n, -1) for name in names]
    missing = len(ReplayBufferSamples._fields) - len(columns)
    batch = ReplayBufferSamples(*columns, *[None] * missing)
    model.replay_buffer.sample = lambda *_, **__: batch
    return lambda: model.train(gradient_steps=2, batch_size=n)


def main() -> None:
    """Answer requests until the input ends."""
    runs = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            file = np.load(request["load"])
            runs = kernels(file, request)
            answer = {name: run()[:2, :4].tolist() for name, run in runs.items()}
            runs["td3"] = td3(file, request)
            runs["td3"]()
        else:
            start = time.process_time()
            runs[request["time"]]()
            answer = {"seconds": time.process_time() - start}
        print(json.dumps(answer), flush=True)


main()
