"""What must be set before numpy, scipy and scikit-learn are imported, and fixtures that many tests use."""

import importlib.metadata
import os

import pytest

# scikit-learn checks estimators under array API dispatch, which scipy reads once, when it is imported.
os.environ["SCIPY_ARRAY_API"] = "1"

# The matrices here are small, and pytest-xdist has the cores: threads of BLAS would only wait for one another.
for library in ("MKL", "OMP", "OPENBLAS"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def pytest_report_header():
    """Say which versions are tested."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scipy", "scikit-learn"))


@pytest.fixture
def rng():
    """A generator that starts alike in every test."""
    import numpy as np

    return np.random.default_rng(0)
