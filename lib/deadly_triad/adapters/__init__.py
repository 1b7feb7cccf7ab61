"""Other people's networks: any function in JAX, modules of Flax, Equinox and PyTorch, in the form that the kernel takes.

A weight matrix that is only ever multiplied by one row a sample takes the layerwise kernel of `ntk`, as often as it is used. All else takes
its columns of the Jacobian, which is always right and never cheap: convolutions, attention, a layer along a time axis, a weight that is
tied or read past its layer. A warning says so once, with the price; learned scales go this way too, but cost little and no word.

`from_linen`, `from_nnx`, `from_equinox` and `from_function` give a network, its parameters and the way back (see `Adapted`), for
`kernel_factors`, `row_sums`, `preqn.step` and all else that takes a network. A module may be adapted anew at each step: that compiles
nothing, for equal modules are equal networks. `torch_factors` gives the kernel of a module of PyTorch and `from_torch` the module as
`diagnose` takes it, `from_sb3` what `diagnose` asks of an agent of stable-baselines3, `torch_layers` the layers of a state dict.

Each library is an optional extra, and needed only by who calls its adapter.
"""

from deadly_triad.adapters.jax import Adapted, from_equinox, from_function, from_linen, from_nnx
from deadly_triad.adapters.sb3 import from_sb3, torch_layers
from deadly_triad.adapters.torch import TorchFactors, TorchNetwork, from_torch, torch_factors

__all__ = [
    "Adapted",
    "TorchFactors",
    "TorchNetwork",
    "from_equinox",
    "from_function",
    "from_linen",
    "from_nnx",
    "from_sb3",
    "from_torch",
    "torch_factors",
    "torch_layers",
]
