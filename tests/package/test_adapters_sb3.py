"""`adapters` for stable-baselines3 and the command: agents of the library against what the library itself computes, and hostile files."""

import base64
import io
import json
import os
import pickle
import runpy
import subprocess
import sys
import warnings
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

if find_spec("stable_baselines3") is None and "sb3" not in os.environ.get("DEADLY_TRIAD_REQUIRE", ""):
    pytest.skip("stable-baselines3 is not installed", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import stable_baselines3 as sb3
    import torch

from deadly_triad.adapters import from_sb3, torch_layers
from deadly_triad.adapters.sb3 import read_buffer, read_zip
from deadly_triad.diagnosis import diagnose
from deadly_triad.networks import dense, value_network
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = {"DQN": "CartPole-v1", "TD3": "Pendulum-v1", "DDPG": "Pendulum-v1", "SAC": "Pendulum-v1"}


def train(kind, steps=300, environment=None, **options):
    told = {"policy_kwargs": {"net_arch": [16, 16]}, "learning_starts": 50, "seed": 0, "device": "cpu", "train_freq": 4} | options
    return getattr(sb3, kind)("MlpPolicy", environment or KINDS[kind], **told).learn(steps)


@pytest.fixture(scope="module")
def agents():
    return {kind: train(kind) for kind in KINDS}


def tensor(x):
    return torch.as_tensor(np.asarray(x), dtype=torch.float32)


def split(told):
    """Observations, actions and the observations after, of the batch."""
    k = told["n_action_columns"]
    if not k:
        return told["inputs"][0], told["inputs"][1], told["next_inputs"][0]
    return told["inputs"][:, :-k], told["inputs"][:, -k:], told["next_inputs"][:, :-k]


@pytest.mark.parametrize("kind", KINDS)
def test_values_policy_and_targets_are_those_of_the_library(agents, kind):
    agent = agents[kind]
    found = from_sb3(agent, n=64)
    assert list(found) == [f"critic {i}" for i in range(1 if kind in ("DQN", "DDPG") else 2)]
    for index, told in enumerate(found.values()):
        obs, actions, after = split(told)
        report = diagnose(**told)
        values = np.asarray(told["network"](told["parameters"], jax.tree.map(jnp.asarray, told["inputs"]), dense))
        with torch.no_grad():
            if kind == "DQN":
                expected = agent.q_net(tensor(obs)).gather(1, torch.as_tensor(actions)[:, None])[:, 0]
                ahead = agent.q_net_target(tensor(after)).max(dim=1).values
                played = agent.q_net(tensor(obs)).argmax(dim=1).numpy()
                np.testing.assert_array_equal(told["at_policy"][1], played)
            else:
                expected = agent.critic(tensor(obs), tensor(actions))[index][:, 0]
                played = agent.policy.scale_action(agent.predict(obs, deterministic=True)[0])
                np.testing.assert_allclose(told["at_policy"][:, 3:], played, atol=1e-5)
                if kind != "SAC":
                    chosen = agent.actor_target(tensor(after))
                    ahead = torch.cat(agent.critic_target(tensor(after), chosen), dim=1).min(dim=1).values
        np.testing.assert_allclose(values, expected.numpy(), rtol=1e-4, atol=1e-5)
        if kind != "SAC":  # whose action is drawn
            targets = told["rewards"] + agent.gamma * np.where(told["ends"], 0, ahead.numpy())
            np.testing.assert_allclose(told["targets"], targets, rtol=1e-4, atol=1e-5)
        assert report.values.bound == pytest.approx(np.abs(agent.replay_buffer.rewards).max() / (1 - agent.gamma), rel=1e-4)
        assert "Fault: " in str(report)


def test_the_targets_of_sac_count_entropy(agents):
    agent = agents["SAC"]
    told = next(iter(from_sb3(agent, n=200).values()))
    _, _, after = split(told)
    torch.manual_seed(0)
    with torch.no_grad():
        draws = []
        for _ in range(50):
            action, density = agent.actor.action_log_prob(tensor(after))
            ahead = torch.cat(agent.critic_target(tensor(after), action), dim=1).min(dim=1).values
            draws.append((ahead - torch.exp(agent.log_ent_coef) * density).numpy())
    ours = (told["targets"] - told["rewards"]) / agent.gamma
    spread = np.std(draws, axis=0).mean() / np.sqrt(len(ours))
    assert abs(ours.mean() - np.mean(draws)) < 5 * spread
    without = np.mean(draws) + float(torch.exp(agent.log_ent_coef)) * float(density.mean())
    assert abs(ours.mean() - without) > 10 * spread


@pytest.mark.parametrize(("kind", "counted", "hold"), [("DQN", 1, 2500), ("TD3", 2, 200), ("SAC", 1, 200)])
def test_the_step_is_that_of_adam_without_momentum(agents, kind, counted, hold):
    agent = agents[kind]
    told = from_sb3(agent, n=64)["critic 0"]
    obs, actions, _ = split(told)
    if kind == "DQN":
        values, parameters = agent.q_net(tensor(obs)).gather(1, torch.as_tensor(actions)[:, None])[:, 0], list(agent.q_net.parameters())
        optimizer = agent.policy.optimizer
    else:
        values, parameters = agent.critic(tensor(obs), tensor(actions))[0][:, 0], list(agent.critic.qf0.parameters())
        optimizer = agent.critic.optimizer
    gradients = torch.autograd.grad(((tensor(told["targets"]) - values) ** 2 / 2).mean(), parameters)
    for p, g in zip(parameters, gradients, strict=True):
        held = optimizer.state[p]
        v = held["exp_avg_sq"] / (1 - 0.999 ** float(held["step"]))
        p.data -= agent.learning_rate * counted * g / (v.sqrt() + 1e-8)
    with torch.no_grad():
        after = agent.q_net(tensor(obs)).gather(1, torch.as_tensor(actions)[:, None])[:, 0] if kind == "DQN" else None
        after = agent.critic(tensor(obs), tensor(actions))[0][:, 0] if after is None else after
        moved = (after - values).numpy()
        for p, g in zip(parameters, gradients, strict=True):  # as it was
            held = optimizer.state[p]
            v = held["exp_avg_sq"] / (1 - 0.999 ** float(held["step"]))
            p.data += agent.learning_rate * counted * g / (v.sqrt() + 1e-8)
    delta = told["targets"] - values.detach().numpy()
    expected = moved @ delta / np.linalg.norm(moved) / np.linalg.norm(delta)
    assert diagnose(**told).move.alignment == pytest.approx(expected, rel=1e-3)
    assert told["hold"] == pytest.approx(hold, rel=0.02)
    plain = from_sb3(agent, n=64, step_size=0.5)["critic 0"]
    assert plain["step_size"] == 0.5
    assert "scales" not in plain


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_agent_is_read_without_the_library(agents, kind, tmp_path):
    agents[kind].save(tmp_path / "agent.zip")
    saved = read_zip(tmp_path / "agent.zip")
    with pytest.raises(ValueError, match="transitions must be given with a saved agent"):
        from_sb3(saved)
    here, there = from_sb3(agents[kind]), from_sb3(saved, read_buffer(agents[kind]))
    for name, told in here.items():
        for key in ("targets", "step_size", "scales", "hold", "at_policy"):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), there[name][key], told[key])


def test_ends_and_cuts_are_told_apart(agents):
    record = next(iter(from_sb3(agents["TD3"]).values()))["episodes"]
    assert record.ends.size == 0
    assert record.faults == []
    wrong = train("TD3", 900, replay_buffer_kwargs={"handle_timeout_termination": False})
    report = diagnose(**from_sb3(wrong)["critic 0"])
    assert report.fault.name == "record"
    assert "ends come after exactly 200 steps" in str(report)


def test_what_the_agent_sees_is_normalised():
    normal = VecNormalize(DummyVecEnv([lambda: __import__("gymnasium").make("Pendulum-v1")] * 2))
    agent = train("TD3", environment=normal)
    found, buffer = read_buffer(agent), agent.replay_buffer
    n = buffer.size()
    assert found.observations.shape == (2 * n, 3)
    np.testing.assert_allclose(found.observations[n:], normal.normalize_obs(buffer.observations[:n, 1]), rtol=1e-5)
    np.testing.assert_allclose(found.rewards[:n], normal.normalize_reward(buffer.rewards[:n, 0]), rtol=1e-5)


@pytest.mark.parametrize("economical", [False, True])
def test_a_buffer_that_went_round_is_read_from_its_oldest_row(economical):
    kwargs = {"handle_timeout_termination": False} if economical else {}
    agent = train("TD3", buffer_size=210, optimize_memory_usage=economical, replay_buffer_kwargs=kwargs)
    found = read_buffer(agent)
    assert len(found.rewards) == (209 if economical else 210)
    same = np.isclose(found.observations[1:], found.next_observations[:-1]).all(axis=1)
    assert same.sum() >= len(same) - 2  # an episode is over now and then


def test_state_dicts_of_others_are_read():
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    x = torch.randn(5, 3)
    values = value_network("relu")(torch_layers(net.state_dict()), jnp.asarray(x.numpy()), dense)
    np.testing.assert_allclose(values, net(x).detach()[:, 0], rtol=1e-5)
    with pytest.raises(ValueError, match="must be those of linear layers one after another"):
        torch_layers(torch.nn.Conv2d(1, 1, 3).state_dict())
    with torch.no_grad():
        net[0].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="must be finite, got NaN or infinity: the agent has left the numbers"):
        torch_layers(net.state_dict())


class LikeCleanRL(torch.nn.Module):
    """A critic with the names of CleanRL's."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = torch.nn.Linear(4, 8), torch.nn.Linear(8, 8), torch.nn.Linear(8, 1)

    def forward(self, x, a):
        h = torch.relu(self.fc1(torch.cat([x, a], 1)))
        return self.fc3(torch.relu(self.fc2(h)))


class LikeD3rlpy(torch.nn.Module):
    """A critic with the names of d3rlpy's: an encoder, and a layer behind it."""

    def __init__(self, *between):
        super().__init__()
        layers = torch.nn.Linear(4, 8), torch.nn.ReLU(), *between, torch.nn.Linear(8, 8), torch.nn.ReLU()
        self._encoder = torch.nn.ModuleDict({"_layers": torch.nn.Sequential(*layers)})
        self._fc = torch.nn.Linear(8, 1)

    def forward(self, x, a):
        return self._fc(self._encoder["_layers"](torch.cat([x, a], 1)))


@pytest.mark.parametrize("make", [LikeCleanRL, LikeD3rlpy])
def test_a_checkpoint_of_another_library_is_diagnosed(tmp_path, make):
    torch.manual_seed(0)
    critic, other = make(), make()
    torch.save((other.state_dict(), critic.state_dict()), tmp_path / "saved")
    layers = torch_layers(torch.load(tmp_path / "saved", weights_only=True)[1])
    x, a, x2, a2 = (torch.randn(16, k) for k in (3, 1, 3, 1))
    pairs, after = (np.concatenate(part, axis=1) for part in ((x, a), (x2, a2)))
    found = diagnose(value_network("relu"), layers, pairs, after, discount=0.99, step_size=1e-3, rewards=np.ones(16))
    assert found.numbers["largest_value"] == pytest.approx(float(critic(x, a).detach().abs().max()), rel=1e-5)


def test_what_a_state_dict_does_not_show_is_refused():
    with pytest.raises(ValueError, match="must be those of linear layers one after another"):
        torch_layers(LikeD3rlpy(torch.nn.LayerNorm(8)).state_dict())
    with pytest.raises(ValueError, match="must be those of linear layers one after another"):
        torch_layers(torch.nn.ModuleList([LikeD3rlpy(), LikeD3rlpy()]).state_dict())
    assert len(torch_layers(torch.nn.ModuleList([LikeD3rlpy(), LikeD3rlpy()]).state_dict(), "1.")) == 3


def test_agents_of_other_kinds_are_refused():
    for wrong, message in (
        (sb3.PPO("MlpPolicy", "CartPole-v1", device="cpu"), "agent must have a replay buffer"),
        (train("DQN", 10), "step_size must be given"),
        (train("TD3", policy_kwargs={"activation_fn": torch.nn.ELU}), "activation of the critic must be one of relu, tanh, sin, got elu"),
    ):
        with pytest.raises(ValueError, match=message):
            from_sb3(wrong)
    with pytest.raises(ValueError, match="agent must be one of stable-baselines3, got dict"):
        from_sb3({}, read_buffer(train("DQN", 60)))


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(agents, tmp_path):
    """A saved agent and its transitions, in units of the environment."""
    agents["TD3"].save(tmp_path / "agent.zip")
    found = read_buffer(agents["TD3"])
    arrays = {name: getattr(found, name) for name in ("observations", "rewards", "next_observations", "ends", "cuts")}
    np.savez(tmp_path / "batch.npz", actions=2 * found.actions, **arrays)
    return tmp_path, arrays | {"actions": 2 * found.actions}


class Made(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(monkeypatch, capsys):
    """The command in this process, for starting another takes seconds."""

    def run(folder, *told, transitions="batch.npz", agent="agent.zip"):
        monkeypatch.setattr(sys, "argv", ["diagnose", str(folder / agent), "--transitions", str(folder / transitions), *told])
        # What the shape checks make of the file would be kept as its compiled form, for everybody who types the command afterwards.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            runpy.run_module("deadly_triad.diagnose", run_name="__main__")
        return Made(left.value.code, *capsys.readouterr())

    return run


def test_the_command_says_what_the_call_says(agents, files, command):
    folder, _ = files
    made = command(folder, "--json")
    assert (made.returncode, made.stderr) == (0, "")
    expected = {name: diagnose(**told).numbers for name, told in from_sb3(agents["TD3"]).items()}
    for name, numbers in json.loads(made.stdout).items():
        assert numbers == pytest.approx(expected[name], rel=1e-4)
    text = command(folder, "--pairs", "32", "--step-size", "0.1")
    assert text.returncode == 0
    assert "critic 1\nFault: " in text.stdout
    assert "Errors of 32 pairs, discount 0.99" in text.stdout


class Hostile:
    """A pickle that writes a file as it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def rewrite(path, **entries):
    """The zip file with other entries."""
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (held | entries).items():
            archive.writestr(name, content)
    return held


def test_nothing_is_unpickled_unless_one_says_so(files, command):
    folder, _ = files
    mark = folder / "mark"
    data = json.loads(zipfile.ZipFile(folder / "agent.zip").read("data"))
    code = base64.b64encode(pickle.dumps(Hostile(mark))).decode()
    rewrite(folder / "agent.zip", data=json.dumps(data | {"observation_space": {":type:": "box", ":serialized:": code}}))
    assert command(folder).returncode == 0
    assert not mark.exists()
    opened = command(folder, "--unpickle")
    assert "is unpickled, and whatever code it holds is run" in opened.stderr
    assert mark.exists()


def test_weights_that_are_pickles_are_refused(files, command):
    folder, _ = files
    mark, saved = folder / "mark", io.BytesIO()
    torch.save({"critic.qf0.0.weight": Hostile(mark)}, saved)
    for content in (saved.getvalue(), pickle.dumps(Hostile(mark))):
        rewrite(folder / "agent.zip", **{"policy.pth": content})
        made = command(folder)
        assert (made.returncode, made.stdout, mark.exists()) == (2, "", False)
        assert made.stderr.count("\n") == 1
        assert "holds something else than weights, which is not unpickled" in made.stderr
    np.savez(folder / "batch.npz", rewards=np.array([Hostile(mark)], object))
    made = command(folder)
    assert (made.returncode, mark.exists()) == (2, False)


def test_each_fault_of_a_file_is_one_sentence(files, command):
    folder, arrays = files
    whole = (folder / "agent.zip").read_bytes()
    weights = torch.load(io.BytesIO(zipfile.ZipFile(folder / "agent.zip").read("policy.pth")), weights_only=True)
    weights["critic.qf0.0.weight"][0, 0] = torch.nan
    spoiled = io.BytesIO()
    torch.save(weights, spoiled)

    def fails(message, **told):
        made = command(folder, **told)
        assert (made.returncode, made.stdout, made.stderr.count("\n")) == (2, "", 1), made.stderr
        assert message in made.stderr

    fails("cannot be read: No such file or directory", agent="none.zip")
    fails("cannot be read: No such file or directory", transitions="none.npz")
    for changed, message in (
        ({"rewards": arrays["rewards"][:-1]}, "must have 299 rows, one a reward"),
        (
            {"observations": arrays["observations"][:, :2], "next_observations": arrays["next_observations"][:, :2]},
            "must be those of the agent",
        ),
        ({"actions": np.hstack([arrays["actions"]] * 2)}, "must have 1 columns, got 2"),
        ({"rewards": np.full_like(arrays["rewards"], np.nan)}, "rewards in"),
    ):
        np.savez(folder / "batch.npz", **(arrays | changed))
        fails(message)
    np.savez(folder / "batch.npz", rewards=arrays["rewards"])
    fails("lacks observations, actions, next_observations, ends")
    np.savez(folder / "batch.npz", **arrays)
    (folder / "agent.zip").write_bytes(whole[: len(whole) // 2])
    fails("is no complete zip file of stable-baselines3")
    (folder / "agent.zip").write_bytes(whole)
    rewrite(folder / "agent.zip", **{"policy.pth": spoiled.getvalue()})
    fails("must be finite, got NaN or infinity: the agent has left the numbers")
    rewrite(folder / "agent.zip", **{"policy.pth": spoiled.getvalue()[:1000]})
    fails("policy.pth in")


def test_without_pytorch_the_command_says_what_is_missing(files, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    made = command(files[0])
    assert (made.returncode, made.stderr) == (2, 'this adapter needs torch: pip install "deadly-triad[torch]"\n')


def test_the_command_runs_as_one_types_it(files):
    line = [sys.executable, "-m", "deadly_triad.diagnose", str(files[0] / "agent.zip"), "--transitions", str(files[0] / "batch.npz")]
    made = subprocess.run([*line, "--json"], capture_output=True, text=True, check=True)
    assert set(json.loads(made.stdout)) == {"critic 0", "critic 1"}


def test_the_command_is_no_module():
    code = "import deadly_triad as dt\ntry:\n import deadly_triad.diagnose\nexcept ImportError as e: print(e)\nprint(callable(dt.diagnose))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "deadly_triad.diagnose is a function; run the command as" in made.stdout
    assert made.stdout.endswith("True\n")
