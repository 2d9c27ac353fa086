"""Central differences: how their errors fall with the step, and what they are of."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sk_analytic.finite_differences import central, extrapolated, size_of


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
