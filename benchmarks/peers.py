"""The libraries we are compared with: an extra, each of which may be missing."""

import importlib
from functools import cache

PEERS = ("torch", "skorch", "jax", "optax", "lmfit", "numba", "matplotlib", "distributed", "dask_ml")
left_out: set[str] = set()
"""Peers that are treated as missing."""


@cache
def _import(name):
    module = importlib.import_module(name)
    if name == "torch":
        module.set_num_threads(1)
    if name == "jax":
        module.config.update("jax_enable_x64", True)
        module.config.update("jax_cpu_enable_async_dispatch", False)  # else it computes on a second thread
    return module


def find(*names):
    """Return peers as modules, or None if one of them is missing."""
    if any(name in left_out for name in names):
        return None
    try:
        modules = [_import(name) for name in names]
    except ImportError:
        return None
    return modules[0] if len(modules) == 1 else modules


def why_missing(*names):
    """Return the words for a row whose peer is missing."""
    return f'left out: {" and ".join(names)} is not installed (pip install -e ".[benchmarks]")'
