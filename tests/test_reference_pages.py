"""What the pages of the API reference show: members, pages of the guide, one page for each name, citations."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"

pytest.importorskip("numpydoc")
pytest.importorskip("sphinx")
pytest.importorskip("optax")  # the pages about torch and jax are drawn from these modules
pytest.importorskip("torch")


@pytest.fixture(scope="module")
def extensions():
    """The modules that draw the reference, by name."""
    sys.path.insert(0, str(DOCS / "_extensions"))
    yield {name: import_module(name) for name in ("tables", "members", "reference")}
    sys.path.remove(str(DOCS / "_extensions"))


SHOWN = {
    "AnalyticRegressor": "fit partial_fit fit_chunks predict score mean_loss get_params set_params gradient_",
    "Finding": "",
    "optimizers.AdamW": "init update eval_params set_params",
    "optimizers.Adam": "init update eval_params set_params",
    "optimizers.LBFGS": "minimize",
    "optimizers.Link": "coefficients scales",
    "optimizers.Cosine": "at",
    "losses.Huber": "value derivative value_and_derivative inverse_link best_constant check_domain",
    "maps.Simplex": "constrain unconstrain pullback",
    "callbacks.Checkpoint": "",
    "plotting.LossCurveDisplay": "from_estimator plot",
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_page_shows_what_a_user_calls(extensions, name):
    """In the order of use, without what only the package calls."""
    assert extensions["members"].members()[f"sk_analytic.{name}"] == SHOWN[name].split()


def test_lists_of_members_name_what_exists(extensions):
    """Each base class has what is listed for it, and each name of the other lists is in one of its subclasses."""
    members = extensions["members"]
    for cls, names in members.OF_BASES.items():
        assert [name for name in names if not hasattr(cls, name)] in ([], ["formula"]), cls
    classes = dict(members.classes()).values()
    for base, names in members.OF_SUBCLASSES.items():
        for name in names:
            assert any(hasattr(cls, name) for cls in classes if issubclass(cls, base)), (base, name)


def test_no_attribute_is_documented_twice(extensions):
    """In the list of attributes and as a member."""
    members = extensions["members"]
    for name, cls in members.classes():
        assert set(members.members_of(cls)) & set(members.attributes_of(cls)) == set(), name


def test_every_page_links_to_an_existing_page_of_the_guide(extensions):
    """And no entry of the table is for a name or a group that does not exist."""
    members, tables = extensions["members"], extensions["tables"]
    for name, page in members.guides().items():
        assert (DOCS / f"{page}.rst").is_file(), name
    groups = [(module, group) for module in tables.public_modules() for group in tables.groups_of(module)]
    known = {word for module, (title, names) in groups for word in (module, title, *names)}
    assert members.GUIDE.keys() <= known


def test_every_name_has_one_page(extensions):
    """What two modules offer has the page of the first; what has no page is on the page of the reference."""
    tables = extensions["tables"]
    assert tables.aliases()["sk_analytic.losses.get_loss"] == "sk_analytic.get_loss"
    shown = {name: [] for name in ("own", "others")}
    for module in tables.public_modules():
        for _, own, others in tables.pages_of(module):
            shown["own"] += [f"{module}.{name}" for name in own]
            shown["others"] += others
    assert len(shown["own"]) == len(set(shown["own"]))
    assert set(shown["others"]) <= {*shown["own"], *tables.DATA}
    described = re.findall(r"^\.\. py:data:: (\S+)$", (DOCS / "api.rst").read_text("utf-8"), flags=re.MULTILINE)
    assert sorted(described) == sorted(tables.DATA)


def test_every_name_has_a_group(extensions):
    """With a title that says what it is."""
    tables = extensions["tables"]
    for module in tables.public_modules():
        assert tables.OTHERS not in dict(tables.groups_of(module)), module
        assert module in tables.TITLES


def test_citations_are_numbered_and_no_enumerations(extensions):
    """An initial would begin a list, whose number the page shows in place of the author."""
    lines = ["Adam [Kingma2015]_.", "", ".. [Kingma2015] D. Kingma and J. Ba, ICLR 2015."]
    extensions["reference"].number_citations(None, "class", "Adam", None, None, lines)
    assert lines == ["Adam [1]_.", "", r".. [1] \D. Kingma and J. Ba, ICLR 2015."]
