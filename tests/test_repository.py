"""Files for those who cite, report, contribute and release: they say the same as the package."""

import re
import tomllib
from pathlib import Path

import pytest

import sk_analytic

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_citation_is_of_this_version():
    """With the license and the authors of the package."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([a-z-]+): (.+)$", citation, flags=re.MULTILINE))
    assert fields["version"] == sk_analytic.__version__
    assert fields["license"] == PROJECT["license"]
    assert re.findall(r"^  - name: (.+)$", citation, flags=re.MULTILINE) == [a["name"] for a in PROJECT["authors"]]


@pytest.mark.parametrize("page", ["README.md", "docs/install.rst", "RELEASING.md", "CONTRIBUTING.md"])
def test_extras_that_a_page_names_are_declared(page):
    """So that its commands work from a clone."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = {name for extras in re.findall(r"\"\.\[([\w,]+)\]\"", text) for name in extras.split(",")}
    assert named <= PROJECT["optional-dependencies"].keys()
    assert "sk-analytic[" not in text  # it is not on PyPI


def test_scripts_that_the_checklist_names_exist():
    """Every script and file of a release is in the repository."""
    text = (ROOT / "RELEASING.md").read_text(encoding="utf-8")
    named = re.findall(r"(?:scripts|docs)/[\w./]+\w", text)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
