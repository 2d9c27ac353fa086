"""What must be set before numpy, scipy and scikit-learn are imported."""

import os

# scikit-learn checks estimators under array API dispatch, which scipy reads once, when it is imported.
os.environ["SCIPY_ARRAY_API"] = "1"

# The matrices here are small, and pytest-xdist has the cores: threads of BLAS would only wait for one another.
for library in ("MKL", "OMP", "OPENBLAS"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
