"""Central differences: how their errors fall with the step, and what they are of."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sk_analytic.finite_differences import central, difference, extrapolated, size_of


@pytest.mark.parametrize(("difference", "order"), [(central, 2), (extrapolated, 4)])
def test_the_error_falls_with_its_power_of_the_step(difference, order):
    """With the square of the step, and with its fourth power where two differences are extrapolated."""
    errors = [abs(difference(lambda t: np.exp(1 + t), step) - np.e) for step in (0.2, 0.1)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.05)


def test_what_returns_an_array_is_differenced_entry_by_entry():
    """A prediction's derivatives come all at once."""
    assert_allclose(extrapolated(lambda t: np.array([t, 2 * t, t**3]), 0.1), [1, 2, 0], atol=1e-15)


def test_a_size_is_never_zero():
    """A step is scaled by it."""
    assert size_of(np.array([3.0, -3.0])) == 3
    assert size_of(np.zeros(4)) == size_of(np.empty(0)) == 1


@pytest.mark.parametrize("entry", [0.0, 1e-15, 1e-9, 1e-3, 0.3, 20.0])
@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e-3, 1.0, 1e3])
def test_a_derivative_does_not_depend_on_the_unit_of_an_entry(unit, entry):
    """Nor on how small the entry happens to be: the step is long enough to be more than rounding."""
    for function, slope in (
        (np.exp, np.exp),
        (lambda x: 5 + np.sin(x), np.cos),
        (lambda x: 1 + x * x, lambda x: 2 * x),
    ):
        found = difference(lambda t, f=function: f((unit * entry + t) / unit), unit * entry, unit * entry or unit)
        assert found * unit == pytest.approx(slope(entry), rel=1e-6, abs=1e-6)


def test_entries_of_one_block_may_differ_by_orders_of_magnitude():
    """The size of the others does not make a step that is too long for one."""
    found = difference(lambda t: np.exp(-(1e-6 + t) * 1e6), 1e-6, 1e6)
    assert found * 1e-6 == pytest.approx(-np.exp(-1), rel=1e-8)


def test_a_longer_step_does_not_leave_the_domain():
    """Where the function is not finite farther away, what was found near by counts."""
    found = difference(lambda t: 1.0 if abs(t) < 1e-10 else np.nan, 1e-9, 1.0)
    assert found == 0
    assert np.isnan(difference(lambda t: np.nan, 1.0, 1.0))


def test_a_step_in_the_usual_range_takes_two_evaluations():
    """No more than that where the values change clearly."""
    calls = []
    difference(lambda t: calls.append(t) or np.exp(0.3 + t), 0.3, 1.0)
    assert len(calls) == 2
