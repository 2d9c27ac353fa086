"""What these tests need of other libraries: skipped where one is missing, unless CI requires it."""

import importlib.util
import os

import pytest

REQUIRED = os.environ.get("SK_ANALYTIC_REQUIRE_PARITY", "0") not in {"", "0"}


def require(*packages):
    """Skip the module of the caller if a package is missing; fail if the environment says that it must be there."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        reason = (
            f"{' and '.join(missing)} is not installed; it comes with the extras: pip install sk-analytic[torch,jax]"
        )
        if REQUIRED:
            raise ImportError(f"{reason} (SK_ANALYTIC_REQUIRE_PARITY is set).")
        pytest.skip(reason, allow_module_level=True)
