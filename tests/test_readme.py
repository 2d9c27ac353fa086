"""What the README shows runs, and its two commands are there to be copied."""

import importlib.util
import re
import shlex
import warnings
from pathlib import Path

import pytest
from sklearn.exceptions import ConvergenceWarning

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """The fenced blocks of the README in a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def is_for_this_version(block):
    """Whether scikit-learn has what a block imports: callbacks come with 1.9."""
    return "sklearn.callback" not in block or importlib.util.find_spec("sklearn.callback") is not None


def run(block, namespace, capsys):
    """Run a block as a reader would who pastes it after those before; return what it prints."""
    lines_before = README[: README.index(block)].count("\n")  # so that a traceback shows the right line
    code = compile("\n" * lines_before + block, str(ROOT / "README.md"), "exec")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the README stops early to be short
        exec(code, namespace)
    return capsys.readouterr().out


def test_python_blocks_run_in_their_order(capsys):
    """Pasted one after the other, all blocks run and print, and warn of nothing but of too few epochs."""
    namespace = {"__name__": "__main__"}
    printed = [run(block, namespace, capsys) for block in blocks("python") if is_for_this_version(block)]
    assert all(printed)
    stated = float(re.search(r"about (-\d+\.\d+) nats", blocks("python")[0])[1])
    assert float(printed[0]) == pytest.approx(stated, abs=0.2)


@pytest.mark.parametrize("block", blocks("python")[:2], ids=["functions", "class"])
def test_founding_case_is_short(block):
    """The density of digits, gradient and all, takes no more than 30 lines, as functions or as a class."""
    assert "def gradient(" in block
    assert len(block.splitlines()) <= 30


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
