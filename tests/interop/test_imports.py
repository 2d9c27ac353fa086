"""Other libraries are imported only when something of theirs is passed."""

import subprocess
import sys

import pytest

LIBRARIES = ("torch", "jax", "optax", "numba", "dask")
USES = {
    "import": "import sk_analytic, sk_analytic.interop",
    "everything public": "import sk_analytic.optimizers, sk_analytic.losses, sk_analytic.plotting, sk_analytic.search",
    "a fit": "import numpy as np; from sk_analytic import AnalyticRegressor as R; "
    "R(optimizer='adam', max_iter=1, tol=None).fit(np.eye(3), np.arange(3.0))",
}


@pytest.mark.parametrize("use", USES)
def test_nothing_is_imported_by_itself(use):
    """Not even by a fit."""
    code = f"import sys; {USES[use]}; print([name for name in {LIBRARIES} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
