"""Hold the docstring of every public name against numpydoc's rules; which ones, pyproject.toml says.

Public is what the reference documents: the names of the modules below, and of their classes the methods and
properties that the package defines itself. Each docstring is looked at once, in the class that has it. Where a
method overrides another of the package, it need not repeat what the other's docstring says.
"""

import importlib.util
import inspect
import sys
import tomllib
from pathlib import Path

from numpydoc.validate import ERROR_MSGS, validate

MODULES = (
    "sk_analytic",
    "sk_analytic.callbacks",
    "sk_analytic.inference",
    "sk_analytic.losses",
    "sk_analytic.maps",
    "sk_analytic.optimizers",
    "sk_analytic.search",
    "sk_analytic.plotting",
)
OF_EXTRAS = {"sk_analytic.interop.jax": "optax", "sk_analytic.interop.torch": "torch"}
MODULES += tuple(name for name, extra in OF_EXTRAS.items() if importlib.util.find_spec(extra))
CONFIG = set(tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["tool"]["numpydoc_validation"]["checks"])
CHECKS = set(ERROR_MSGS) - CONFIG if "all" in CONFIG else CONFIG
INHERITED = {"GL08", "PR01", "RT01"}  # no docstring, parameters or returns: an override has its base's


def is_ours(thing):
    """Whether the package defines it, and not scikit-learn or Python."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0] == "sk_analytic"


def public_things(module):
    """Classes and functions that a module offers, by name."""
    for name in module.__all__:
        thing = getattr(module, name)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and is_ours(thing):
            yield name, thing


def members(cls):
    """Public methods and properties of a class: name, function, and whether it overrides another of ours."""
    for name, member in inspect.getmembers_static(cls):
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if name.startswith("_") or not inspect.isfunction(function) or not is_ours(inspect.unwrap(function)):
            continue
        yield name, function, sum(is_ours(base) and declares(base, name) for base in cls.__mro__) > 1


def declares(cls, name):
    """Whether a class itself has a member, or says in an annotation that its subclasses have it."""
    return name in vars(cls) or name in inspect.get_annotations(cls)


def public_docstrings():
    """Dotted name of every public docstring, each once, and the checks that it must pass."""
    seen = set()
    for module in map(importlib.import_module, MODULES):
        for name, thing in public_things(module):
            if thing in seen:
                continue
            seen.add(thing)
            yield f"{module.__name__}.{name}", CHECKS
            for member, function, overrides in members(thing) if inspect.isclass(thing) else ():
                if function not in seen:
                    seen.add(function)
                    yield f"{module.__name__}.{name}.{member}", CHECKS - INHERITED if overrides else CHECKS


def complaints(name, checks):
    """What numpydoc finds wrong with one docstring, a line each."""
    found = validate(name)
    place = f"{Path(found['file']).name}:{found['file_line']}" if found["file"] else "?"
    return [f"{name} ({place}): {code} {text}" for code, text in found["errors"] if code in checks]


if __name__ == "__main__":
    docstrings = list(public_docstrings())
    lines = [line for name, checks in docstrings for line in complaints(name, checks)]
    print("\n".join([*lines, f"{len(docstrings)} public docstrings, {len(lines)} complaints"]))
    sys.exit(bool(lines))
