"""The scoreboard runs: every row, in small sizes, without the optional peers."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = (
    "chunks",
    "constraints",
    "curve_fit",
    "gather",
    "gradient_check",
    "growth",
    "loop_tax",
    "losses",
    "memory",
    "optimizer_step",
    "row_gradients",
    "step",
    "whole_fit",
)
PEERS = ("torch", "skorch", "jax", "optax", "lmfit", "numba", "matplotlib")

pytestmark = pytest.mark.skipif(importlib.util.find_spec("benchmarks") is None, reason="only in the repository")


def run(*arguments):
    """Run the command in a process of its own, as its threads are set before NumPy is imported."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """The figures of a quick run."""
    folder = tmp_path_factory.mktemp("figures")
    small = ["--quick", "--dtypes", "float64", "--without", *PEERS, "--output", str(folder)]
    finished = run(*ROWS, *small)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return json.loads((folder / "figures.json").read_text(encoding="utf-8"))["figures"]


def test_every_row_has_figures(figures):
    """Each row that was asked for compares something."""
    assert {figure["row"] for figure in figures if figure["ratio"] is not None} == set(ROWS)


def test_both_sides_reach_the_same_result(figures):
    """A comparison counts only if the two sides did the same."""
    compared = [figure for figure in figures if figure["difference"] is not None]
    assert compared
    assert all(figure["difference"] <= figure["tolerance"] for figure in compared)


def test_runs_that_reach_certified_parameters_are_counted(tmp_path):
    """Of three problems from two starts each, by each method; lmfit is left out."""
    finished = run("nist", "--quick", "--without", "lmfit", "matplotlib", "--output", str(tmp_path))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["figures"]
    counted = [figure for figure in figures if not figure["note"]]
    assert {figure["case"].split(",")[0] for figure in counted} == {"trf", "lm", "dogbox"}
    assert all(figure["ours"] == 6 >= figure["peers"] for figure in counted)
    assert [figure["peer"] for figure in figures if figure["note"]] == ["lmfit"]


def test_the_picture_answers_its_questions(monkeypatch):
    """Each comparison that it shows is among the figures of the documentation, the fastest first."""
    monkeypatch.syspath_prepend(str(ROOT))
    pytest.importorskip("matplotlib")
    from benchmarks.figures import from_json
    from benchmarks.picture import QUESTIONS, answers

    figures = from_json((ROOT / "docs" / "benchmarks" / "figures.json").read_text(encoding="utf-8"))
    shown = answers(figures)
    assert len(shown) == len(QUESTIONS)
    ratios = [figure.ratio for _, figure in shown]
    assert ratios == sorted(ratios)


def test_a_missing_peer_says_so(figures):
    """Where a peer is missing its line says how to get it."""
    notes = [figure["note"] for figure in figures if figure["peer"] == "torch loop"]
    assert notes
    assert all('torch is not installed (pip install -e ".[benchmarks]")' in note for note in notes)


def test_an_unknown_row_is_named():
    """The command says which rows there are."""
    finished = run("no_such_row")
    assert finished.returncode == 2
    assert "there is no row no_such_row; there are: " in finished.stderr


def test_quartiles_and_ratio_of_a_comparison(monkeypatch):
    """The ratio is ours over the peer's, round by round."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.timing import compare

    pair = compare(lambda: sum(range(4000)), lambda: sum(range(1000)), repetitions=5)
    assert 2 < pair.ratio.low <= pair.ratio.median <= pair.ratio.high < 8
