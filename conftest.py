"""What needs PyTorch is collected only where it is installed, for it is not part of the locked environment; a script is no test."""

from importlib.util import find_spec

collect_ignore = [
    "lib/deadly_triad/diagnose.py",
    "tests/package/td3_reference.py",
    "tests/package/sac_reference.py",
    *([] if find_spec("torch") else ["lib/deadly_triad/adapters/torch.py", "lib/deadly_triad/adapters/sb3.py"]),
]
