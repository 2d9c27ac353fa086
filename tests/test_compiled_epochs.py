"""Compiled epochs: the numbers of the interpreter's loop, its messages, and a warning where they cannot be."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import namedtuple

import numpy as np
import pytest

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    DivergenceError,
    ParameterStructureError,
)
from sk_analytic.optimizers import (
    SGD,
    Adam,
    Chain,
    ClipNorm,
    Cosine,
    PerBlock,
    PolyakAverage,
    RAdam,
    Rule,
    Schedule,
    WeightDecay,
    use_engine,
)
from sk_analytic.optimizers.engine import numba_kernel
from sk_analytic.training import compiled, epoch_function

if os.environ.get("SK_ANALYTIC_REQUIRE_PARITY"):
    import numba
else:
    numba = pytest.importorskip("numba", reason="needs the extra sk-analytic[numba]")

njit = numba.njit
Line = namedtuple("Line", ["w", "b"])
RNG = np.random.default_rng(0)
X = RNG.normal(size=(203, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 + 0.1 * RNG.normal(size=203)
WEIGHTS = RNG.uniform(0, 2, 203)
WEIGHTS[40:120] = 0
START = Line(np.array([0.1, 0.2, -0.1]), 0.0)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """A cache of kernels that this run alone uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_CACHE_DIR", str(tmp_path_factory.mktemp("numba")))
        yield


@pytest.fixture
def calls(monkeypatch):
    """How many steps each call of a compiled function took."""
    taken, take = [], epoch_function.EpochFunction.take

    def counted(self, *arguments):
        result = take(self, *arguments)
        taken.append(result.n_updates)
        return result

    monkeypatch.setattr(epoch_function.EpochFunction, "take", counted)
    return taken


def forward(params, X):
    """A line."""
    return X @ np.asarray(params[0]) + params[1]


@njit
def loss_and_gradient(params, X, y):
    """Of half the mean square."""
    residual = X @ params.w + params.b[()] - y
    return 0.5 * np.mean(residual**2), Line(X.T @ residual / len(y), residual.mean())


@njit
def weighted(params, X, y, sample_weight=None):
    """The same with weights."""
    residual = X @ params.w + params.b[()] - y
    if sample_weight is None:
        return 0.5 * np.mean(residual**2), Line(X.T @ residual / len(y), residual.mean())
    pull = residual * sample_weight
    return 0.5 * np.mean(residual * pull), Line(X.T @ pull / len(y), pull.mean())


@njit
def gradient(params, X, y):
    """The gradient alone."""
    residual = X @ params.w + params.b[()] - y
    return Line(X.T @ residual / len(y), residual.mean())


@njit
def summed(params, X, y):
    """Sums over the batch."""
    residual = X @ params.w + params.b[()] - y
    return 0.5 * np.sum(residual**2), Line(X.T @ residual, residual.sum())


@njit
def of_a_sample(params, x, y, out):
    """Of one sample, in place."""
    residual = params.b[()] - y
    for i in range(x.size):
        residual += x[i] * params.w[i]
    for i in range(x.size):
        out.w[i] = residual * x[i]
    out.b[()] = residual
    return 0.5 * residual * residual


@njit
def gradient_of_a_sample(params, x, y, out):
    """The same without the loss."""
    of_a_sample(params, x, y, out)


@njit
def with_metadata(params, X, y, scale, offset, factor=2.0):
    """With a column, an array of model_params, and a default."""
    residual = (X @ params.w + params.b[()] - y - offset[0]) * scale
    pull = residual * scale
    return np.mean(residual**2) / factor, Line(X.T @ pull * 2 / factor / len(y), pull.mean() * 2 / factor)


def fitted(engine, function, role="loss_and_gradient", fit=None, data=(X, Y), **settings):
    """A regressor trained by an engine."""
    settings = {"optimizer": "adam", "batch_size": 16, "max_iter": 4, "tol": None, "random_state": 0} | settings
    settings = {"init": START, "loss": None if role == "gradient" else "squared_error"} | settings
    if role == "loss_and_gradient":
        settings.pop("loss")
    model = AnalyticRegressor(forward, **{role: function}, **settings)
    with use_engine(engine):
        return model.fit(*data, **(fit or {}))


def assert_same(ours, theirs):
    """All that a fit leaves is the same to the bit, but for norms, which are summed in another order."""
    for a, b in zip(ours.params_, theirs.params_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert getattr(ours, "loss_curve_", None) == getattr(theirs, "loss_curve_", None)
    assert ours.n_steps_ == theirs.n_steps_
    assert ours.n_iter_ == theirs.n_iter_
    rtol = 1e-12 if ours.params_[0].dtype == np.float64 else 1e-5
    norms = [np.asarray(model._training.history.gradient_norms) for model in (ours, theirs)]
    np.testing.assert_allclose(*norms, rtol=rtol)
    states = [model._training.state for model in (ours, theirs)]
    assert states[0].step == states[1].step
    for one, other in zip(states[0].links, states[1].links, strict=True):
        assert repr(one.records) == repr(other.records)
        assert one.slots.keys() == other.slots.keys()
        for name, slot in one.slots.items():
            np.testing.assert_array_equal(slot, other.slots[name])


PLAIN = {
    "loss_and_gradient": (loss_and_gradient, {}),
    "gradient": (gradient, {"role": "gradient"}),
    "batch of one": (loss_and_gradient, {"batch_size": 1}),
    "in order": (loss_and_gradient, {"shuffle": False}),
    "without the last batch": (loss_and_gradient, {"drop_last": True}),
    "float32": (
        loss_and_gradient,
        {"data": (X.astype(np.float32), Y.astype(np.float32)), "init": Line(np.zeros(3, np.float32), np.float32(0))},
    ),
    "sum": (summed, {"reduction": "sum"}),
    "penalty": (loss_and_gradient, {"alpha": {"w": 0.5}}),
    "fixed": (loss_and_gradient, {"fixed": ["b"]}),
    "bounds": (loss_and_gradient, {"bounds": {"w": (-0.5, 0.6)}}),
    "weights": (weighted, {"fit": {"sample_weight": WEIGHTS}, "batch_size": 4, "shuffle": False}),
    "no weights": (weighted, {}),
    "early stopping": (loss_and_gradient, {"early_stopping": True, "max_iter": 30, "optimizer": Adam(0.3)}),
    "of a sample": (of_a_sample, {"batch_size": 5}),
    "of a sample, one": (of_a_sample, {"batch_size": 1}),
    "of a sample, weights": (of_a_sample, {"fit": {"sample_weight": WEIGHTS}, "batch_size": 3, "shuffle": False}),
    "of a sample, gradient": (gradient_of_a_sample, {"role": "gradient", "batch_size": 5}),
    "schedule": (loss_and_gradient, {"optimizer": Adam(Cosine(0.1, 40))}),
    "average": (loss_and_gradient, {"optimizer": Chain([SGD(0.05, momentum=0.9), PolyakAverage(start=10)])}),
    "remembers": (loss_and_gradient, {"optimizer": "nadam"}),
    "by block": (loss_and_gradient, {"optimizer": PerBlock({"w": Adam(0.1)}, default=SGD(0.1))}),
    "many links": (loss_and_gradient, {"optimizer": Chain([WeightDecay(0.1), RAdam(), WeightDecay(0.01)])}),
}


@pytest.mark.filterwarnings("ignore:.*has not converged")
@pytest.mark.parametrize("case", PLAIN)
def test_same_numbers_as_the_interpreter(case, calls):
    """For every kind of batch, objective and optimizer: to the bit, in few calls."""
    function, settings = PLAIN[case]
    ours = fitted("numba", function, **settings)
    n_steps = ours.n_steps_
    assert sum(calls) >= n_steps > 0
    assert len(calls) < n_steps or n_steps < 20
    calls.clear()
    theirs = fitted("numpy", function, **settings)
    assert not calls
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", ["structure of arrays", "one array", "nested"])
def test_structures_of_parameters(name, calls):
    """A tuple, an array, tuples within tuples."""

    @njit
    def of_array(params, X, y):
        residual = X @ params - y
        return 0.5 * np.mean(residual**2), X.T @ residual / len(y)

    @njit
    def of_tuple(params, X, y):
        residual = X @ params[0] + params[1][0] - y
        return 0.5 * np.mean(residual**2), (X.T @ residual / len(y), np.array([residual.mean()]))

    @njit
    def of_nested(params, X, y):
        (scale, w), b = params
        raw = X @ w
        residual = scale[()] * raw + b - y
        return 0.5 * np.mean(residual**2), (
            ((residual * raw).mean(), scale[()] * (X.T @ residual) / len(y)),
            residual.mean() + 0.0 * b,
        )

    function, init, predict = {
        "one array": (of_array, np.zeros(3), lambda params, X: X @ params),
        "structure of arrays": (of_tuple, (np.zeros(3), np.zeros(1)), lambda params, X: X @ params[0] + params[1]),
        "nested": (
            of_nested,
            ((1.0, np.full(3, 0.1)), np.zeros(1)),
            lambda params, X: params[0][0] * (X @ params[0][1]) + params[1],
        ),
    }[name]
    models = []
    for engine in ("numba", "numpy"):
        model = AnalyticRegressor(
            predict,
            loss_and_gradient=function,
            init=init,
            max_iter=2,
            tol=None,
            batch_size=16,
            random_state=0,
            optimizer="adam",
        )
        with use_engine(engine):
            models.append(model.fit(X, Y))
    assert sum(calls) == models[0].n_steps_
    for one, other in zip(*(leaves(model.params_) for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


def leaves(params):
    """The leaves of nested tuples."""
    return [params] if not isinstance(params, tuple) else [leaf for item in params for leaf in leaves(item)]


@pytest.mark.filterwarnings("ignore:.*has not converged")
def test_metadata_model_params_and_defaults(calls):
    """Columns are gathered, arrays and numbers are handed on, a default stays one."""
    scale = RNG.uniform(0.5, 1, 203)
    models = [
        fitted(engine, with_metadata, fit={"scale": scale}, model_params={"offset": np.array([0.1])})
        for engine in ("numba", "numpy")
    ]
    assert sum(calls) == models[0].n_steps_
    assert_same(*models)


@pytest.mark.filterwarnings("ignore:.*has not converged")
def test_chunks_partial_fit_and_resuming(calls):
    """A run that goes on, over chunks of uneven sizes, from a pickle too; few steps are left to the interpreter."""
    parts = [(X[:90], Y[:90]), (X[90:100], Y[90:100]), (X[100:], Y[100:])]
    few = 3 * 3 + 3  # in the chunk of 10 rows, in that of its last `partial_fit`
    models = []
    for engine in ("numba", "numpy"):
        model = AnalyticRegressor(
            forward,
            loss_and_gradient=loss_and_gradient,
            init=START,
            optimizer="adam",
            max_iter=3,
            batch_size=4,
            tol=None,
            random_state=0,
        )
        with use_engine(engine):
            model.fit_chunks(parts)
            model = pickle.loads(pickle.dumps(model))
            model.partial_fit(X, Y)
            model.set_params(optimizer__learning_rate=0.5).partial_fit(X, Y)
            models.append(model.partial_fit(X[:12], Y[:12]))
    assert sum(calls) == models[0].n_steps_ - few
    assert_same(*models)


@njit
def of_row_0(params, X, y):
    """Answers otherwise in the batch that has a sign."""
    residual = X @ params.w + params.b[()] - y
    slope = X.T @ residual / len(y)
    if y[0] == 7.0:
        raise ValueError("seven")
    if y[0] == 8.0:
        return np.mean(residual**2), Line(slope[:2], residual.mean())
    if y[0] == 9.0:
        return np.mean(residual**2), Line(slope * np.nan, residual.mean())
    if y[0] == 10.0:
        return np.nan, Line(slope, residual.mean())
    if y[0] == 11.0:
        return 0.0, Line(slope + 1e200, residual.mean())
    return np.mean(residual**2), Line(slope, residual.mean())


@pytest.mark.filterwarnings("ignore:.*has not converged")
@pytest.mark.parametrize("sign", [7.0, 8.0, 9.0, 10.0, 11.0])
def test_what_is_wrong_ends_in_the_same_words(sign, calls):
    """An exception, a wrong shape, what is not finite or huge: message, notes and parameters as the interpreter's."""
    y = Y.copy()
    y[160] = sign
    found = []
    for engine in ("numba", "numpy"):
        model = AnalyticRegressor(
            forward,
            loss_and_gradient=of_row_0,
            init=START,
            optimizer="adam",
            max_iter=2,
            batch_size=16,
            tol=None,
            random_state=0,
            shuffle=False,
            check_gradient=False,
        )
        with use_engine(engine), pytest.raises(ValueError) as caught:  # noqa: PT011
            model.fit(X, y)
        notes = [note for note in getattr(caught.value, "__notes__", []) if "of_row_0" not in note]
        found.append(
            (
                type(caught.value),
                str(caught.value),
                notes,
                [*map(np.ndarray.tolist, map(np.asarray, model.params_))],
                model.n_steps_,
            )
        )
    assert calls[-1:] != []
    assert sum(calls) == 10
    assert found[0] == found[1]
    expected = {7.0: ValueError, 8.0: ParameterStructureError}.get(sign, DivergenceError)
    assert found[0][0] is expected


class Falling(Schedule):
    """Is no rate any more from some step on."""

    def __call__(self, step, epoch):
        """Return the rate."""
        return 0.01 if step < 20 else -1.0


class Pole(Rule):
    """Divides by zero in some step."""

    def __init__(self, learning_rate=0.01):
        self.learning_rate = learning_rate

    def coefficients(self, now):
        """Return the factor."""
        return (1 / (21 - now.t),)

    @staticmethod
    def formula(g, theta, factor):
        """Return the step."""
        return factor * g


@pytest.mark.parametrize("optimizer", [SGD(Falling()), Pole()])
def test_a_rate_that_cannot_be_had_ends_its_own_step(optimizer, calls):
    """Coefficients are asked for beforehand; those of the steps before it are good."""
    found = []
    for engine in ("numba", "numpy"):
        model = AnalyticRegressor(
            forward,
            loss_and_gradient=loss_and_gradient,
            init=START,
            optimizer=optimizer,
            max_iter=2,
            batch_size=16,
            tol=None,
            random_state=0,
        )
        with use_engine(engine), pytest.raises((ValueError, ZeroDivisionError)) as caught:
            model.fit(X, Y)
        assert model.n_steps_ == model._training.state.step == 20
        found.append((str(caught.value), *map(np.ndarray.tolist, map(np.asarray, model.params_))))
    assert sum(calls) == 20
    assert found[0] == found[1]


@njit
def writes(params, X, y, memory):
    """Writes to what it was given for good."""
    memory[0][0] += 1.0
    return loss_and_gradient(params, X, y)


@njit
def with_column(params, X, y, column):
    """Receives a column that it does not need."""
    return loss_and_gradient(params, X, y)


def test_nothing_that_is_handed_over_can_be_written_to():
    """Arrays in tuples of model_params too: numba refuses it, as in the interpreter's loop."""
    memory = np.zeros(2)
    with pytest.warns(UserWarning, match="are not compiled"), pytest.raises(numba.TypingError, match="readonly"):
        fitted("numba", writes, model_params={"memory": (memory, 1)}, check_gradient=False)
    assert not memory.any()


def test_what_numba_has_no_type_for_is_no_failure_of_numba():
    """Other fits of the process are compiled as before."""
    column = np.arange(203.0).astype(">f8" if sys.byteorder == "little" else "<f8")
    with pytest.warns(UserWarning, match="are not compiled.*Unsupported"), pytest.raises(numba.TypingError):
        fitted("numba", with_column, fit={"column": column}, check_gradient=False)
    assert not numba_kernel._failures


@pytest.mark.filterwarnings("ignore:.*has not converged")
def test_rows_of_another_kind_wait_for_a_function_of_their_own(calls, monkeypatch):
    """One that was compiled for other arrays would read them wrongly; chunks may be of several kinds in turn."""
    fitted("numba", loss_and_gradient, batch_size=4)  # loaded from now on, while that for the others is too expensive
    calls.clear()
    monkeypatch.setattr(epoch_function, "is_cached", lambda source: False)
    monkeypatch.setattr(compiled, "SECONDS_SAVED", 0.02)
    monkeypatch.setattr(compiled, "PORTION", 10)
    parts = [(X[:100], Y[:100]), (np.asfortranarray(X[100:]), Y[100:])] * 2
    settings = {"optimizer": "adam", "batch_size": 4, "max_iter": 4, "tol": None, "random_state": 0}
    models = []
    for engine in ("auto", "numpy"):
        model = AnalyticRegressor(forward, loss_and_gradient=loss_and_gradient, init=START, **settings)
        with use_engine(engine):
            models.append(model.fit_chunks(parts))
    assert 0 < sum(calls) < models[0].n_steps_
    assert_same(*models)


def refused(optimizer="adam", function=loss_and_gradient, data=(X, Y), **settings):
    """The warning of a fit that is not compiled."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = fitted("numba", function, optimizer=optimizer, data=data, **settings)
    texts = [str(each.message) for each in caught if "are not compiled" in str(each.message)]
    assert len(texts) == 1, texts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(ours, fitted("numpy", function, optimizer=optimizer, data=data, **settings))
    return texts[0]


def test_what_does_not_fit_is_said_once(calls, monkeypatch):
    """With the reason and what to change; the interpreter's loop trains."""

    @njit
    def with_none(params, X, y):
        residual = X @ params.w + params.b[()] - y
        return 0.5 * np.mean(residual**2), Line(X.T @ residual / len(y), None)

    @njit
    def with_rng(params, X, y, rng):
        noise = rng.normal()
        residual = X @ params.w + params.b[()] - y
        return 0.5 * np.mean(residual**2), Line(X.T @ residual / len(y) + 0.0 * noise, residual.mean())

    @njit
    def with_extra(params, X, y, extra):
        return loss_and_gradient(params, X, y)

    class Own(SGD):
        def update(self, state, theta, grads, **of_blocks):
            super().update(state, theta, grads, **of_blocks)

    assert "ClipNorm measures the gradient before each step" in refused(Chain([ClipNorm(1.0), Adam()]))
    assert "rng" in refused(function=with_rng)
    assert "none as the gradient of 'b'" in refused(function=with_none)
    assert "model_params['extra'] has a list" in refused(function=with_extra, model_params={"extra": ((1, [2]), 3)})
    assert "Own overrides update" in refused(Own())
    assert "all parameters are fixed" in refused(fixed=["w", "b"])
    assert "in C order" in refused(data=(np.asfortranarray(X), Y), shuffle=False)
    assert "reparametrized" in refused(reparametrize={"b": "log"}, init=Line(START.w, 0.5))
    assert "numerical" in refused(numerical=["b"])
    monkeypatch.setattr(compiled, "MOST_LEAVES", 1)
    assert "there are 2 parameter arrays" in refused()
    assert not calls


@pytest.mark.filterwarnings("ignore:.*has not converged")
def test_only_work_that_pays_is_compiled(calls, monkeypatch):
    """At first never; when enough steps were counted, or at once if another fit has compiled the same."""
    monkeypatch.setattr(numba_kernel, "_loaded", {})
    monkeypatch.setattr(epoch_function, "is_cached", lambda source: False)
    fitted("auto", loss_and_gradient)
    assert not calls
    monkeypatch.setattr(compiled, "SECONDS_SAVED", 1.0)
    model = fitted("auto", loss_and_gradient)
    assert sum(calls) == model.n_steps_ - 13  # of the first epoch, whose steps were counted
    calls.clear()
    monkeypatch.setattr(compiled, "SECONDS_SAVED", compiled.SECONDS_TO_LOAD)
    model = fitted("auto", loss_and_gradient)
    assert sum(calls) == model.n_steps_ - 13


@pytest.mark.filterwarnings("ignore:.*has not converged")
def test_another_process_loads_what_this_one_compiled():
    """Nothing is compiled twice but the user's function."""
    program = """
import numpy as np, sys
from numba import njit
from sk_analytic import AnalyticRegressor
from sk_analytic.optimizers import use_engine
from sk_analytic.optimizers.engine import numba_kernel

@njit
def loss_and_gradient(params, X, y):
    residual = X @ params[0] - y
    return np.mean(residual**2), (2 * X.T @ residual / len(y),)

X = np.eye(3).repeat(20, axis=0)
model = AnalyticRegressor(lambda params, X: X @ params[0], loss_and_gradient=loss_and_gradient,
    init=(np.zeros(3),), optimizer="sgd", max_iter=2, tol=None, batch_size=7)
with use_engine("numba"):
    model.fit(X, X.sum(axis=1))
(kernel,) = [one for one in numba_kernel._loaded.values()]
print(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""
    counts = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
        for _ in range(2)
    ]
    assert counts == [["0", "1"], ["1", "0"]]


@pytest.mark.filterwarnings("ignore:.*has not converged")
def test_interrupts():
    """Ctrl-C ends a fit after the call of the function in which it came; parameters are those of whole steps."""
    fitted("numba", loss_and_gradient)
    model = AnalyticRegressor(
        forward,
        loss_and_gradient=loss_and_gradient,
        init=START,
        optimizer="adam",
        max_iter=10**7,
        batch_size=1,
        tol=None,
        random_state=0,
    )
    begin = time.monotonic()
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    with use_engine("numba"), pytest.warns(UserWarning, match="interrupted"):
        model.fit(X, Y)
    assert time.monotonic() - begin < 20
    assert model.n_steps_ > 0
    assert np.isfinite(model.params_.w).all()


@pytest.mark.filterwarnings("ignore:.*has not converged")
def test_fits_in_threads():
    """Each has its own memory."""
    models = [None] * 4

    def fit(number):
        models[number] = fitted("numba", loss_and_gradient, random_state=number, max_iter=50)

    threads = [threading.Thread(target=fit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, model in enumerate(models):
        assert_same(model, fitted("numpy", loss_and_gradient, random_state=number, max_iter=50))


@pytest.mark.filterwarnings("ignore:.*has not converged")
def test_classes_and_densities(calls):
    """Class indices, and no y at all."""

    @njit
    def logistic(params, X, y):
        z = X @ params.w + params.b[()]
        d = 1 / (1 + np.exp(-z)) - y
        return np.mean(np.logaddexp(0.0, z) - y * z), Line(X.T @ d / len(y), d.mean())

    @njit
    def gaussian(params, X):
        residual = params[0] - X
        return 0.5 * np.sum(residual**2) / len(X), (residual.sum(axis=0) / len(X),)

    settings = {"optimizer": "adam", "max_iter": 3, "tol": None, "batch_size": 20, "random_state": 0}
    for make, data in (
        (
            lambda: AnalyticClassifier(forward, loss_and_gradient=logistic, init=START, **settings),
            (X, np.where(Y > 0, "yes", "no")),
        ),
        (
            lambda: AnalyticDensity(
                lambda params, X: -0.5 * np.sum((X - params[0]) ** 2, axis=1),
                loss_and_gradient=gaussian,
                init=(np.zeros(3),),
                **settings,
            ),
            (X,),
        ),
    ):
        calls.clear()
        with use_engine("numba"):
            ours = make().fit(*data)
        assert sum(calls) == ours.n_steps_
        with use_engine("numpy"):
            assert_same(ours, make().fit(*data))
