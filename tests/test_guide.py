"""The pages of the user guide: examples print what a reader learns from, whole, and link to the gallery."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "guide").glob("*.rst"))
# Pages whose subject is what the library says: messages and reports are quoted whole.
QUOTING = ["constraints", "errors", "gradient", "inference", "is_my_gradient_right", "loss_and_gradient", "vjp"]
# The ellipses of the messages themselves.
SAID = ["Chain([ClipNorm(1.0), ...])"]
# The page shows that too few epochs are not enough.
TOO_SHORT = {"scaling"}


def shown(page):
    """The examples of a page that a reader sees: those in a comment are indented."""
    examples = doctest.DocTestParser().get_examples(page.read_text(encoding="utf-8"))
    return [example for example in examples if example.indent == 0]


@pytest.mark.parametrize("name", QUOTING)
def test_what_is_printed_is_quoted_whole(name):
    """An ellipsis hides what the page is about; only the lines of a traceback are left out."""
    cut = []
    for example in shown(ROOT / "docs" / "guide" / f"{name}.rst"):
        printed = example.exc_msg or example.want
        for said in SAID:
            printed = printed.replace(said, "")
        cut += [printed] if "..." in printed else []
    assert cut == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_do_not_silence_warnings(page):
    """A reader copies what is shown."""
    silent = [example.source for example in shown(page) if "simplefilter" in example.source]
    assert silent == [] or page.stem in TOO_SHORT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_to_the_gallery_lead_somewhere(page):
    """To an example, whether or not the gallery is built."""
    linked = re.findall(r":doc:`[^`]*?/?auto_examples/(plot_\w+)>?`", page.read_text(encoding="utf-8"))
    assert [name for name in linked if not (ROOT / "examples" / f"{name}.py").is_file()] == []
