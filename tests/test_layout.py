"""The layout of the package: imports run downward only, and what is added is one class in one place."""

import ast
from pathlib import Path

import pytest

import sk_analytic
from sk_analytic.callback_support import WithoutCallbacks

PACKAGE = Path(sk_analytic.__file__).parent


def modules():
    """Every module of the package by its dotted name, with its file."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = [PACKAGE.name, *file.relative_to(PACKAGE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()

# Module: what it may import of the package.
GROUND = {
    "exceptions": set(),
    "typing": set(),
    "validation": set(),
    "trust": set(),
    "importable": set(),
    "finite_differences": {"typing"},
    "display": set(),
    "callers": set(),
    "equality": set(),
    "sparse_matrices": set(),
    "readable": {"typing"},
    "hyperparameters": {"display", "equality", "readable", "trust", "typing", "validation"},
    "elsewhere": {"trust", "typing"},
    "persistence": {"elsewhere", "exceptions", "importable", "parameters", "trust", "typing", "validation"},
}


def imported(name, deferred):
    """Modules of the package that a module imports, under TYPE_CHECKING too; inside functions if ``deferred``."""
    file = MODULES[name]
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found = set()

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not deferred:
                continue
            if isinstance(child, ast.ImportFrom):
                base = package.split(".")[: len(package.split(".")) - child.level + 1] if child.level else []
                target = ".".join([*base, *([child.module] if child.module else [])])
                found.update({f"{target}.{alias.name}" for alias in child.names} & MODULES.keys() or {target})
            visit(child)

    visit(ast.parse(file.read_text(encoding="utf-8")))
    return sorted((found & MODULES.keys()) - {name})


def circle(deferred):
    """The modules of a circle of imports, or None."""
    done, path = set(), []

    def search(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        for other in imported(name, deferred):
            found = search(other)
            if found:
                return found
        path.pop()
        done.add(name)
        return None

    for name in MODULES:
        found = search(name)
        if found:
            return found
    return None


def test_imports_make_no_circle():
    """Counting those for annotations only."""
    found = circle(deferred=False)
    assert found is None, f"a circle of imports: {' -> '.join(found)}"


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("sk_analytic.exceptions", "sk_analytic"),
        ("sk_analytic.losses", "sk_analytic.estimators"),
        ("sk_analytic.parameters", "sk_analytic.objective"),
        ("sk_analytic.data", "sk_analytic.objective"),
        ("sk_analytic.objective", "sk_analytic.training"),
        ("sk_analytic.optimizers", "sk_analytic.training"),
        ("sk_analytic.optimizers", "sk_analytic.objective"),
        ("sk_analytic.training", "sk_analytic.estimators"),
        ("sk_analytic.gradient_check", "sk_analytic.estimators"),
        ("sk_analytic.persistence", "sk_analytic.estimators"),
        ("sk_analytic.estimators", "sk_analytic.interop"),
        ("sk_analytic.optimizers", "sk_analytic.interop"),
    ],
)
def test_imports_run_downward(low, high):
    """Not from a lower floor to a higher one, inside functions neither."""
    below = [name for name in MODULES if name == low or name.startswith(f"{low}.")]
    above = {name for name in MODULES if name != low and (name == high or name.startswith(f"{high}."))}
    above -= set(below) | {"sk_analytic.typing"}
    if high == "sk_analytic":  # nothing of ours
        above = set(MODULES) - set(below)
    upward = [(name, other) for name in below for other in imported(name, deferred=True) if other in above]
    assert upward == []


@pytest.mark.parametrize("name", GROUND)
def test_the_ground_stands_by_itself(name):
    """Its modules import nothing else of the package, inside functions neither."""
    others = {other.split(".")[1] for other in imported(f"{PACKAGE.name}.{name}", deferred=True)}
    assert others <= GROUND[name]


@pytest.mark.parametrize("name", ["AnalyticRegressor", "AnalyticClassifier", "AnalyticDensity", "AnalyticTransformer"])
def test_estimators_are_flat(name):
    """At most two classes of ours are above each; where scikit-learn has no callbacks, a stand-in for its mixin."""
    _, *above = [c for c in getattr(sk_analytic, name).__mro__ if c.__module__.startswith(PACKAGE.name)]
    assert len([c for c in above if c is not WithoutCallbacks]) <= 2, above
