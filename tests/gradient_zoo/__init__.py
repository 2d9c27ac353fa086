"""Gradients to examine: wrong ones with their truth, in the models of several files, and right ones that look wrong.

A file registers its faults when it is imported.
"""

from importlib import import_module

for _file in ("curves", "faults", "likelihoods", "nets", "treated"):
    import_module(f"{__name__}.{_file}")
