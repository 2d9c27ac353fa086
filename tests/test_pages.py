"""The sources of the documentation's pages: what a reader would miss, and a build would not report."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
WRITTEN_BY_A_BUILD = {"auto_examples", "generated", "_build"}
PAGES = sorted(
    path.relative_to(DOCS).as_posix()
    for path in DOCS.rglob("*.rst")
    if not WRITTEN_BY_A_BUILD & set(path.relative_to(DOCS).parts)
)
FIGURE = re.compile(r"^( *)\.\. (?:plot|image|figure)::.*\n((?:\1   .*\S.*\n)*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_has_an_alternative_text(page):
    """Without one, Sphinx takes the name of the file."""
    text = (DOCS / page).read_text(encoding="utf-8")
    missing = [figure[0] for figure in FIGURE.finditer(text) if ":alt:" not in figure[2]]
    assert missing == []
