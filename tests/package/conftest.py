"""Shape and type checks for the package, and how hypothesis runs.

Pytest loads this file before it collects any test or doctest, so the hook sees the first import of `deadly_triad`, and the doctests of
`lib` run under the same checks as the tests.
"""

import os
from collections.abc import Iterator
from pkgutil import iter_modules

import deadly_triad
import jax
import jaxtyping
import pytest
from hypothesis import settings

# Python's typing rules accept an int where a float is asked for (PEP 484), beartype only when told to.
# What asks about arguments takes anything, and is asked a million times: it alone is not looked at.
MODULES = [f"deadly_triad.{module.name}" for module in iter_modules(deadly_triad.__path__) if module.name != "_checks"]
jaxtyping.install_import_hook(MODULES, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

# One switch for the whole process (see `deadly_triad.networks`): tests of exact statements need it, tests of float32 ask for float32.
jax.config.update("jax_enable_x64", True)
# What is compiled here runs once, on little: most of the time would go into making it fast. The older way to emit loops takes half as
# long to compile; a jaxlib that has it no more (0.12) would stop at the flag.
jax.config.update("jax_disable_most_optimizations", True)
if jax.__version_info__ < (0, 11):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"

settings.register_profile("package", deadline=None, max_examples=50, derandomize="CI" in os.environ)
settings.load_profile("package")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch the shape checks off: then wrong shapes reach the package's own refusals, as they do for every reader without beartype."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
