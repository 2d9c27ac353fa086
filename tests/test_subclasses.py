"""A subclass with an ``__init__`` of its own is an estimator of its own parameters; the base's follow from them."""

import copy
import inspect
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from models import logistic_forward, logistic_init, logistic_vjp, network_forward, network_init, network_vjp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import BaggingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from subclasses import Balanced, Codes, Counts, Doing, LoggedNetwork, LogisticDensity, Network, Wide

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, GradientCheckError
from sk_analytic.callback_support import CallbackSupportMixin, member_of
from sk_analytic.callbacks import Checkpoint
from sk_analytic.plotting import OptimizerPathDisplay
from sk_analytic.search import find_learning_rate

# Fits of a few epochs are enough here.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

needs_callbacks = pytest.mark.skipif(CallbackSupportMixin is None, reason="needs callbacks")

X = np.random.default_rng(0).normal(size=(80, 3))
Y = np.abs(X[:, 0] + np.sin(2 * X[:, 1]))
CLASSES = np.where(Y > 1.2, "high", "low")
Y_OF = {LogisticDensity: None, Codes: None, Balanced: CLASSES}
SUBCLASSES = [Network, LogisticDensity, Wide, Doing, LoggedNetwork, Balanced, Counts, Codes]

# Class, a parameter of its own with a new value, and what follows from that.
FOLLOWING = [
    (Network, {"n_hidden": 2}, {"model_params": {"n_hidden": 2}}),
    (Network, {"penalty": 0.5}, {"alpha": 0.5}),
    (LogisticDensity, {"smallest": 0.5}, {}),
    (Wide, {"width": 3}, {"n_hidden": 30, "model_params": {"n_hidden": 30}}),
    (Doing, {"n_hidden": 2}, {"model_params": {"n_hidden": 2}}),
    (LoggedNetwork, {"pace": 4}, {"log_every": 40}),
    (LoggedNetwork, {"n_hidden": 4}, {"model_params": {"n_hidden": 4}}),
    (Balanced, {"balanced": False}, {"class_weight": None}),
    (Codes, {"n_components": 1}, {"model_params": {"n_components": 1}}),
]


def fitted(cls, **settings):
    return cls(**settings).fit(X, Y_OF.get(cls, Y))


def output(model, X=X):
    """What an estimator makes of rows, whatever its task."""
    for method in ("score_samples", "transform", "predict_proba"):
        if hasattr(model, method):
            return getattr(model, method)(X)
    return model.predict(X)


@pytest.mark.parametrize("cls", SUBCLASSES)
def test_parameters_are_those_of_the_signature(cls):
    """`get_params`, `clone`, the signature and `repr` know the parameters of the class, and no others."""
    names = [*inspect.signature(cls.__init__).parameters][1:]
    model = cls()
    assert sorted(model.get_params(deep=False)) == sorted(names)
    assert [*inspect.signature(cls).parameters] == names
    assert clone(model).get_params() == model.get_params()
    assert repr(model) == f"{cls.__name__}()"


@pytest.mark.parametrize(("cls", "settings", "base", "base_settings"), [
    (
        Network,
        {"n_hidden": 3, "penalty": 0.2},
        AnalyticRegressor,
        {"forward": network_forward, "init": network_init, "vjp": network_vjp, "model_params": {"n_hidden": 3}}
        | {"alpha": 0.2, "optimizer": "lbfgs", "max_iter": 300},
    ),
    (
        LogisticDensity,
        {"smallest": 0.1, "optimizer": "sgd", "max_iter": 20},
        AnalyticDensity,
        {"forward": logistic_forward, "init": logistic_init, "vjp": logistic_vjp}
        | {"model_params": {"smallest": 0.1}, "optimizer": "sgd", "max_iter": 20},
    ),
    (Counts, {}, AnalyticRegressor, {"loss": "poisson", "max_iter": 50}),
])  # fmt: skip
def test_it_is_its_base_with_the_parameters_that_it_passes_on(cls, settings, base, base_settings):
    """To the bit, also if it is cloned or set before."""
    expected = base(**base_settings, random_state=0).fit(X, Y_OF.get(cls, Y))
    model = cls(**settings, random_state=0)
    for same in (model, clone(model), cls().set_params(**settings, random_state=0)):
        assert_array_equal(output(same.fit(X, Y_OF.get(cls, Y))), output(expected))


@pytest.mark.parametrize(("cls", "own", "hidden"), FOLLOWING)
@pytest.mark.parametrize("way", ["set_params", "attribute"])
def test_what_it_hides_follows_from_what_is_set(cls, own, hidden, way):
    """By `set_params`, and by assignment; all is then as if it had been made so, but that it is still fitted."""
    model = fitted(cls)
    before = output(model)
    if way == "set_params":
        assert model.set_params(**own) is model
    else:
        for name, value in own.items():
            setattr(model, name, value)
    assert {name: getattr(model, name) for name in hidden} == hidden
    made = cls(**own)
    assert model.get_params() == made.get_params()
    assert_array_equal(output(model), before)
    for each in (model, made):
        each.random_state = 0
        each.fit(X, Y_OF.get(cls, Y))
    assert_array_equal(output(model), output(made))


def test_a_grid_over_a_parameter_of_its_own_is_that_over_the_base():
    """In this process and in others, and inside a pipeline, the same scores as by ``model_params__n_hidden``."""
    values = [1, 6]
    base = AnalyticRegressor(
        network_forward, init=network_init, vjp=network_vjp, alpha=0.1, optimizer="lbfgs", max_iter=300, random_state=0
    )
    expected = GridSearchCV(base, {"model_params__n_hidden": values}, cv=3).fit(X, Y).cv_results_["mean_test_score"]
    assert expected[0] != expected[1]

    class Local(Network):  # which cloudpickle takes along
        pass

    for cls, n_jobs in ((Network, 1), (Network, 2), (Local, 2)):
        search = GridSearchCV(cls(random_state=0), {"n_hidden": values}, cv=3, n_jobs=n_jobs).fit(X, Y)
        assert_array_equal(search.cv_results_["mean_test_score"], expected)
        assert search.best_estimator_.params_[0].shape == (3, search.best_params_["n_hidden"])
    pipeline = make_pipeline(StandardScaler(), Network(random_state=0))
    search = GridSearchCV(pipeline, {"network__n_hidden": values}, cv=3).fit(X, Y)
    assert len(set(search.cv_results_["mean_test_score"])) == 2


def test_parameters_behind_a_name_that_it_takes_can_be_searched():
    """``optimizer__learning_rate`` exists where the class takes ``optimizer``, and there only."""
    model = LogisticDensity(max_iter=3)
    assert model.get_params()["optimizer__learning_rate"] == 0.01
    search = GridSearchCV(model, {"optimizer__learning_rate": [1e-6, 0.1], "smallest": [0.01, 1.0]}, cv=2).fit(X)
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    assert model.set_params(optimizer="sgd", optimizer__momentum=0.5, smallest=0.2).optimizer.momentum == 0.5
    assert model.model.smallest == 0.2
    assert not [name for name in Network().get_params() if "__" in name]


def test_a_pickle_is_loaded_in_a_new_process(tmp_path):
    """By the path of its module; there it predicts the same, and its parameters can still be set."""
    models = [fitted(cls) for cls in (Network, LogisticDensity, Wide, Balanced)]
    (tmp_path / "models.pkl").write_bytes(pickle.dumps((models, X)))
    script = """
import pickle
import numpy as np
models, X = pickle.load(open("models.pkl", "rb"))
for model in models:
    own = model.get_params(deep=False)
    method = next(m for m in ("score_samples", "predict_proba", "predict") if hasattr(model, m))
    np.save(f"{type(model).__name__}.npy", getattr(model.set_params(**own), method)(X))
    print(sorted(own))
"""
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{script}"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [str(sorted(model.get_params(deep=False))) for model in models]
    for model in models:
        assert_array_equal(np.load(tmp_path / f"{type(model).__name__}.npy"), output(model))


def test_skops_saves_it():
    """A class that is found by its path, with functions that are."""
    io = pytest.importorskip("skops.io")
    model = fitted(Network, n_hidden=2)
    saved = io.dumps(model)
    loaded = io.loads(saved, trusted=io.get_untrusted_types(data=saved))
    assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.get_params() == model.get_params()


@pytest.mark.parametrize("way", ["set_params", "attribute"])
def test_nothing_has_changed_if_the_constructor_raises(way):
    """Neither parameters nor what was fitted; two that only go together are set together."""
    model = fitted(Codes, random_state=0)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="too many components"):
        model.set_params(n_components=9) if way == "set_params" else setattr(model, "n_components", 9)
    assert vars(model) == before
    model.set_params(n_components=9, n_at_most=9)
    assert model.model_params == {"n_components": 9}


def test_the_constructor_is_called_once_for_many_parameters():
    """And not at all where nothing is hidden, or nothing is set."""
    calls = []

    class Counted(Network):
        def __init__(self, n_hidden=5, penalty=0.1):
            super().__init__(n_hidden, penalty)
            calls.append(n_hidden)

    class Whole(AnalyticRegressor):
        def __init__(self, **settings):
            super().__init__(**settings)
            calls.append("whole")

        __init__.__signature__ = inspect.signature(AnalyticRegressor.__init__)

    model = Counted()
    model.set_params()
    model.n_hidden = model.n_hidden
    assert calls == [5]
    model.set_params(n_hidden=7, penalty=1.0)
    assert calls == [5, 7]
    calls.clear()
    plain = Whole()
    plain.set_params(max_iter=3, alpha=1.0).tol = 0.5
    assert calls == ["whole"]


def test_a_hidden_parameter_can_be_assigned():
    """By a `fit` of its own that knows more then, and lasts until a parameter of the class is set."""

    class OneForEachFeature(Network):
        def __init__(self, penalty=0.1):
            super().__init__(penalty=penalty, random_state=0)

        def fit(self, X, y):
            self.model_params = {"n_hidden": X.shape[1]}
            return super().fit(X, y)

    model = OneForEachFeature().fit(X, Y)
    assert model.params_[0].shape == (3, 3)
    model.max_iter = 1
    assert model.fit(X, Y).n_iter_ == 1
    assert model.set_params(penalty=0.2).max_iter == 300
    assert model.fit(X[:, :2], Y).params_[0].shape == (2, 2)


def test_a_dataclass_is_a_subclass_too():
    """Its constructor is generated; the base is called afterwards."""

    @dataclass(eq=False, repr=False)
    class Data(AnalyticRegressor):
        degree: int = 2

        def __post_init__(self):
            super().__init__(alpha=self.degree / 10, optimizer="lbfgs")

    model = clone(Data(3))
    assert model.get_params() == {"degree": 3}
    assert model.set_params(degree=5).alpha == 0.5
    assert repr(model.fit(X, Y)) == "Data(degree=5)"


def test_a_subclass_without_a_constructor_has_all_parameters_of_its_base():
    """Those of `Network`, and of an estimator; its own `fit` and `predict` are called by searches."""

    class Plain(AnalyticRegressor):
        pass

    assert Plain(max_iter=3).get_params() == AnalyticRegressor(max_iter=3).get_params()
    search = GridSearchCV(Doing(random_state=0, penalty=0.001), {"n_hidden": [1, 6]}, cv=3).fit(X, Y - 1)
    assert search.best_estimator_.n_rows_ == len(X)
    assert search.predict(X).min() == 0
    bagged = BaggingRegressor(Doing(), n_estimators=2, random_state=0).fit(X, Y)
    assert all(model.n_rows_ == len(X) for model in bagged.estimators_)


# Callables that are methods of the estimator.


def test_methods_are_callables_that_read_the_parameters():
    """A grid over what they read has effect, and every copy has methods of its own."""
    by_hand = AnalyticClassifier(optimizer="lbfgs", alpha=0.01, class_weight="balanced").fit(3.0 * X, CLASSES)
    assert_allclose(fitted(Balanced, scale=3.0).predict_proba(X), by_hand.predict_proba(3.0 * X), rtol=0.01)
    search = GridSearchCV(Balanced(), {"scale": [1e-3, 1.0]}, scoring="neg_log_loss", cv=2).fit(X, CLASSES)
    assert len(set(search.cv_results_["mean_test_score"])) == 2
    model = fitted(Balanced)
    twins = [copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model)), clone(model)]
    assert all(each.forward.__self__ is each for each in [model, *twins, model.set_params(scale=2.0)])


def test_a_fitted_model_predicts_by_the_parameters_of_its_fit():
    """What is set later is for the next fit, as it is where callables are functions; copies are independent."""
    model = fitted(Balanced)
    twin, before = copy.copy(model), output(model)
    model.scale = 100.0
    assert_array_equal(output(model), before)
    assert_array_equal(output(twin), before)
    assert not np.allclose(output(model.fit(X, CLASSES)), before)
    assert_array_equal(output(twin), before)


def test_training_goes_on_with_a_subclass():
    """`warm_start` that it sets, `partial_fit` where its optimizer has one, early stopping."""

    class Warm(Network):
        def __init__(self, max_iter=2):
            super().__init__(n_hidden=3, random_state=0)
            self.max_iter, self.warm_start, self.optimizer = max_iter, True, "adam"

    twice, once = Warm(2).fit(X, Y).fit(X, Y), Warm(4).fit(X, Y)
    assert twice.n_iter_ == once.n_iter_ == 4
    assert_array_equal(twice.predict(X), once.predict(X))
    twice.set_params(max_iter=1).fit(X, Y)
    assert twice.n_iter_ == 5
    density = LogisticDensity(random_state=0).partial_fit(X).set_params(smallest=0.02).partial_fit(X)
    assert density.n_iter_ == 2
    assert not hasattr(Network(), "partial_fit")


# Messages.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Network(n_hiden=3), "Network has no parameter 'n_hiden'. Did you mean 'n_hidden'. It has: n_hidden, "),
        (lambda: Network(max_iter=3), "'max_iter'. Network sets max_iter itself: its __init__ passes it to super"),
        (lambda: Network(epochs=3), "'epochs'. Network sets max_iter itself"),
        (lambda: Network(learning_rate=3), "'learning_rate'. Network sets optimizer itself.* It has: [a-z_, ]+.$"),
        (lambda: LogisticDensity(learning_rate=3), r"LogisticDensity\(\).set_params\(optimizer__learning_rate=...\)"),
        (lambda: Network().set_params(max_iter=3), "no parameter 'max_iter'. Network sets max_iter itself"),
        (lambda: Network().set_params(model_params__n_hidden=3), "'model_params'. Network sets model_params itself"),
        (lambda: Network().set_params(n_hidden__size=3), "n_hidden=5 has no parameters of its own"),
    ],
)
def test_an_unknown_parameter(call, message):
    """The message has the class's own parameters, and says of one of its base that the class sets it."""
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_advice_that_the_user_cannot_follow_is_for_the_author():
    """Errors and warnings that name a hidden parameter say where it is set."""

    class Hasty(AnalyticRegressor):
        def __init__(self, alpha=0.0):
            super().__init__(max_iter=2, alpha=alpha, scoring="no such")
            self.scoring = None

    class Wrong(Hasty):
        def __init__(self):
            super().__init__()
            self.batch_size = -1

    with pytest.warns(ConvergenceWarning, match="Hasty sets max_iter and .*tol itself: its __init__ passes them to"):
        Hasty().fit(X, Y)
    with pytest.raises(ValueError, match="batch_size must be") as caught:
        Wrong().fit(X, Y)
    assert caught.value.__notes__ == ["Wrong sets batch_size itself: its __init__ passes it to super().__init__."]
    with pytest.raises(AttributeError) as caught:
        Network().partial_fit(X, Y)
    assert "Network sets optimizer itself" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match="Input X contains NaN") as caught:
        Network().fit(np.full_like(X, np.nan), Y)
    assert "itself" not in "".join(caught.value.__notes__)


def test_a_constructor_that_does_not_call_its_base_is_named():
    """In the words of the remedy."""

    class Forgetful(AnalyticRegressor):
        def __init__(self, degree=2):
            self.degree = degree

    with pytest.raises(TypeError, match=r"Forgetful.__init__ must call super\(\).__init__"):
        Forgetful().fit(X, Y)


def test_parameters_without_names_are_refused():
    """``**`` when something arrives in it, which `clone` would lose; ``*`` always, as scikit-learn has it."""

    class Open(AnalyticRegressor):
        def __init__(self, degree=2, **settings):
            super().__init__(**settings)
            self.degree = degree

    class Sequence(AnalyticRegressor):
        def __init__(self, *degrees):
            super().__init__()

    assert repr(Open(3)) == "Open(degree=3)"
    with pytest.raises(
        TypeError, match=r"Open receives 'max_iter' through \*\*kwargs .* __init__\(self, ..., max_iter=...\)"
    ):
        Open(max_iter=3)
    with pytest.raises(RuntimeError, match="varargs"):
        Sequence(1)


def test_a_wrong_gradient_names_the_default_loss_of_the_class():
    """That of the nearest constructor which has one; a loss that the class sets is no default."""

    def forward(params, X):
        return X @ params["coef"] + params["intercept"]

    def wrong(params, X, y):  # that of a loss without a name
        slope = np.arctan(3 * (forward(params, X) - y)) / len(y)
        return {"coef": X.T @ slope, "intercept": slope.sum()}

    init = {"coef": np.zeros(3), "intercept": 0.0}

    class Default(AnalyticRegressor):
        def __init__(self, loss="poisson"):
            super().__init__(forward, wrong, init, loss=loss)

    class Hidden(AnalyticRegressor):
        def __init__(self):
            super().__init__(forward, wrong, init)

    class Chosen(AnalyticRegressor):
        def __init__(self):
            super().__init__(forward, wrong, init, loss="poisson")

    for cls, loss in ((Default, "poisson"), (Hidden, "squared_error")):
        with pytest.raises(GradientCheckError, match=f"against the default loss='{loss}'"):
            cls().fit(X, Y)
    with pytest.raises(GradientCheckError) as caught:
        Chosen().fit(X, Y)
    assert "against the default" not in str(caught.value)


# Around a fit.


def test_the_diagram_shows_its_own_parameters():
    """A table of them; the optimizer beside it only where the class takes one."""
    hiding, taking = Network(n_hidden=3)._repr_html_(), LogisticDensity(smallest=0.2)._repr_html_()
    assert "n_hidden" in hiding
    assert "max_iter" not in hiding
    assert "optimizer" not in hiding.partition("sk-container")[2]
    assert "optimizer: Adam" in taking
    assert "Network(n_hidden=3)" in make_pipeline(StandardScaler(), Network(n_hidden=3))._repr_html_()


def test_tools_around_a_fit_take_it():
    """`find_learning_rate` and the path of the optimizer, which fit copies."""
    model = LogisticDensity(random_state=0, max_iter=5)
    sweep = find_learning_rate(model, X)
    assert model.set_params(**sweep.params).optimizer.learning_rate == sweep.suggested
    pytest.importorskip("matplotlib").use("agg")
    display = OptimizerPathDisplay.from_estimator(Network(n_hidden=2), X, Y, params=["0[0, 0]", "0[0, 1]"])
    assert len(display.path) > 1


@needs_callbacks
@pytest.mark.parametrize("cls", [Network, LogisticDensity, Balanced])
def test_a_checkpoint_resumes_it_if_nothing_has_changed(cls, tmp_path):
    """Neither its own parameters nor those that it hides."""
    path, y = tmp_path / "fit.pkl", Y_OF.get(cls, Y)
    seed = {} if cls is Balanced else {"random_state": 0}

    def resuming(**settings):
        return cls(**seed, **settings).set_callbacks(Checkpoint(path, resume=True))

    first = resuming().fit(X, y)
    assert_array_equal(output(resuming().fit(X, y)), output(first))
    own = {Network: "n_hidden", LogisticDensity: "smallest", Balanced: "scale"}[cls]
    with pytest.raises(ValueError, match=f"contains a fit with {own}="):
        resuming(**{own: 7}).fit(X, y)
    other = resuming()
    other.alpha = 0.3
    with pytest.raises(ValueError, match=r"contains a fit with alpha=.*, but now alpha=0.3"):
        other.fit(X, y)


@needs_callbacks
def test_a_checkpoint_notices_at_once_that_hidden_callables_cannot_be_written(tmp_path):
    """Before the first epoch."""

    class Unwritable(Network):
        def __init__(self):
            super().__init__()
            self.forward = lambda params, X: network_forward(params, X) + 0

    with pytest.raises((pickle.PicklingError, AttributeError)) as caught:
        Unwritable().set_callbacks(Checkpoint(tmp_path / "fit.pkl")).fit(X, Y)
    assert "tested whether it can write" in caught.value.__notes__[0]


def test_fits_of_two_classes_with_the_same_parameters_have_two_names():
    """Under which their checkpoints are told apart where scikit-learn does not number them."""
    names = {member_of(cls(), {}, 0) for cls in (Network, Doing)} | {member_of(Network(n_hidden=1), {}, 0)}
    assert len(names) == 3


def test_setting_parameters_leaves_no_other_attribute():
    """An estimator whose parameters were set is as one that was made with them."""
    assert vars(Network().set_params(n_hidden=2)) == vars(Network(n_hidden=2))
