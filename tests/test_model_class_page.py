"""The class at the end of the guide's page "A model as a class" is ready for a package: scikit-learn accepts it."""

import doctest
import pickle
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from dispatch import run_generated
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from sk_analytic import AnalyticRegressor

# The checks fit for a moment on all kinds of data: whether an optimizer has come to its end is no matter there.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "model_class.rst"
NAME = "package_of_the_guide"


def package():
    """A module with the page's imports and classes, as a reader would put them into a file."""
    examples = doctest.DocTestParser().get_examples(PAGE.read_text(encoding="utf-8"))
    module = ModuleType(NAME)
    sys.modules[NAME] = module
    for example in examples:
        if example.source.startswith(("import ", "from ", "class ")):
            exec(compile(example.source, str(PAGE), "exec"), vars(module))
    return module


MODULE = package()


def with_checks(*estimators, **settings):
    """`parametrize_with_checks`, whose iterator pytest no longer takes."""
    mark = parametrize_with_checks(list(estimators), **settings)
    return pytest.mark.parametrize(mark.args[0], list(mark.args[1]), ids=mark.kwargs["ids"])


@with_checks(MODULE.RobustNetwork(), MODULE.RobustNetwork(n_hidden=4, alpha=0.0))
def test_scikit_learn_accepts_it(estimator, check):
    """As the page shows it."""
    run_generated(check, estimator)


def negative(estimator):
    return {"check_regressor_multioutput": "draws negative y whatever the tag positive_only says"}


@with_checks(AnalyticRegressor(loss="poisson"), expected_failed_checks=negative)
def test_scikit_learn_accepts_losses_of_positive_targets(estimator, check):
    """What the page says of them."""
    run_generated(check, estimator)


@pytest.mark.parametrize("name", ["TanhNetwork", "NormalMixture", "RobustNetwork"])
def test_its_classes_are_pickled_by_their_import_path(name):
    """No code is in the file."""
    item = getattr(MODULE, name)()
    assert pickle.loads(pickle.dumps(item)).get_params() == item.get_params()
    assert NAME.encode() in pickle.dumps(item)


def test_a_fit_is_pickled_and_cloned():
    """With what the subclass hides."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 2))
    y = rng.poisson(np.exp(X[:, 0]))
    fitted = MODULE.RobustNetwork(n_hidden=3, random_state=0).fit(X, y)
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))
    assert_array_equal(clone(fitted).fit(X, y).predict(X), fitted.predict(X))
    assert fitted.score(X, y) > 0.5
