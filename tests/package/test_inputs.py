"""Every argument of every public function: plain input in another dress gives the same result, bad input is refused by name.

`calls` holds a valid call of each; here its arguments are replaced one at a time.
"""

import dataclasses
import inspect
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deadly_triad import _checks, certificates, cures, examples, fixed_point, kernel_updates, linear_td, mdp, stability, value_updates
from deadly_triad.fixed_point import EUCLIDEAN, SUP, Norm, iterate
from scipy.sparse import csr_array

from .calls import CALLS, CHANGE, COUPLING, MADE_BY_THE_PACKAGE, MODULES, TWO_STATES, halve, transitions


def public_names(module):
    """Functions and classes that a module defines, and the methods of its classes that take arguments."""
    short = module.__name__.rpartition(".")[2]
    for name, thing in vars(module).items():
        if name.startswith(("_", "check_")) or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing) or inspect.isclass(thing):
            yield f"{short}.{name}"
        if inspect.isclass(thing):
            for method, body in vars(thing).items():
                asked = inspect.isfunction(body) and len(inspect.signature(body).parameters) > 1
                if asked and (method == "__call__" or not method.startswith(("_", "check_"))):
                    yield f"{short}.{name}.{method}"


def test_every_public_function_has_its_call_and_every_call_its_function():
    named = {name for module in MODULES for name in public_names(module)}
    assert named == set(CALLS) | MADE_BY_THE_PACKAGE
    for name, call in CALLS.items():
        asked = inspect.signature(call.run).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in asked.values()):
            assert set(call.arguments()) == set(asked), name


def same(one, other, rtol):
    """Whether two results say the same, however they are nested."""
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, field.name), getattr(other, field.name), rtol) for field in dataclasses.fields(one)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b, rtol) for a, b in zip(one, other, strict=True))
    if one is None or isinstance(one, str):
        return one == other
    if isinstance(one, np.ndarray) and (one.shape != other.shape or one.dtype != other.dtype) and rtol < 1e-6:
        return False
    return np.allclose(one, other, rtol=rtol, atol=rtol)


def locked(array):
    array.setflags(write=False)
    return array


def tuples(entries):
    return tuple(tuples(entry) for entry in entries) if isinstance(entries, list) else entries


def plain_arrays(array):
    """The same numbers as `array`, dressed otherwise."""
    yield "list", array.tolist()
    yield "tuple", tuples(array.tolist())
    yield "JAX", jnp.asarray(array)
    yield "read-only", locked(array.copy())
    yield "another order", np.asfortranarray(array)
    yield "strided", np.repeat(array, 2, axis=-1)[..., ::2]
    if array.dtype == float:
        yield "float32", array.astype(np.float32)
        assert np.all(array == np.rint(array)), "arrays of `calls` hold whole numbers"
        yield "int", array.astype(int)
        yield "list of int", array.astype(int).tolist()
        yield "JAX int", jnp.asarray(array, int)
        if np.all((array == 0) | (array == 1)):
            yield "bool", array == 1
    elif array.dtype == bool:
        yield "0 and 1", array.astype(int)
    else:
        yield "int32", array.astype(np.int32)


def plain_scalars(value):
    """The same number as `value`, dressed otherwise."""
    kinds = (np.int64, np.uint8, np.array, jnp.array) if isinstance(value, int) else (np.float64, np.float32, np.array, jnp.array)
    yield from ((kind.__name__, kind(value)) for kind in kinds)
    if value == int(value):
        yield "int", int(value)


def result(call, replaced):
    return call.run(**(call.arguments() | replaced))


@pytest.mark.parametrize("name", CALLS)
def test_plain_arrays_give_what_float64_gives_and_the_signatures_admit_them(name):
    call = CALLS[name]
    expected = result(call, {})
    for argument, value in call.arguments().items():
        if isinstance(value, np.ndarray):
            for kind, plain in plain_arrays(value):
                # A coupling keeps float32, so that a large kernel is not doubled.
                rtol = 1e-6 if kind == "float32" else 1e-12
                assert same(expected, result(call, {argument: plain}), rtol), (argument, kind)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", CALLS)
def test_plain_scalars_give_what_python_numbers_give(name):
    call = CALLS[name]
    expected = result(call, {})
    for argument, value in call.arguments().items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            for kind, plain in plain_scalars(value):
                if float(plain) == value:
                    assert same(expected, result(call, {argument: plain}), 1e-12), (argument, kind)
    if "importance_sampling" in call.arguments():
        assert same(expected, result(call, {"importance_sampling": np.False_}), 1e-12)


def bad_values(value):
    """What must not stand in the place of `value`, by kind."""
    yield "None", None
    yield "an object", object()
    if isinstance(value, np.ndarray):
        yield "text", "text"
        yield "text entries", value.astype(str)
        yield "complex", value + 0j
        yield "objects", value.astype(object)
        yield "ragged", [[1.0], [1.0, 2.0]]
        yield "sparse", csr_array(np.atleast_2d(value).reshape(value.shape[0], -1))
        yield "masked", np.ma.masked_array(value, mask=np.ones(value.shape, dtype=bool))
        yield "NaN", np.where(np.arange(value.size).reshape(value.shape) == 0, np.nan, value)
        yield "infinity", np.where(np.arange(value.size).reshape(value.shape) == 0, np.inf, value)
        yield "another shape", value[None]
        yield "empty", value[:0]
        if value.dtype == int:
            yield "a mask", value == 1
            yield "floats", value.astype(float)
            yield "negative", value - 2
            yield "too large", value + 3
    elif isinstance(value, bool):
        yield "a number", 1
        yield "text", "no"
    elif isinstance(value, int):
        yield from {"a float": 1e3, "a fraction": 2.5, "NaN": np.nan, "huge": 2**63, "negative": -1, "text": "3"}.items()
        yield from {"True": True, "a list": [1], "a float array": np.array(2.0), "-2^63": -(2**63)}.items()
    elif isinstance(value, float):
        yield from {"NaN": np.nan, "negative": -1.0, "infinity": np.inf, "text": "0.5", "complex": 0.5j}.items()
        yield from {"True": True, "a list": [0.5, 0.5], "a huge int": 10**400}.items()
    elif callable(value):
        yield "gives text", lambda *_: "text"
        yield "gives another shape", lambda *_: np.zeros((7, 9))
        yield "gives one axis more", lambda *some: some[-1][None]
        yield "gives one number", lambda *_: 0.5
        yield "gives NaN", lambda *some: np.full(some[-1].shape, np.nan)
        yield "gives nothing", lambda *_: None
    else:
        yield "a number", 3
        yield "an array", np.eye(2)


def arrays_in(arguments):
    return {name: value.copy() for name, value in arguments.items() if isinstance(value, np.ndarray)}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_refused_in_a_sentence_that_names_it_and_nothing_is_written_to(name):
    call = CALLS[name]
    optional = {key for key, parameter in inspect.signature(call.run).parameters.items() if parameter.default is None}
    wrong = []
    for argument, value in call.arguments().items():
        for kind, bad in bad_values(value):
            if kind in call.fine.get(argument, ()) or (bad is None and argument in optional):
                continue
            arguments = call.arguments() | {argument: bad}
            before = arrays_in(arguments)
            try:
                got = call.run(**arguments)
            except (TypeError, ValueError) as refusal:
                message = str(refusal)
                if (
                    not re.match(r"\w.* must .*", message)
                    or not re.search(rf"\b{argument}\b", message)
                    or len(message) > 300
                    or "\n" in message
                ):
                    wrong.append(f"{argument}, {kind}: {type(refusal).__name__}: {message}")
            except Exception as failure:
                wrong.append(f"{argument}, {kind}: {type(failure).__name__}: {failure}")
            else:
                wrong.append(f"{argument}, {kind}: taken, {got!r:.80}")
            for key, array in before.items():
                np.testing.assert_array_equal(arguments[key], array, strict=True)
    assert not wrong, "\n".join(wrong)


OPERATED = [name for name, call in CALLS.items() if any(callable(value) for key, value in call.arguments().items() if key != "norm")]


@pytest.mark.parametrize("name", OPERATED)
def test_a_function_that_works_in_place_or_in_one_buffer_gives_what_a_pure_one_gives(name):
    call = CALLS[name]
    (key,) = (key for key, value in call.arguments().items() if callable(value) and key != "norm")
    pure = call.arguments()[key]

    def in_place(*some):
        some[-1][...] = pure(*some)
        return some[-1]

    buffers = {}

    def in_one_buffer(*some):
        buffer = buffers.setdefault(some[-1].shape, np.empty(some[-1].shape))
        buffer[...] = pure(*some)
        return buffer

    for f in (in_place, in_one_buffer):
        arguments = call.arguments() | {key: f}
        before = arrays_in(arguments)
        assert same(result(call, {}), call.run(**arguments), 1e-15)
        for argument, array in before.items():
            np.testing.assert_array_equal(arguments[argument], array)


# --- Single cases whose right value is known -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e160, 1e-170, 1e300, 1e-300, 2.0**1000])
def test_the_verdict_does_not_depend_on_the_unit(size):
    turned = np.array([[1.0, 1.0], [-1.0, 1.0]])
    verdict = stability.analyse_stability(size * turned)
    assert verdict.verdict == "stable"
    assert verdict.largest_stable_step == pytest.approx(1 / size, rel=1e-12)
    np.testing.assert_allclose(verdict.eigenvalues, size * np.array([1 - 1j, 1 + 1j]), rtol=1e-12)


def test_a_rotation_stays_unstable_where_nothing_counts_as_zero():
    verdict = stability.analyse_stability([[0, 1], [-1, 0]], null_tolerance=0)
    assert (verdict.verdict, verdict.largest_stable_step, verdict.n_null) == ("unstable", 0, 0)


def test_eigenvalues_beyond_floating_point_are_refused():
    with pytest.raises(ValueError, match="matrix must have eigenvalues within the range of floating point"):
        stability.analyse_stability(np.full((3, 3), 1e308))


@pytest.mark.parametrize("tolerance", [np.nan, -2.0, 1.0, 3.0])
def test_a_null_tolerance_that_would_turn_the_verdict_is_refused(tolerance):
    with pytest.raises(ValueError, match=r"null_tolerance must lie in \[0, 1\)"):
        stability.analyse_stability(np.diag([-1.0, 1.0]), null_tolerance=tolerance)


def test_weights_may_be_as_far_apart_as_floating_point_can_hold_their_inverses():
    norm = fixed_point.weighted_sup_norm([1, 1e-20])
    assert norm([0.0, 1.0]) == pytest.approx(1e20)
    assert norm.of_matrix([[0.0, 1e-20], [0.0, 0.5]]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"weights must be positive and finite, and so must their inverses, got 1e-310 at index \(1,\)"):
        fixed_point.weighted_sup_norm([1.0, 1e-310])


@pytest.mark.parametrize("scale", [np.zeros((2, 2)), [[1.0, 2.0], [1e-9, 2e-9]], [[1.0, 0.0], [0.0, 0.0]]])
def test_a_singular_scale_is_refused_however_small_its_rows(scale):
    with pytest.raises(ValueError, match="scale must be invertible"):
        Norm(2, scale)


def ring(size):
    """Two states, one feature of the given size that is 1 and 2 of it, off-policy."""
    return linear_td.LinearTD([[size], [2 * size]], [0.75, 0.25], [[0.0, 1.0], [0.0, 1.0]], [0, 0], 0.875)


def test_the_ratio_of_tdc_and_projected_iteration_do_not_depend_on_the_size_of_the_features():
    for size in (1e-200, 1e-3, 1e150):
        assert cures.tdc_ratio(ring(size)) == pytest.approx(cures.tdc_ratio(ring(1.0)), rel=1e-12)
        np.testing.assert_allclose(cures.projected_iteration(ring(size)), cures.projected_iteration(ring(1.0)), rtol=1e-12)
    # (A, C) = (3/4 (1 - 2 gamma) + 1 - gamma, 7/4), and the ratio is -A / C.
    assert cures.tdc_ratio(ring(1.0)) == pytest.approx((0.75 * 0.75 - 0.125) / 1.75, rel=1e-12)


def test_features_that_are_zero_ask_for_no_correction():
    blank = linear_td.LinearTD(np.zeros((2, 1)), [0.5, 0.5], np.eye(2), np.zeros(2), 0.5)
    assert cures.tdc_ratio(blank) == 0
    np.testing.assert_array_equal(cures.projected_iteration(blank), [[1]])
    np.testing.assert_array_equal(cures.gradient_td_limit(blank), [[0]])


@pytest.mark.usefixtures("unchecked")
def test_the_greedy_mask_is_no_policy():
    with pytest.raises(TypeError, match="actions must be a vector of whole numbers, got dtype bool"):
        mdp.deterministic_policy(np.array([[0.0, 1.0], [0.0, 1.0]])[:, 1] > 0, 2)


@pytest.mark.parametrize("negative", [-1e-13, -0.5])
def test_a_probability_below_zero_is_refused_however_little_it_is(negative):
    with pytest.raises(ValueError, match=rf"d must hold probabilities, got {negative:.6g} at index \(1,\)"):
        _checks.check_distribution("d", [1 - negative, negative])


@pytest.mark.parametrize(("n_steps", "keep_every"), [(5, 2), (4, 2), (3, 4), (1, 1)])
def test_what_is_kept_are_every_so_many_steps_and_no_others(n_steps, keep_every):
    run = partial(linear_td.run_samples, [transitions()] * n_steps, lambda _, x: x + 1, [0.0, 1.0], n_steps=n_steps, n_runs=2)
    every, some = run(keep_every=1), run(keep_every=keep_every)
    np.testing.assert_array_equal(some.steps, np.arange(0, n_steps + 1, keep_every))
    np.testing.assert_array_equal(some.parameters, every.parameters[:, ::keep_every])


def test_samples_that_end_early_are_refused():
    with pytest.raises(ValueError, match="samples must hold n_steps = 5 transitions a run, got 2"):
        linear_td.run_samples(iter([transitions()] * 2), lambda _, x: 0 * x, [0.0], n_steps=5, n_runs=2, keep_every=1)


@pytest.mark.parametrize("length", [0, 17, 2**20, 2**63])
def test_products_that_nobody_can_count_are_refused_at_once(length):
    with pytest.raises(ValueError, match="length must"):
        certificates.joint_spectral_bounds(np.zeros((2, 2, 2)), SUP, length)
    if length > 17:
        with pytest.raises(ValueError, match="length must be at most 100000"):
            certificates.joint_spectral_bounds(np.zeros((1, 2, 2)), EUCLIDEAN, length)


@pytest.mark.usefixtures("unchecked")
def test_an_unlimited_iteration_is_a_large_count_and_no_infinity():
    assert iterate(halve, [1.0], max_steps=2**31 - 1).outcome == "converged"
    with pytest.raises(TypeError, match="max_steps must be a whole number, got inf"):
        iterate(halve, [1.0], max_steps=np.inf)


def test_a_bound_after_very_many_steps_is_a_small_number():
    assert fixed_point.a_priori_bound(0.5, 1, 2**62) == 0
    assert cures.frozen_target_update(examples.w_to_2w().on_policy, 0.1, 2**62).shape == (1, 1)


@pytest.mark.parametrize("n", [7, 3000])
def test_a_message_about_many_states_stays_a_sentence(n):
    swaps = np.eye(n)
    for call in (mdp.stationary_distribution, lambda P: value_updates.largest_step_for_every_policy(0 * P[0], 0.5)):
        with pytest.raises(ValueError, match="must") as refusal:
            call(swaps)
        assert len(str(refusal.value)) < 200
    with pytest.raises(ValueError, match=rf"got {n}: \[\[0\], \[1\], \[2\]") as refusal:
        mdp.stationary_distribution(swaps)


@pytest.mark.usefixtures("unchecked")
def test_what_jax_traces_is_refused_in_one_line():
    with pytest.raises(TypeError, match=r"policy must be an array of real numbers, got .*Tracer") as refusal:
        jax.jit(lambda policy: mdp.policy_rewards(TWO_STATES, policy))(CHANGE)
    assert "\n" not in str(refusal.value)


def test_a_kernel_in_float32_stays_in_float32():
    coupling = kernel_updates.Coupling(np.eye(2, dtype=np.float32), np.ones(2, dtype=np.float32))
    assert coupling.kernel.dtype == coupling.rho.dtype == np.float32
    assert kernel_updates.Coupling(np.eye(2, dtype=np.float16), [1, 1]).kernel.dtype == np.float64


def test_a_norm_and_what_it_measures_have_one_size():
    wide = Norm(2, np.eye(3))
    for call, name in (
        (lambda: wide([1.0, 2.0]), "x"),
        (lambda: wide.of_matrix(np.eye(2)), "matrix"),
        (lambda: iterate(halve, [1.0, 2.0], norm=wide), "start"),
        (lambda: fixed_point.modulus_lower_bound(halve, np.eye(2), wide), "points"),
        (lambda: certificates.joint_spectral_bounds(np.zeros((1, 2, 2)), wide, 2), "matrices"),
    ):
        with pytest.raises(ValueError, match=f"{name} must fit the scale of the norm, 3 x 3, got size 2"):
            call()


def test_what_a_check_hands_back_is_float64_and_no_copy_where_none_is_needed():
    array = np.ones(3)
    assert _checks.as_floats("array", array) is array
    assert _checks.as_floats("array", [1, 2]).dtype == np.float64
    assert mdp.policy_transitions(TWO_STATES, CHANGE) is not CHANGE
    assert COUPLING.kernel.dtype == np.float64
