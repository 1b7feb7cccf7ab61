"""Numbers on their way from a cell into the prose."""

import numpy as np


def glue(name: str, value: float | str | np.generic) -> None:
    """Keep `value` under `name`, for the text to show with a glue role, and print nothing here.

    MyST-NB reads the value back from its repr. That of a NumPy scalar names its type and cannot be formatted, so it becomes a plain
    Python number first. Where MyST-NB is not installed (a chapter run on its own, as on Colab) there is no text to fill, and nothing is
    kept.

    Raises:
        ValueError: if `value` is NaN or infinite: no sentence of the book can mean that.
    """
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and not np.isfinite(plain):
        raise ValueError(f"value of {name} must be finite, got {plain}")
    try:
        import myst_nb  # type: ignore[import-untyped]
    except ModuleNotFoundError as missing:
        if missing.name != "myst_nb":
            raise
        return
    myst_nb.glue(name, plain, display=False)
