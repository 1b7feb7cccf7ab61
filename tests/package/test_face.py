"""What `import deadly_triad` shows."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import deadly_triad as dt
import pytest


def declared():
    """The names that a type checker is told of, with their modules."""
    tree = ast.parse(Path(dt.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {alias.asname: node.module.removeprefix("deadly_triad.") for node in block.body for alias in node.names}


def test_a_name_of_the_face_is_that_of_its_module():
    assert 20 <= len(declared()) <= 32
    assert set(dt.__all__) - {"__version__"} == declared().keys()
    for name, module in declared().items():
        assert getattr(dt, name) is getattr(import_module(f"deadly_triad.{module}"), name)
        assert name in dir(dt)


def test_modules_need_no_import_of_their_own():
    code = "import deadly_triad as dt; dt.preqn.step, dt.agents.TD3, dt.adapters.from_function"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
        dt.no_such_thing  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute '_private'"):
        dt._private  # noqa: B018


def test_the_version_is_that_of_the_distribution():
    assert dt.__version__.count(".") == 2


def test_whoever_needs_no_network_does_not_wait_for_jax():
    code = "import deadly_triad as dt, sys; dt.analyse_stability(dt.baird(0.99).off_policy.A); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
