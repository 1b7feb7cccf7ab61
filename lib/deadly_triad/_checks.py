# mypy: implicit-reexport
"""What is asked of arguments: each check hands back what it was given, as float64, or refuses it in a sentence that names the argument.

An argument of another kind than asked (text, complex numbers, a float where whole numbers are counted) is a TypeError, one that has the
kind and does not fit is a ValueError. Whatever NumPy reads as an array of real numbers is taken: lists, tuples, integers, booleans (0 and
1), arrays of JAX or PyTorch. What comes back may share its memory with the argument, so nobody writes to it.
"""

import operator
import reprlib
from collections.abc import Callable
from types import UnionType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Shaped

if TYPE_CHECKING:
    from typing import Annotated as Numbers
else:

    class Numbers:
        """`Numbers[type, "n k"]` in a signature: an array of that shape, or nested lists or tuples that NumPy reads as one.

        To a type checker it is `type`: `ArrayLike` for an argument, and for an attribute `np.ndarray`, because that is what it becomes.
        """

        def __class_getitem__(cls, item: tuple[object, str]) -> object:
            return Shaped[Any, item[1]] | list | tuple


ROW_SUM_TOLERANCE = 1e-9
_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 60


def shorten(value: object) -> str:
    """`value` as a message shows it: the first few of many entries."""
    return _SHORT.repr(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)


def keep(instance: object, **attributes: object) -> None:
    """Set the attributes of a frozen dataclass that is being made to what its checks handed back."""
    for name, value in attributes.items():
        object.__setattr__(instance, name, value)


def check_is(name: str, value: object, kind: type | UnionType) -> None:
    """Refuse anything but an instance of `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be of type {getattr(kind, '__name__', kind)}, got {type(value).__name__}")


def check_function(name: str, value: object) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {type(value).__name__}")


def as_floats(name: str, value: object, *, single: bool = False) -> Float[np.ndarray, "..."]:
    """Real numbers as an array of float64, finite or not; with `single`, an array of float32 stays one.

    Raises:
        TypeError: if NumPy cannot read `value`, or reads something else than real numbers (text, complex numbers, objects, masked entries).
    """
    if type(value) is np.ndarray and value.dtype == float:
        return value  # the rule, and what iterations ask a million times
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as reason:
        why = str(reason).partition("\n")[0]
        raise TypeError(f"{name} must be an array of real numbers, got {type(value).__name__}: {why}") from reason
    if not np.can_cast(array.dtype, float, "same_kind") or np.ma.is_masked(value):
        raise TypeError(f"{name} must be an array of real numbers, got a {type(value).__name__} of dtype {array.dtype}")
    return array if single and array.dtype == np.float32 else array.astype(float, copy=False)


# --- Numbers ---------------------------------------------------------------------------------------------------------


def check_number(name: str, value: object, must: str, holds: Callable[[float], bool]) -> float:
    """Refuse anything but one real number for which `holds` is true; a NaN is none, and neither is True."""
    if type(value) is float and holds(value):
        return value
    array = as_floats(name, value)
    if array.ndim or np.asarray(value).dtype == bool or not holds(float(array)):
        raise ValueError(f"{name} must {must}, got {shorten(value)}")
    return float(array)


def check_positive(name: str, value: object) -> float:
    """Refuse anything but a positive and finite number."""
    return check_number(name, value, "be positive and finite", lambda number: 0 < number < np.inf)


def check_step_size(step_size: object) -> float:
    """Refuse a step size that is not positive and finite."""
    return check_positive("step_size", step_size)


def check_discount(discount: object) -> float:
    """Refuse a discount outside [0, 1)."""
    return check_number("discount", discount, "lie in [0, 1)", lambda number: 0 <= number < 1)


def check_count(name: str, value: object, *, least: int = 1, most: int = 2**31 - 1) -> int:
    """Refuse anything but a whole number from `least` to `most`, of a type that is meant for whole numbers: 1e3 is none."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {shorten(value)}")
    if not number >= least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if not number <= most:
        raise ValueError(f"{name} must be at most {most}, got {shorten(number)}")
    return number


# --- Arrays ----------------------------------------------------------------------------------------------------------


def check_entries(name: str, array: Shaped[np.ndarray, "..."], must: str, right: Shaped[np.ndarray, "..."]) -> None:
    """Refuse an array with an entry that is not `right`; the message shows the first such entry and where it is."""
    if not np.all(right):
        index = tuple(int(i) for i in np.argwhere(~right)[0])
        raise ValueError(f"{name} must {must}, got {array[index]:.6g} at index {index}")


def check_finite(name: str, value: object, *, single: bool = False) -> Float[np.ndarray, "..."]:
    """Refuse an array with a NaN or an infinity, and one without entries."""
    array = as_floats(name, value, single=single)
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one number, got shape {array.shape}")
    if not np.all(np.isfinite(array)):
        check_entries(name, np.atleast_1d(array), "be finite", np.isfinite(np.atleast_1d(array)))
    return array


def check_shape(name: str, value: object, shape: tuple[Any, ...], meaning: str = "") -> Float[np.ndarray, "..."]:
    """Refuse anything but a finite array of this shape; `meaning` stands before the shape in the message."""
    array = as_floats(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {meaning}{shape}, got {array.shape}")
    return check_finite(name, array)


def check_features(features: object, n: int, rows: str = "n") -> Float[np.ndarray, "n k"]:
    """Refuse anything but a finite matrix of `n` rows and at least one column."""
    array = as_floats("features", features)
    if array.ndim != 2 or array.shape[0] != n or array.shape[1] == 0:
        raise ValueError(f"features must have shape ({rows}, k) with {rows} = {n}, got {array.shape}")
    return check_finite("features", array)


def check_square(name: str, value: object) -> Float[np.ndarray, "n n"]:
    """Refuse anything but a finite, non-empty square matrix."""
    return check_finite(name, _square(name, value))


def check_weights(name: str, value: object, shape: tuple[Any, ...] | None = None) -> Float[np.ndarray, "..."]:
    """Refuse anything but non-negative, finite weights, at least one, of the given shape if there is one."""
    array = check_finite(name, value) if shape is None else check_shape(name, value, shape)
    check_entries(name, array, "hold non-negative weights", array >= 0)
    return array


def check_distribution(name: str, value: object) -> Float[np.ndarray, "..."]:
    """Refuse an array whose last axis does not hold probability distributions."""
    array = as_floats(name, value)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} must hold probabilities, got shape {array.shape}")
    off = np.abs(array.sum(axis=-1) - 1)
    if not (array.min() >= 0 and off.max() <= ROW_SUM_TOLERANCE):
        check_finite(name, array)
        check_entries(name, array, "hold probabilities", array >= 0)
        worst = np.unravel_index(np.argmax(off), off.shape)
        where = f" at index {tuple(int(i) for i in worst)}" if worst else ""
        raise ValueError(f"{name} must sum to 1 along the last axis, got {float(array[worst].sum()):.12g}{where}")
    return array


def check_stochastic(name: str, value: object) -> Float[np.ndarray, "n n"]:
    """Refuse anything but a square matrix whose rows are probability distributions."""
    return check_distribution(name, _square(name, value))


def check_indices(name: str, value: object, n: int) -> Int[np.ndarray, " N"]:
    """Refuse anything but a vector of whole numbers from 0 to n - 1; neither a mask nor an array of floats is one."""
    as_floats(name, value)
    array = np.asarray(value)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be a vector of whole numbers, got dtype {array.dtype} and shape {array.shape}")
    check_entries(name, array, f"lie in 0, …, {n - 1}", (array >= 0) & (array < n))
    return array


def check_image(name: str, f: Callable[[np.ndarray], object], point: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """What `f` makes of `point`, which it gets as a copy and whose shape it has to keep.

    The image is a copy too: `f` may work in place, or return the same buffer each time.
    """
    check_function(name, f)
    image = as_floats(f"{name}(…)", f(point.copy())).astype(point.dtype)
    if image.shape != point.shape:
        raise ValueError(f"{name} must keep the shape {point.shape}, got {image.shape}")
    return image


def _square(name: str, value: object) -> Float[np.ndarray, "n n"]:
    array = as_floats(name, value)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.shape[0] == 0:
        raise ValueError(f"{name} must be a square matrix, got shape {array.shape}")
    return array
