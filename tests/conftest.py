"""What must be set before scikit-learn and scipy are imported."""

import os

# scikit-learn checks estimators under array API dispatch, which scipy reads once, when it is imported.
os.environ["SCIPY_ARRAY_API"] = "1"
