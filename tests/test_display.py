"""How estimators and optimizers are shown: one line of text, and the diagram of a notebook."""

import functools
import html
import inspect
import re
from typing import NamedTuple

import numpy as np
import pytest
import sklearn
from models import linear_forward, linear_vjp
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

import sk_analytic
from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    get_loss,
    get_loss_names,
    get_optimizer,
    get_optimizer_names,
)
from sk_analytic.display import DOCUMENTATION, LINE
from sk_analytic.losses import Huber
from sk_analytic.optimizers import SGD, Adam, Chain, ClipNorm, Cosine, Joined, PerBlock, Phases, ReduceOnPlateau

ESTIMATORS = [AnalyticRegressor, AnalyticClassifier, AnalyticDensity, AnalyticTransformer]
CHAIN = Chain([ClipNorm(1.0), PerBlock({"W": Adam(Cosine(0.1, length=30))}, default=SGD(ReduceOnPlateau(0.1)))])
HAS_TABLES = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 7)
HAS_LINKS = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8)


class Line(NamedTuple):
    slope: float
    offset: np.ndarray


class Network:
    def __call__(self, params, X):
        return X

    def predict(self, params, X):
        return X

    @classmethod
    def make(cls, n_features):
        return 0.0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"forward": linear_forward, "vjp": linear_vjp}, "forward=linear_forward, vjp=linear_vjp"),
        ({"forward": lambda params, X: X}, "forward=<lambda>"),
        ({"vjp": functools.partial(linear_vjp, X=2)}, "vjp=partial(linear_vjp, X=2)"),
        ({"forward": Network().predict, "init": Network.make}, "forward=Network.predict, init=Network.make"),
        ({"forward": Network()}, "forward=<test_display.Network object>"),
        ({"init": {"W": np.zeros((20, 3)), "b": 0.5}}, "init={'W': <array (20, 3)>, 'b': 0.5}"),
        ({"init": np.array([0.5, 1.0])}, "init=array([0.5, 1. ])"),
        ({"init": Line(1.0, np.zeros(50))}, "init=Line(slope=1.0, offset=<array (50,)>)"),
        ({"init": (1.0,), "fixed": ["a"]}, "init=(1.0,), fixed=['a']"),
        ({"model_params": {"activation": np.tanh, "size": max}}, "model_params={'activation': tanh, 'size': max}"),
        ({"loss": Huber(2.0), "optimizer": Adam(0.5)}, "loss=Huber(epsilon=2.0), optimizer=Adam(learning_rate=0.5)"),
        ({"loss": "huber", "optimizer": Adam()}, "loss='huber', optimizer=Adam()"),
        ({"alpha": 0, "tol": 1e-4}, "alpha=0"),
        ({"random_state": np.random.RandomState(0)}, "random_state=RandomState(MT19937)"),
    ],
    ids=lambda value: value.partition("=")[0] if isinstance(value, str) else "",
)
def test_functions_are_shown_by_name_and_arrays_by_shape(settings, expected):
    """What differs from the defaults, in the order of the parameters, and no address."""
    assert repr(AnalyticRegressor(**settings)) == f"AnalyticRegressor({expected})"


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_everything_at_once_still_fits_a_line(cls):
    """Long values are cut, and at last the end; what comes first is still there."""
    long = {name: np.arange(3.0) + 0.123456789 for name in ("coef", "intercept", "scale")}
    estimator = cls(linear_forward, vjp=linear_vjp, init=long, model_params={"a": "b" * 500}, optimizer=CHAIN)
    shown = repr(estimator.set_params(max_iter=123, tol=0.25, batch_size=32, random_state=1, verbose=1))
    assert len(shown) <= LINE
    assert "\n" not in shown
    assert shown.startswith(f"{cls.__name__}(forward=linear_forward, init={{'coef': arr")
    assert shown.endswith(", ...)")
    assert repr(cls(linear_forward, vjp=linear_vjp, init=long)).endswith("..., vjp=linear_vjp)")


def test_all_parameters_are_shown_where_scikit_learn_is_asked_to():
    """Over several lines, functions still by name."""
    with sklearn.config_context(print_changed_only=False):
        shown = repr(AnalyticRegressor(linear_forward))
        assert repr(Huber()) == "Huber(epsilon=1.35)"
    assert all(f"{name}=" in shown for name in AnalyticRegressor().get_params(deep=False))
    assert "forward=linear_forward," in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_what_stands_inside_itself_can_be_shown():
    """However strange."""
    params = {}
    params["again"] = params
    assert repr(AnalyticRegressor(model_params=params)).count("again") > 2


@pytest.mark.parametrize("name", [*get_optimizer_names(), *get_loss_names()])
def test_objects_behind_names_show_their_class(name):
    """With nothing set there is nothing in the brackets."""
    item = get_optimizer(name) if name in get_optimizer_names() else get_loss(name)
    assert repr(item) == f"{type(item).__name__}()"


# ---- the diagram ----


def labels(shown):
    """What the boxes of a diagram are called, in their order."""
    shown = re.sub(
        r"(?s)<style.*?</style>|<script.*?</script>|<div class=\"sk-text-repr-fallback\">.*?</pre>", "", shown
    )
    found = re.findall(r'(?s)<label[^>]*class="sk-toggleable__label[^>]*>(.*?)</label>', shown)
    texts = (re.sub(r"(?s)<a .*?</a>|<span.*?</span>|<[^>]*>", " ", text) for text in found)
    return [" ".join(html.unescape(text).split()) for text in texts]


@pytest.mark.parametrize(
    ("optimizer", "nested"),
    [
        ("adam", ["optimizer: Adam", "Adam"]),
        (SGD(0.5), ["optimizer: SGD", "SGD"]),
        ("lbfgs", ["optimizer: LBFGS", "LBFGS"]),
        (
            CHAIN,
            ["optimizer: Chain", "ClipNorm", "perblock", "W: Adam", "Adam", "default: SGD", "SGD"],
        ),
        (
            Phases([("adam", 5), ("lbfgs", 7)]),
            ["optimizer: Phases", "adam: at most 5", "Adam", "lbfgs: at most 7", "LBFGS"],
        ),
    ],
    ids=["name", "object", "full batch", "chain", "phases"],
)
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_the_optimizer_stands_inside_its_estimator(cls, optimizer, nested):
    """Under its name in the parameters, its parts inside of it; also in a search over a pipeline."""
    estimator = cls(optimizer=optimizer)
    assert labels(estimator_html_repr(estimator)) == [cls.__name__, *nested]
    shown = labels(estimator_html_repr(GridSearchCV(make_pipeline(StandardScaler(), estimator), {})))
    assert shown[-len(nested) :] == nested
    assert f"{cls.__name__}" in " ".join(shown)


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fitted_estimator_is_drawn(cls):
    """With its fitted attributes, where scikit-learn lists them."""
    X = np.random.default_rng(0).normal(size=(30, 3))
    fitted = cls(optimizer="adam", max_iter=2, random_state=0).fit(X, (X[:, 0] > 0).astype(int))
    assert labels(fitted._repr_html_()) == [cls.__name__, "optimizer: Adam", "Adam"]


@pytest.mark.skipif(not HAS_TABLES, reason="scikit-learn draws tables of parameters from 1.7 on")
def test_only_what_was_set_is_marked_as_set():
    """Neither the defaults behind a name, nor what a part of a part has by default."""
    shown = estimator_html_repr(AnalyticRegressor(optimizer=CHAIN, max_iter=7))
    rows = re.findall(r'(?s)<tr class="user-set">.*?<td class="param">(.*?)</td>', shown)
    texts = [re.sub(r"(?s)<span.*?</span>|<[^>]*>", " ", row).split()[0] for row in rows]
    assert texts == ["optimizer", "max_iter", "blocks", "default", "learning_rate", "learning_rate"]
    assert 'class="user-set"' not in estimator_html_repr(AnalyticRegressor())


def documented(item):
    """Whether the reference has a page of an object's class: it is among the names that it is drawn from."""
    module, _, name = (
        item._get_doc_link().removeprefix(f"{DOCUMENTATION}/generated/").removesuffix(".html").rpartition(".")
    )
    return name in {"sk_analytic": sk_analytic, **PUBLIC}[module].__all__


PUBLIC = {"sk_analytic.losses": sk_analytic.losses, "sk_analytic.optimizers": sk_analytic.optimizers}


@pytest.mark.parametrize(
    "item",
    [
        *(cls() for cls in ESTIMATORS),
        *map(get_optimizer, get_optimizer_names()),
        *map(get_loss, get_loss_names()),
        CHAIN,
    ]
    + [Cosine(0.1, length=3), Joined([0.1, 0.2], [3]), Phases([("adam", 1)])],
    ids=lambda item: type(item).__name__,
)
def test_diagrams_link_to_our_pages(item):
    """To that of the class, under the path by which it is imported."""
    assert documented(item)
    assert item._get_doc_link().endswith(f".{type(item).__name__}.html")


class OwnRegressor(AnalyticRegressor):
    """Somebody's own, which has no page here."""


def test_a_class_of_the_users_has_no_page_here():
    """Nothing is linked that does not exist."""
    assert OwnRegressor()._get_doc_link() == ""


DOCUMENTED = [
    value
    for module in (sk_analytic, *PUBLIC.values())
    for value in (getattr(module, name) for name in module.__all__)
    if isinstance(value, type) and "Parameters\n" in (value.__doc__ or "") and hasattr(value, "get_params")
]


@pytest.mark.parametrize("cls", DOCUMENTED)
def test_every_parameter_has_an_entry_to_be_linked_to(cls):
    """One of its own: scikit-learn finds no link for one of several in a line."""
    for name in inspect.signature(cls).parameters:
        assert re.search(f"^ *{name} : .+\n", cls.__doc__, flags=re.MULTILINE), name


@pytest.mark.skipif(not HAS_LINKS, reason="scikit-learn links single parameters from 1.8 on")
def test_parameters_link_to_where_they_are_described():
    """And show what is said of them."""
    shown = estimator_html_repr(AnalyticRegressor(optimizer="adam"))
    assert f'href="{DOCUMENTATION}/generated/sk_analytic.AnalyticRegressor.html#:~:text=max_iter,-int' in shown
    assert f'href="{DOCUMENTATION}/generated/sk_analytic.optimizers.Adam.html#:~:text=beta_1,-float' in shown
    assert "Strength of the L2 penalty" in shown
