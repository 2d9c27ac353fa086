"""What must hold around a fit: weights that are mostly zero, failed refits, predictions, notes, structure."""

import ast
import pathlib
import warnings

import numpy as np
import pytest

import sk_analytic
from sk_analytic import (
    AnalyticClassifier,
    AnalyticRegressor,
    AnalyticTransformer,
    GradientCheckError,
    ParameterStructureError,
    check_gradient,
    get_optimizer,
)
from sk_analytic.optimizers import SGD, Adam, Chain, ClipNorm

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + 1.0
START = {"w": np.zeros(3), "b": 0.0}


def forward(params, X):
    return X @ params["w"] + params["b"]


def gradient(params, X, y, sample_weight=None):
    residual = (forward(params, X) - y) * (1.0 if sample_weight is None else sample_weight)
    return {"w": X.T @ residual / len(X), "b": residual.mean()}


def turned(params, X, y, sample_weight=None):
    return {name: -block for name, block in gradient(params, X, y, sample_weight).items()}


def loss(params, X, y, sample_weight=None):
    return float(np.average((forward(params, X) - y) ** 2 / 2 * (1.0 if sample_weight is None else sample_weight)))


class TestMostlyZeroWeights:
    """Rows of weight 0 are neither checked nor watched in the place of those that count."""

    weight = np.zeros(2000)
    weight[[5, 900, 1500]] = 1.0
    X = RNG.normal(size=(2000, 3))
    y = X @ [1.0, -2.0, 0.5]

    def test_the_check_sees_rows_that_count(self):
        """A gradient of the wrong sign is found on three rows of two thousand."""
        with pytest.raises(GradientCheckError, match="'w'"):
            AnalyticRegressor(forward, turned, START, batch_size=20, random_state=0).fit(self.X, self.y, self.weight)

    def test_the_loss_curve_is_that_of_rows_that_count(self):
        """It begins near the weighted loss at the start, and falls."""
        model = AnalyticRegressor(forward, gradient, START, batch_size=20, max_iter=300, tol=0.0, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.set_params(n_iter_no_change=1000).fit(self.X, self.y, self.weight)
        at_zero = np.average(self.y**2 / 2, weights=self.weight)
        assert model.loss_curve_[0] == pytest.approx(at_zero, rel=0.5)
        assert model.loss_ < 0.1 * at_zero


@pytest.mark.parametrize("name", ["squared_error", "poisson", "absolute_error"])
def test_a_classifier_refuses_losses_of_targets(name):
    """Scores fitted to 0 and 1 would be decided at 0."""
    with pytest.raises(ValueError, match="does not apply to class scores. Use 'log_loss'"):
        AnalyticClassifier(loss=name).fit(X, Y > 1)


def test_predict_hands_out_what_fit_does():
    """Read-only views, and arrays without dimensions where θ has floats."""
    seen = []

    def watching(params, X):
        seen.append((type(params["b"]), np.shape(params["b"]), params["w"].flags.writeable))
        return forward(params, X)

    model = AnalyticRegressor(watching, gradient, START, optimizer="lbfgs").fit(X, Y)
    in_fit = set(seen)
    seen.clear()
    model.predict(X)
    assert set(seen) == in_fit == {(np.ndarray, (), False)}
    model.params_["w"][...] = 0.0  # what the user writes there is what predicts
    np.testing.assert_array_equal(model.predict(X), np.full(len(X), model.params_["b"]))


def test_one_row_cannot_be_scored_by_r2():
    """Early stopping with a single held-out row is refused, with the way out."""
    with pytest.raises(ValueError, match="holds out 1 sample, but the score needs 2. Hold out more"):
        AnalyticRegressor(early_stopping=True).fit(X[:10], Y[:10])


@pytest.mark.parametrize(
    "wrong", [{"loss": "nope"}, {"gradient": turned}, {"alpha": -1.0}], ids=["loss", "gradient", "alpha"]
)
def test_a_refit_that_fails_leaves_the_former_fit_whole(wrong):
    """Attributes and predictions are those of before: nothing is lost, nothing is mixed."""
    model = AnalyticRegressor(forward, gradient, START, optimizer="lbfgs").fit(X, Y)
    before = {name: value for name, value in vars(model).items() if name.endswith("_")}
    predicted = model.predict(X)
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else, elsewhere
        model.set_params(**wrong).fit(np.ones((20, 5)), np.ones(20))
    assert {name: value for name, value in vars(model).items() if name.endswith("_")} == before
    np.testing.assert_array_equal(model.predict(X), predicted)


def test_predictions_of_another_shape_are_errors_also_after_fit():
    """A `forward` that squeezes one row, or adds a column, is told so."""

    def fickle(params, X):
        prediction = forward(params, X)
        return prediction if len(X) > 1 else np.stack([prediction, prediction], axis=1)

    model = AnalyticRegressor(fickle, gradient, START, optimizer="lbfgs").fit(X, Y)
    with pytest.raises(ParameterStructureError, match=r"forward returned shape \(1, 2\), but y has shape \(1,\)"):
        model.predict(X[:1])


def test_exceptions_while_watching_have_a_note_of_the_epoch():
    """The loss is evaluated at the end of an epoch; the note says of which."""
    calls = []

    def failing(params, X, y):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("mine")
        return loss(params, X, y)

    settings = {"optimizer": "adam", "check_gradient": False, "random_state": 0}
    model = AnalyticRegressor(forward, gradient, START, loss=failing, **settings)
    with pytest.raises(RuntimeError, match="mine") as raised:
        model.fit(X, Y)
    assert "After epoch 3 (counted from 0)." in raised.value.__notes__


def test_an_interrupt_in_the_first_epoch_leaves_one_epoch():
    """`n_iter_` is 1 at least, and the estimator predicts."""

    def interrupting(params, X, y, sample_weight=None):
        raise KeyboardInterrupt

    model = AnalyticRegressor(forward, interrupting, START, check_gradient=False)
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(X, Y)
    assert model.n_iter_ == 1
    assert model.predict(X).shape == Y.shape


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"init": {"w": [0.0, 0.0, 0.0], "b": 0.0}}, ParameterStructureError, r"use np\.array"),
        ({"init": lambda: None}, ParameterStructureError, "init has None"),
        ({"forward": None, "gradient": None}, ParameterStructureError, r"default model has 'coef' \(3,\), 'intercept'"),
        ({"batch_size": "big"}, ValueError, "batch_size must be 'auto' or a whole number"),
    ],
    ids=["a list of numbers", "no start", "the default's blocks", "batch size"],
)
def test_messages_point_at_the_slip(settings, error, message):
    """Each names the argument as the user knows it."""
    with pytest.raises(error, match=message):
        AnalyticRegressor(**{"forward": forward, "gradient": gradient, "init": START} | settings).fit(X, Y)


def test_what_takes_no_steps_says_so():
    """A full-batch method has no state to make; a bare function is no estimator."""
    with pytest.raises(TypeError, match="LBFGS is a full-batch method and takes no single steps"):
        get_optimizer("lbfgs").init(np.zeros(3))
    with pytest.raises(TypeError, match=r"check_gradient\(loss=\.\.\., gradient=\.\.\., params="):
        check_gradient(forward, X, Y)


def test_a_transformer_is_told_which_form_works():
    """An adjoint needs a loss of its output; without targets that is one's own."""

    def vjp(params, X):
        return X @ params["w"], lambda d: {"w": X.T @ d}

    with pytest.raises(ValueError, match="give gradient or loss_and_gradient"):
        AnalyticTransformer(vjp=vjp, init={"w": np.ones(3)}, loss="squared_error").fit(X)


def imports_of(path, package):
    """Modules of the package that a file imports when it is imported."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            names = [[alias.name] for alias in node.names] if node.module is None else [node.module.split(".")]
            found.update(".".join([*above, *name]) for name in names)
    return found


def test_imports_run_downward():
    """No module imports one that imports it, however long the way round."""
    root = pathlib.Path(sk_analytic.__file__).parent
    graph = {}
    for path in root.rglob("*.py"):
        parts = ["sk_analytic", *path.relative_to(root).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        name = parts[:-1] if is_package else parts
        graph[".".join(name)] = imports_of(path, name if is_package else name[:-1])
    done, under_way = set(), []

    def visit(module):
        assert module not in under_way, " imports ".join([*under_way[under_way.index(module) :], module])
        if module in done or module not in graph:
            return
        under_way.append(module)
        for imported in sorted(graph[module]):
            visit(imported)
        under_way.pop()
        done.add(module)

    for module in graph:
        visit(module)
    assert {"sk_analytic.training.minibatches", "sk_analytic.hyperparameters"} <= done


@pytest.mark.parametrize("rule", ["dog", "prodigy"])
def test_rules_that_begin_with_tiny_steps_are_waited_for(rule):
    """By default they train to the end: epochs in which they find their scale are no lack of improvement."""
    y = Y + 0.01 * np.random.default_rng(1).normal(size=len(Y))
    start = {"coef": np.zeros(3), "intercept": 0.0}
    assert AnalyticRegressor(init=start, optimizer=rule, max_iter=300, random_state=0).fit(X, y).score(X, y) > 0.999


def test_a_rising_loss_is_no_convergence():
    """A gradient of the wrong sign, unchecked, ends with a warning that names the fault."""
    model = AnalyticRegressor(forward, turned, START, optimizer="sgd", check_gradient=False, random_state=0)
    with pytest.warns(UserWarning, match=r"(?s)The loss increased from .* \[sign\]"):
        model.fit(X, Y)


@pytest.mark.parametrize(
    ("links", "error", "message"),
    [
        ([("a", ClipNorm()), ("a", Adam())], ValueError, "the link name 'a' is used twice"),
        ([("a__b", Adam())], ValueError, "'a__b' cannot be used in set_params"),
        (Adam(), TypeError, r"Chain takes a list of links and optimizers; got Adam\(\)"),
        (["adam"], TypeError, r"got 'adam'. Pass an instance: Adam\(\)"),
        ([SGD(learning_rate=abs)], TypeError, "learning_rate is a function.*pass a Schedule"),
    ],
    ids=["twice", "underscores", "no list", "a name", "a function"],
)
def test_chains_that_cannot_be_reached_are_refused(links, error, message):
    """Each part of a chain must be reachable by its name."""
    with pytest.raises(error, match=message):
        Chain(links).init(np.zeros(3))
