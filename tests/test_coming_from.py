"""The pages for those who come from another library: its code and ours do the same task and end in the same numbers."""

import ast
import doctest
import importlib.util
import re
import subprocess
import sys
import textwrap
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

PAGES = Path(__file__).parents[1] / "docs" / "coming_from"
CITED = {"flux"}  # Julia
COMMON = ["jax", "torch", "scipy", "sklearn", "numpy"]
LEARNED = {"mlp", "skorch"}  # from starts and batches that are drawn in another way: the scores are compared


def code_blocks(text):
    """The Python of the other library in a part of a page."""
    found = re.findall(r"^( +)\.\. code-block:: python\n\n((?:\1   .*\n|\n)+)", text, flags=re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


def comparisons():
    """Name, our examples and their code of each comparison; examples before it on the page belong to ours."""
    for page in sorted(PAGES.glob("*.rst")):
        before = []
        for part in page.read_text(encoding="utf-8").split(".. tab-set::")[1:]:
            examples = doctest.DocTestParser().get_examples(part)
            ours = before + [example for example in examples if example.indent]  # what is in the tab
            for block in code_blocks(part):
                yield pytest.param(page.stem, ours, block, id=f"{page.stem}-{packages(block)[0]}")
            before += examples


def packages(code):
    """The packages that code imports, the most special first."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module.partition(".")[0])
    return sorted(set(found), key=lambda name: (COMMON.index(name) + 1 if name in COMMON else 0, name))


def numbers_of(printed):
    """The numbers in the last line of an output, as a reader compares them."""
    return np.array([float(number) for number in re.findall(r"-?\d+(?:\.\d*)?(?:e-?\d+)?", printed.splitlines()[-1])])


def run_theirs(code):
    """Run the other library's code by itself, as it may set what holds for a whole process."""
    command = [sys.executable, "-W", "ignore", "-c", f"import numpy as np\nnp.set_printoptions(linewidth=200)\n{code}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return numbers_of(ran.stdout)


@pytest.mark.parametrize(("page", "ours", "theirs"), list(comparisons()))
def test_both_sides_end_in_the_same_numbers(page, ours, theirs):
    """What both print last: parameters and standard errors to three digits; the scores of networks to 0.03."""
    for package in packages(theirs):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    with warnings.catch_warnings(), redirect_stdout(StringIO()) as printed, np.printoptions(linewidth=200):
        warnings.simplefilter("error")
        exec("\n".join(example.source for example in ours), {})
    expected = run_theirs(theirs)
    assert len(expected)
    tolerance = {"atol": 0.03} if page in LEARNED else {"rtol": 1e-3, "atol": 2e-4}
    assert_allclose(numbers_of(printed.getvalue()), expected, **tolerance)


def test_every_page_compares():
    """But for the one whose code is cited, and the list of pages."""
    compared = {parameters.values[0] for parameters in comparisons()}
    assert compared == {page.stem for page in PAGES.glob("*.rst")} - CITED - {"index"}
