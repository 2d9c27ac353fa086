"""The scoreboard: what a user would pick instead, timed beside us in one process.

``python -m benchmarks`` runs all rows, ``python -m benchmarks.whole_fit`` one. A row is a module here with a
function ``measure(options)`` that yields figures; the command finds it by that.

Everything runs on one thread unless a row is about threads. Libraries read that from the environment when
they are imported, so it is set here, before any of them is.
"""

import os

for _name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "VECLIB_MAXIMUM", "NUMBA"):
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
