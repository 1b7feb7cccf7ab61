"""Doctests of what needs PyTorch are collected only where it is installed: it is not part of the locked environment."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["lib/deadly_triad/adapters/torch.py"]
