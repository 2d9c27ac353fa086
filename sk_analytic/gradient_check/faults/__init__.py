"""Faults of a gradient: a file for each kind, a class for each fault.

Every file of this folder is imported, which enters its classes into the table of causes: a new fault is its class and
no other line. Hypotheses of equal rank are tested in the order of the files' names.
"""

from importlib import import_module
from pkgutil import iter_modules

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
