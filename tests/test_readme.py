"""What the README shows runs, and its two commands are there to be copied."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """The fenced blocks of the README in a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def is_for_this_version(block):
    """Whether scikit-learn has what a block imports: callbacks come with 1.9."""
    return "sklearn.callback" not in block or importlib.util.find_spec("sklearn.callback") is not None


def run(block, capsys):
    """Run a block as a reader would who pastes it into a new session; return the numbers in what it prints."""
    lines_before = README[: README.index(block)].count("\n")  # so that a traceback shows the right line
    exec(compile("\n" * lines_before + block, str(ROOT / "README.md"), "exec"), {"__name__": "__main__"})
    return [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", capsys.readouterr().out)]


# What the last line of each block begins with, and what the last number that it prints is worth.
PROMISED = {
    "print(nade.fit(X_train).score(X_test))": (-17.9, -17.5),
    "print(nade.sample(1": (0, 1),
    "print(net.score(X[400:], y[400:]))": (0.75, 1),
    "print(result)": (1.488, 1.489),
    "print(search.best_params_, search.best_score_)  # 0.98": (0.97, 0.99),
    "print(model.n_iter_, model.best_validation_score_)": (0.95, 1),
    "print(search.best_params_, search.best_score_)\n": (0.45, 0.55),
    'print(model.params_["coef"].round(2), model.score(*load(99)))': (0.92, 0.95),
}


@pytest.mark.parametrize("block", blocks("python"), ids=range(len(blocks("python"))))
def test_a_python_block_stands_alone(block, capsys):
    """In a new session it runs without a warning, and prints a number worth showing."""
    if not is_for_this_version(block):
        pytest.skip("needs a newer scikit-learn")
    last = block.splitlines(keepends=True)[-1]
    low, high = next(limits for beginning, limits in PROMISED.items() if last.startswith(beginning))
    assert low <= run(block, capsys)[-1] <= high


def test_early_stopping_stops(capsys):
    """Before the epochs that are allowed have passed."""
    block = next(block for block in blocks("python") if "early_stopping=True" in block)
    allowed = int(re.search(r"max_iter=(\d+)", block)[1])
    assert run(block, capsys)[0] < allowed / 2


@pytest.mark.parametrize("block", blocks("python")[:2], ids=["functions", "class"])
def test_founding_case_is_short(block):
    """The density of digits, gradient and all, takes no more than 30 lines of code, as functions or as a class."""
    assert "def gradient(" in block
    assert len([line for line in block.splitlines() if line]) <= 30


def test_first_two_bash_blocks_are_the_main_job_and_the_tests():
    """They are one line each and stand before any Python; the first runs the example, the second pytest."""
    job, tests = (block.splitlines() for block in blocks("bash")[:2])
    assert len(job) == len(tests) == 1
    assert "examples/nade_digits.py" in job[0]
    assert "pytest" in tests[0]
    assert README.index("```bash") < README.index(tests[0]) < README.index("```python")


@pytest.mark.parametrize("command", blocks("bash")[:2])
def test_bash_block_refers_to_what_exists(command):
    """Every script that a command names is in the repository, and every extra is declared."""
    declared = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    words = shlex.split(command)
    assert all((ROOT / word).is_file() for word in words if word.endswith(".py"))
    for extras in re.findall(r"\[(.*?)\]", command):
        assert set(extras.split(",")) <= set(declared)


def test_links_lead_somewhere():
    """Every relative link of the README is a file of the repository."""
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).is_file()] == []
