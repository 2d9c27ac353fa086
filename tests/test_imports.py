"""What the modules at the bottom import, inside functions and for annotations too."""

import ast
import pathlib

import pytest

import sk_analytic

ROOT = pathlib.Path(sk_analytic.__file__).parent

# Module: what it may import of the package.
GROUND = {
    "exceptions": set(),
    "typing": set(),
    "validation": set(),
    "trust": set(),
    "importable": set(),
    "finite_differences": {"typing"},
    "display": set(),
    "hyperparameters": {"display", "trust", "typing", "validation"},
    "persistence": {"exceptions", "importable", "parameters", "trust", "typing", "validation"},
}


@pytest.mark.parametrize("name", GROUND)
def test_the_ground_stands_by_itself(name):
    """No circle is hidden in a function or under TYPE_CHECKING."""
    tree = ast.parse((ROOT / f"{name}.py").read_text("utf-8"))
    relative = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert all(node.level == 1 and node.module for node in relative)
    assert {node.module.split(".")[0] for node in relative} <= GROUND[name]
