"""Checks of scikit-learn that turn on `array_api_dispatch`, which are skipped where it cannot be turned on."""

import pytest
from sklearn import config_context


def why_not_dispatched():
    """Why dispatch cannot be turned on, if it cannot: for want of array_api_compat, or of scipy 1.14."""
    try:
        with config_context(array_api_dispatch=True):
            return None
    except ImportError as error:
        return str(error)


def run_generated(check, estimator):
    """Call a check that scikit-learn has generated for an estimator."""
    if check.func.__name__ == "check_array_api_input" and (why := why_not_dispatched()):
        pytest.skip(why)
    check(estimator)
