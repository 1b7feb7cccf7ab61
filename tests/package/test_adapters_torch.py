"""`adapters` for PyTorch: kernels against `torch.func`, and a module that is left as it was."""

import doctest
import os
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# PyTorch is large and not part of the locked environment. Where it was promised, its absence is a failure and no reason to skip.
if find_spec("torch") is None and "torch" not in os.environ.get("DEADLY_TRIAD_REQUIRE", ""):
    pytest.skip("PyTorch is not installed", allow_module_level=True)

import torch
from deadly_triad import ntk
from deadly_triad.adapters import from_torch, torch_factors
from deadly_triad.adapters import torch as adapter
from deadly_triad.diagnosis import diagnose
from deadly_triad.kernel_updates import Coupling, theorem_2
from deadly_triad.networks import Dense, action_value_network, value_network
from torch import nn
from torch.nn.functional import linear

N = 6
TOLERANCE = 1e-10
X = torch.randn(N, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
ACTION = torch.randn(N, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LONG = torch.randn(N, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
SELECTED = torch.arange(N) % 4


@pytest.fixture(autouse=True)
def forget():
    """Each test hears all warnings anew."""
    ntk._told.clear()


# --- Modules, each as its user would write it ------------------------------------------------------------------------


class Module(nn.Module):
    """Layers by name, and a function of the module and its inputs."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def mlp(n_inputs=3, n_outputs=1, **options):
    return nn.Sequential(nn.Linear(n_inputs, 8, **options), nn.Tanh(), nn.Linear(8, n_outputs))


def twice():
    return Module(
        lambda m, x: m.head(m.same(torch.tanh(m.same(torch.tanh(m.one(x)))))),
        one=nn.Linear(3, 8),
        same=nn.Linear(8, 8),
        head=nn.Linear(8, 1),
    )


def tied():
    module = Module(lambda m, x: m.head(m.two(torch.tanh(m.one(x)))), one=nn.Linear(3, 3), two=nn.Linear(3, 3), head=nn.Linear(3, 1))
    module.two.weight = module.one.weight
    return module


def past():
    return Module(lambda m, x: m.head(torch.tanh(m.one(x)) @ m.one.weight), one=nn.Linear(3, 3), head=nn.Linear(3, 1))


def past_once():
    """One sample of six reads the weight past the layer, a little."""
    assert sum(X[:, 0] == X[:, 0].max()) == 1

    def forward(module, x):
        return module.head(torch.tanh(module.one(x))) + 1e-4 * module.one.weight[0, 0] * (x[:, :1] == X[:, 0].max())

    return Module(forward, one=nn.Linear(3, 3), head=nn.Linear(3, 1))


def mixed():
    """Values that are each sample's own, and gradients that are not."""
    return Module(lambda m, x: (z := m.one(x)) + z.mean() - z.mean().detach(), one=nn.Linear(3, 1))


def in_place():
    return Module(lambda m, x: m.head(torch.relu_(m.one(x))), one=nn.Linear(3, 8), head=nn.Linear(8, 1))


def frozen():
    module = twice()
    for p in (module.one.weight, module.same.bias, *module.head.parameters()):
        p.requires_grad_(False)
    return module


def hooked(kind):
    """A layer of which hooks, or a `forward` of its own, change what it computes."""
    module = mlp()
    layer = module[0]
    if kind == "output":
        layer.register_forward_hook(lambda _module, _args, z: 2 * z)
    if kind == "input":
        layer.register_forward_pre_hook(lambda _module, args: (2 * args[0],))
    if kind == "forward":
        layer.forward = lambda x: linear(2 * x, layer.weight, layer.bias)
    return module


def normalised():
    return nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1))


def evaluated():
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 1)).eval()


def unused():
    return Module(lambda m, x: m.head(x) + 0 * m.lost(x).detach(), head=nn.Linear(3, 1), lost=nn.Linear(3, 1))


def lstm():
    return Module(lambda m, x: m.head(m.core(x)[0][:, -1]), core=nn.LSTM(3, 4, batch_first=True), head=nn.Linear(4, 1))


def attention():
    core = nn.MultiheadAttention(3, 1, batch_first=True)
    return Module(lambda m, x: m.head(m.core(x, x, x, need_weights=False)[0].mean(1)), core=core, head=nn.Linear(3, 1))


def convolution():
    return Module(lambda m, x: m.head(torch.tanh(m.core(x)).flatten(1)), core=nn.Conv1d(5, 2, 2), head=nn.Linear(4, 1))


def time():
    return Module(lambda m, x: m.head(torch.tanh(m.one(x)).mean(1)), one=nn.Linear(3, 4), head=nn.Linear(4, 1))


def embedding():
    return Module(lambda m, x: m.head(m.table(x)), table=nn.Embedding(4, 3), head=nn.Linear(3, 1))


def parametrised():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 8)), nn.Tanh(), nn.Linear(8, 1))


def two_arguments():
    return Module(lambda m, s, a: m.net(torch.cat([s, a], 1))[:, 0], net=mlp(5))


# Each: a module, its inputs, options, the parameters that take columns, and whether a warning is due.
CASES = {
    "plain": (mlp, X, {}, (), False),
    "without bias": (lambda: mlp(bias=False), X, {}, (), False),
    "called twice": (twice, X, {}, (), False),
    "in place": (in_place, X, {}, (), False),
    "partly frozen": (frozen, X, {}, (), False),
    "layer norm": (normalised, X, {}, ("1.weight", "1.bias"), False),
    "batch norm in evaluation": (evaluated, X, {}, ("1.weight", "1.bias"), False),
    "input hook": (lambda: hooked("input"), X, {}, (), False),
    "output hook": (lambda: hooked("output"), X, {}, (), False),
    "own forward": (lambda: hooked("forward"), X, {}, ("0.weight",), True),
    "tied": (tied, X, {}, ("one.weight",), True),
    "read past": (past, X, {}, ("one.weight",), True),
    "unused": (unused, X, {}, (), False),
    "time": (time, LONG, {}, ("one.weight", "one.bias"), True),
    "LSTM": (lstm, LONG, {}, ("core.weight_ih_l0", "core.weight_hh_l0", "core.bias_ih_l0", "core.bias_hh_l0"), True),
    "attention": (attention, LONG, {}, ("core.in_proj_weight", "core.in_proj_bias", "core.out_proj.weight", "core.out_proj.bias"), True),
    "convolution": (convolution, LONG, {}, ("core.weight", "core.bias"), True),
    "embedding": (embedding, SELECTED, {}, ("table.weight",), True),
    "parametrised": (
        parametrised,
        X,
        {},
        ("0.parametrizations.weight.original0", "0.parametrizations.weight.original1"),
        True,
    ),
    "two arguments": (two_arguments, (X, ACTION), {}, (), False),
    "heads": (lambda: mlp(3, 4), (X, SELECTED), {"action_values": True}, (), False),
}


def jacobian(module, inputs, options):
    """The gradients of each sample alone, by reverse mode through the whole module."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    rows = []
    for i in range(N):
        sample = tuple(leaf[i : i + 1] for leaf in inputs) if isinstance(inputs, tuple) else inputs[i : i + 1]
        if options.get("action_values"):
            q = module(sample[0])[0, sample[1]]
        else:
            q = module(*sample) if isinstance(sample, tuple) else module(sample)
        rows.append(torch.autograd.grad(q.sum(), list(trained.values()), allow_unused=True, materialize_grads=True))
    return {name: torch.stack(columns) for name, columns in zip(trained, zip(*rows, strict=True), strict=True)}


def as_matrix(columns):
    return torch.cat([g.flatten(1) for g in columns.values()], 1).numpy()


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_of_a_module_is_that_of_its_jacobian(case, recwarn):
    make, inputs, options, columns, warned = CASES[case]
    torch.manual_seed(0)
    module = make().double()
    factors, again = (torch_factors(module, inputs, **options) for _ in range(2))
    assert len(recwarn) == warned
    assert set(factors.names[1]) == set(columns)
    by_name = jacobian(module, inputs, options)
    J = as_matrix(by_name)
    K = factors.kernel()
    np.testing.assert_allclose(K, J @ J.T, rtol=TOLERANCE, atol=TOLERANCE * np.max(K))
    np.testing.assert_allclose(factors.diagonal(), np.diag(K), rtol=TOLERANCE)
    np.testing.assert_array_equal(again.kernel(), K)
    part = torch_factors(module, tuple(leaf[:2] for leaf in inputs) if isinstance(inputs, tuple) else inputs[:2], **options)
    np.testing.assert_allclose(factors.cross_kernel(part), K[:, :2], rtol=TOLERANCE, atol=TOLERANCE * np.max(K))
    zeta = np.linspace(-1, 1, N)
    update = factors.pull_back(zeta)
    assert set(update) == set(by_name)
    for name, g in by_name.items():
        own = np.tensordot(zeta, g, 1)
        np.testing.assert_allclose(update[name], own, rtol=TOLERANCE, atol=TOLERANCE * max(1, np.max(np.abs(own))))


def test_the_kernel_is_that_of_torch_func():
    module = mlp().double()
    parameters = dict(module.named_parameters())

    def value(parameters, x):
        return torch.func.functional_call(module, parameters, (x[None],))[0, 0]

    J = as_matrix({k: v.detach() for k, v in torch.func.vmap(torch.func.grad(value), (None, 0))(parameters, X).items()})
    np.testing.assert_allclose(torch_factors(module, X).kernel(), J @ J.T, rtol=TOLERANCE)


@pytest.mark.parametrize("make", [past_once, mixed])
def test_what_a_batch_alone_shows_takes_columns(make):
    """One sample that reads a weight past its layer, and gradients that mix samples, against the Jacobian of the batch."""
    module = make().double()
    with pytest.warns(UserWarning, match=r"one\.weight"):
        factors = torch_factors(module, X)
    assert factors.names[1] == ["one.weight"]
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    J = as_matrix(torch.func.jacrev(lambda held: torch.func.functional_call(module, held, (X,))[:, 0])(parameters))
    np.testing.assert_allclose(factors.kernel(), J @ J.T, rtol=TOLERANCE)
    unread = X[X[:, 0] < X[:, 0].max()][:1]
    with pytest.raises(ValueError, match="other must come from the same network"):
        factors.cross_kernel(torch_factors(module, unread))


def state(module):
    return [
        [(name, id(p), p.detach().clone(), p.grad, p.requires_grad) for name, p in module.named_parameters()],
        [(name, b.clone()) for name, b in module.named_buffers()],
        [(m.training, dict(m._forward_hooks), dict(m._forward_pre_hooks), dict(m._backward_hooks)) for m in module.modules()],
    ]


def fail(_module, _arguments, _outputs):
    raise KeyError("after the forward pass")


@pytest.mark.parametrize("fails", [False, True])
def test_a_module_is_left_as_it_was(fails):
    module = evaluated().double()
    module.train()
    module[1].eval(), module[2].eval()
    module[3].register_forward_hook(fail if fails else lambda _m, _a, z: z)
    torch.nn.functional.mse_loss(module[3].weight, torch.zeros(1, 8)).backward()
    before, inputs = state(module), X.clone()
    if fails:
        with pytest.raises(KeyError):
            torch_factors(module, inputs)
    else:
        torch_factors(module, inputs)
    for left, right in zip(before, state(module), strict=True):
        for a, b in zip(left, right, strict=True):
            for x, y in zip(a, b, strict=True):
                assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
    assert torch.equal(inputs, X)
    assert not module[3].weight.grad.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_mode_does_not_matter(mode):
    module = in_place().double()
    K = torch_factors(module, X).kernel()
    with mode():
        inside = torch_factors(module, X.clone().numpy())
        assert not torch.is_grad_enabled()
    np.testing.assert_allclose(inside.kernel(), K, rtol=TOLERANCE)
    assert not inside.Q.requires_grad


def test_inputs_are_not_written_to_and_follow_the_precision_of_the_module():
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 1))
    inputs = X.clone()
    factors = torch_factors(module, inputs)
    assert torch.equal(inputs, X)
    assert factors.kernel().dtype == np.float32
    torch_factors(module.double(), inputs)
    assert torch.equal(inputs, X)
    assert not theorem_2(Coupling(factors.kernel(), np.full(N, 1 / N)), 0.99, 0.1).applies


REFUSALS = {
    "batch norm": (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), X, {}, r"its batch normalisation 1 does"),
    "batch norm without statistics": (
        lambda: nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.Linear(3, 1)).eval(),
        X,
        {},
        "the value of a sample changes",
    ),
    "dropout": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 1)), X, {}, "the value .* call module"),
    "random": (lambda: Module(lambda m, x: m.one(torch.dropout(x, 0.5, True)), one=nn.Linear(3, 1)), X, {}, "draw random numbers"),
    "mixed values": (lambda: Module(lambda m, x: m.one(x) - x.mean(), one=nn.Linear(3, 1)), X, {}, "the value of a sample changes"),
    "one sample reads another": (
        lambda: Module(lambda m, x: m.one(x) + x[0, :1] * (x[:, :1] == X[1, 0]), one=nn.Linear(3, 1)),
        X,
        {},
        "the value",
    ),
    "half": (lambda: mlp().half(), X, {}, "all in float32 or all in float64, got .*torch.float16"),
    "two precisions": (lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1).float()), X, {}, "all in float32 or all in float64"),
    "complex parameters": (lambda: nn.Linear(3, 1, dtype=torch.complex64), X, {}, "got .*torch.complex64"),
    "complex inputs": (mlp, X.to(torch.complex64), {}, "inputs must be what the module takes"),
    "integer inputs": (mlp, X.long(), {}, "inputs must be what the module takes"),
    "no inputs": (mlp, (), {}, "inputs must be arrays with one row a sample"),
    "text": (mlp, "state", {}, "inputs must be arrays with one row a sample"),
    "a scalar": (mlp, 1.0, {}, r"got shapes \[\(\)\]"),
    "no parameter": (lambda: nn.Tanh(), X, {}, "parameters that require a gradient, .* got none"),
    "all frozen": (lambda: mlp().requires_grad_(False), X, {}, "parameters that require a gradient, .* got none"),
    "constant": (lambda: Module(lambda m, x: m.one(x).detach(), one=nn.Linear(3, 1)), X, {}, "module must be differentiable"),
    "a tuple": (lambda: Module(lambda m, x: (m.one(x), m.one(x)), one=nn.Linear(3, 1)), X, {}, "one value a sample, .* got tuple"),
    "two outputs": (lambda: mlp(3, 2), X, {}, r"shape \(6,\) or \(6, 1\), got \(6, 2\)"),
    "no heads": (
        lambda: Module(lambda m, x: m.one(x)[:, 0], one=nn.Linear(3, 1)),
        (X, SELECTED),
        {"action_values": True},
        "one output an action",
    ),
    "large actions": (lambda: mlp(3, 3), (X, SELECTED), {"action_values": True}, "actions must be integers from 0 to 2"),
    "real actions": (lambda: mlp(3, 4), (X, X[:, 0]), {"action_values": True}, "actions must be integers, one a sample"),
    "not finite": (mlp, X / 0, {}, "must be finite"),
    "not differentiable": (lambda: Module(write_over, one=nn.Linear(3, 3), head=nn.Linear(3, 1)), X, {}, "module must be differentiable"),
}


def write_over(module, x):
    h = torch.tanh(module.one(x))
    z = module.head(h)
    h.zero_()
    return z


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_modules_and_inputs_are_refused_by_name(case):
    make, inputs, options, message = REFUSALS[case]
    module = make()
    if case not in ("half", "two precisions", "complex parameters", "no parameter"):
        module = module.double()
    if case == "two precisions":
        module[0].double()
    with pytest.raises(ValueError, match=message):
        torch_factors(module, inputs, **options)


def test_factors_that_do_not_fit_are_refused():
    factors = torch_factors(mlp(), X)
    with pytest.raises(ValueError, match=r"zeta must have shape \(6,\), got \(5,\)"):
        factors.pull_back(np.zeros(5))
    with pytest.raises(ValueError, match="other must come from the same network"):
        factors.cross_kernel(torch_factors(twice(), X))


def test_columns_are_formed_one_by_one_where_pytorch_cannot_batch(monkeypatch):
    grad, singles = torch.autograd.grad, []

    def unbatched(*args, is_grads_batched=False, **options):
        if is_grads_batched:
            raise RuntimeError("no batching rule")
        singles.append(1)
        return grad(*args, **options)

    module = past().double()
    with pytest.warns(UserWarning, match=r"one\.weight"):
        K = torch_factors(module, X).kernel()
    monkeypatch.setattr(torch.autograd, "grad", unbatched)
    np.testing.assert_allclose(torch_factors(module, X).kernel(), K, rtol=TOLERANCE)
    assert len(singles) >= N


# --- Modules in a report ---------------------------------------------------------------------------------------------


def as_in_jax(module):
    """The same network as a function in JAX, with its parameters."""
    layers = [layer for layer in module if isinstance(layer, nn.Linear)]
    return [Dense(jnp.asarray(layer.weight.detach().numpy().T), jnp.asarray(layer.bias.detach().numpy())) for layer in layers]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("action_values", [False, True])
def test_a_module_has_the_report_of_the_same_network_in_jax(action_values, scaled):
    with jax.enable_x64(True):
        torch.manual_seed(0)
        module = mlp(n_outputs=4 if action_values else 1).double()
        network = action_value_network("tanh") if action_values else value_network("tanh")
        layers = as_in_jax(module)
        rng = np.random.default_rng(0)

        def pairs():
            return (rng.standard_normal((N, 3)), rng.integers(0, 4, N)) if action_values else rng.standard_normal((N, 3))

        told = {
            "inputs": pairs(),
            "next_inputs": pairs(),
            "rewards": rng.standard_normal(N),
            "at_policy": pairs(),
            "next_of_data": pairs(),
            "n_action_columns": 0 if action_values else 2,
            "discount": 0.9,
            "step_size": 0.1,
        }
        scales = {name: rng.uniform(0.5, 2, tuple(p.shape)) for name, p in module.named_parameters()} if scaled else None
        of_layers = [Dense(jnp.asarray(scales[f"{i}.weight"].T), jnp.asarray(scales[f"{i}.bias"])) for i in (0, 2)] if scaled else None
        before = {name: value.clone() for name, value in module.state_dict().items()}
        found = diagnose(from_torch(module, action_values=action_values), None, scales=scales, **told)
        expected = diagnose(network, layers, scales=of_layers, **told)
        assert found.numbers == pytest.approx(expected.numbers, rel=1e-8, nan_ok=True)
        np.testing.assert_allclose(found.matrix, expected.matrix, atol=1e-12)
        assert (found.fault.name, str(found)) == (expected.fault.name, str(expected))
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
        assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize(
    ("parameters", "scales", "message"),
    [
        ([1.0], None, "parameters must be None with a network that has its own"),
        (None, {"0.weight": np.ones((8, 3))}, "scales must have the names of the parameters, 0.weight, 0.bias, 2.weight, 2.bias"),
        (None, lambda shape: np.ones((2, *shape)), "shaped as the parameters, but that of 0.weight is not"),
        (
            None,
            lambda name, shape: np.full(shape, -1.0 if name == "2.bias" else 1.0),
            "must be positive and finite, .* that of 2.bias is not",
        ),
        (None, lambda shape: np.full(shape, np.inf), "must be positive and finite"),
    ],
)
def test_a_report_on_a_module_is_refused_by_name(parameters, scales, message):
    module = mlp().double()
    if callable(scales):
        scales = {name: scales(tuple(p.shape)) for name, p in module.named_parameters()}
    with pytest.raises(ValueError, match=message):
        diagnose(from_torch(module), parameters, X.numpy(), X.numpy(), discount=0.9, step_size=0.1, scales=scales)


def test_the_example_in_the_docstring_runs():
    assert doctest.testmod(adapter).attempted > 0
    assert doctest.testmod(adapter).failed == 0
