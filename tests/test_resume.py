"""A fit that is killed anywhere and resumed from a file ends as one that was not: with every optimizer, to the bit.

Where it is killed, in which dtype and form, and by what it is judged is drawn for each optimizer. Full-batch methods
begin anew at the parameters that were reached, as the guide says.
"""

import importlib.util
import pickle
import warnings
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from models import linear_forward, linear_init, linear_jacobian, linear_squared_error, linear_vjp
from numpy.testing import assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from sk_analytic import AnalyticRegressor
from sk_analytic.callbacks import Checkpoint
from sk_analytic.optimizers import (
    SGD,
    Accumulate,
    Adam,
    Chain,
    ClipNorm,
    Cosine,
    ExponentialAverage,
    Lookahead,
    OneCycle,
    PerBlock,
    Phases,
    PolyakAverage,
    ReduceOnPlateau,
    RMSprop,
    WarmUp,
    get_optimizer,
    get_optimizer_names,
)
from sk_analytic.optimizers.scipy_methods import FullBatch

needs_callbacks = pytest.mark.skipif(
    importlib.util.find_spec("sklearn.callback") is None, reason="scikit-learn has callbacks from 1.9 on"
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 * RNG.normal(size=24)
EPOCHS = 6
DRAWS = 3  # for each optimizer

FULL_BATCH = [name for name in get_optimizer_names() if isinstance(get_optimizer(name), FullBatch)]
BY_BATCHES = {name: name for name in get_optimizer_names() if name not in FULL_BATCH} | {
    "chain by block": Chain([ClipNorm(0.5), PerBlock({"W": Adam(Cosine(0.1, length=15))}, default=SGD(0.05))]),
    "accumulated": Chain([Accumulate(3), Adam(0.05)]),
    "lookahead": Chain([RMSprop(0.05), Lookahead(5)]),
    "polyak average": Chain([SGD(0.1), PolyakAverage(start=5)]),
    "exponential average": Chain([Adam(0.1), ExponentialAverage(0.9)]),
    "reduced on plateau": SGD(ReduceOnPlateau(0.8, factor=0.5, patience=0), momentum=0.9),
    "warmed up": Adam(WarmUp(8, then=Cosine(0.1, length=30))),
    "one cycle": SGD(OneCycle(0.3, length=18), momentum=0.5, nesterov=True),
}


class Killed(Exception):
    """Ends a fit; what its process knew is not looked at again."""


LIFE = SimpleNamespace(calls=np.inf)  # how many calls of the functions below are left


def lived_through(X, rng):
    """Rows with noise of the step's own; or the end."""
    LIFE.calls -= 1
    if LIFE.calls < 0:
        raise Killed
    return X + 0.1 * rng.normal(size=X.shape).astype(X.dtype)


def gradient(params, X, y, rng):
    return linear_squared_error(params, lived_through(X, rng), y)[1]


def loss_and_gradient(params, X, y, rng):
    return linear_squared_error(params, lived_through(X, rng), y)


def vjp(params, X, rng):
    return linear_vjp(params, lived_through(X, rng))


def jacobian(params, X, rng):
    return linear_jacobian(params, lived_through(X, rng))


def exact_jacobian(params, X):
    LIFE.calls -= 1
    if LIFE.calls < 0:
        raise Killed
    return linear_jacobian(params, X)


FORMS = {"gradient": gradient, "loss_and_gradient": loss_and_gradient, "vjp": vjp, "jacobian": jacobian}


class Killer:
    """A callback that ends the fit after an epoch, before or after other callbacks have seen it."""

    def __init__(self, epoch):
        self.epoch = epoch

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        if context.max_subtasks == 0 and estimator.n_iter_ == self.epoch:
            raise Killed


class Draw:
    """A fit, and where it is killed; drawn for the name of an optimizer and a number."""

    def __init__(self, name, number, optimizer):
        self.rng = rng = np.random.default_rng([zlib.crc32(name.encode()), number])
        self.dtype = rng.choice([np.float64, np.float32])
        self.form = str(rng.choice(list(FORMS)))
        self.settings = {
            "optimizer": optimizer,
            "early_stopping": bool(rng.integers(2)),
            "n_iter_no_change": int(rng.choice([1, 2, 10])),
            "tol": float(rng.choice([0.0, 1e-2])),
            "shuffle": bool(rng.integers(2)),
            "alpha": float(rng.choice([0.0, 0.1])),
            "random_state": int(rng.integers(100)),
        }
        self.whole = self.fitted(self.model())
        self.steps = 3 if self.settings["early_stopping"] else 4  # in an epoch: of 21 rows, or of 24
        self.epoch = int(rng.integers(self.whole.n_iter_))
        self.step = int(rng.integers(self.steps))

    def model(self, max_iter=EPOCHS, **settings):
        given = {"init": linear_init, "batch_size": 7, "check_gradient": False, "max_iter": max_iter}
        given |= {"forward": linear_forward, self.form: FORMS[self.form]}
        return AnalyticRegressor(**given | self.settings | settings)

    def fitted(self, model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(X.astype(self.dtype), Y.astype(self.dtype))

    def killed(self, model, calls):
        """Fit a model whose functions live through so many calls."""
        LIFE.calls = calls
        try:
            with pytest.raises(Killed):
                self.fitted(model)
        finally:
            LIFE.calls = np.inf

    def __repr__(self):
        return f"epoch {self.epoch}, step {self.step}, {np.dtype(self.dtype)}, {self.form}, {self.settings}"


def assert_same(ours, theirs, case):
    """The same parameters, curves, counts and optimizer state, to the bit."""
    for name in ("W", "b"):
        assert_array_equal(ours.params_[name], theirs.params_[name], err_msg=f"{name}: {case!r}")
        assert ours.params_[name].dtype == theirs.params_[name].dtype
    for curve in ("loss_curve_", "gradient_norm_curve_", "validation_scores_", "n_iter_", "n_steps_"):
        assert getattr(ours, curve) == getattr(theirs, curve), f"{curve}: {case!r}"
    assert repr(ours.optimizer_state_) == repr(theirs.optimizer_state_), repr(case)
    for one, other in zip(ours.optimizer_state_.links, theirs.optimizer_state_.links, strict=True):
        assert one.slots.keys() == other.slots.keys()
        for slot in one.slots:
            assert_array_equal(one.slots[slot], other.slots[slot], err_msg=f"{slot}: {case!r}")


@pytest.mark.parametrize("name", BY_BATCHES)
def test_a_pickled_estimator_goes_on_to_the_bit(name):
    """It was pickled after some epoch, and its process died in the next one."""
    for number in range(DRAWS):
        case = Draw(name, number, BY_BATCHES[name])
        epoch = case.epoch or 1
        if case.whole.n_iter_ == 1:
            continue
        file = pickle.dumps(case.fitted(case.model(epoch, warm_start=True)))
        case.killed(pickle.loads(file).set_params(max_iter=EPOCHS - epoch), case.step)
        resumed = case.fitted(pickle.loads(file).set_params(max_iter=EPOCHS - epoch))
        assert_same(resumed, case.whole, case)


@needs_callbacks
@pytest.mark.parametrize("name", BY_BATCHES)
def test_a_checkpoint_resumes_to_the_bit(name, tmp_path):
    """The same program is run again, whether it died amid an epoch or between its end and the next one."""
    for number in range(DRAWS):
        case = Draw(name, number, BY_BATCHES[name])
        checkpoint = Checkpoint(tmp_path / f"{number}.pkl", every=int(case.rng.integers(1, 3)), resume=True)
        if number:
            case.killed(case.model().set_callbacks(checkpoint), case.epoch * case.steps + case.step)
        else:
            callbacks = [checkpoint, Killer(case.epoch + 1)]
            case.killed(case.model().set_callbacks(*callbacks[:: case.rng.choice([1, -1])]), np.inf)
        assert_same(case.fitted(case.model().set_callbacks(checkpoint)), case.whole, case)


@needs_callbacks
@pytest.mark.parametrize("name", FULL_BATCH)
def test_a_full_batch_method_begins_anew_where_it_was(name, tmp_path):
    """From the file the rest of the iterations is what a new fit makes of its parameters; so does a warm start."""
    settings = {"forward": linear_forward, "jacobian": exact_jacobian, "optimizer": name, "tol": 1e-9}
    settings |= {"check_gradient": False, "random_state": 0, "loss": "squared_error"}

    def model(init, max_iter, **other):
        return AnalyticRegressor(init=init, max_iter=max_iter, **settings, **other)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        calls = 10**6
        LIFE.calls = calls
        model(linear_init, EPOCHS).fit(X, Y)
        calls -= LIFE.calls
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        for number, life in enumerate(rng.integers(calls, size=DRAWS).tolist()):
            path = tmp_path / f"{number}.pkl"
            LIFE.calls = life
            with pytest.raises(Killed):
                model(linear_init, EPOCHS).set_callbacks(Checkpoint(path, resume=True)).fit(X, Y)
            LIFE.calls = np.inf
            file = path.read_bytes() if path.exists() else None
            resumed = model(linear_init, EPOCHS).set_callbacks(Checkpoint(path, resume=True)).fit(X, Y)
            reached = None if file is None else pickle.loads(file)
            start, done = (linear_init, 0) if reached is None else (reached.params_, reached.n_iter_)
            anew = model(start, max(1, EPOCHS - done)).fit(X, Y)
            assert_array_equal(resumed.params_["W"], anew.params_["W"])
            assert resumed.n_iter_ == done + anew.n_iter_
            assert resumed.loss_curve_[done:] == anew.loss_curve_
            if reached is not None:
                warm = reached.set_params(warm_start=True).fit(X, Y)
                assert_array_equal(warm.params_["W"], anew.params_["W"])


@needs_callbacks
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("epoch", [1, 2, 3, 8, 9])
def test_phases_resume_to_the_bit_from_a_phase_of_batches(epoch, tmp_path):
    """Before a full-batch phase and after it; what was reached in that is in the file."""
    phases = Phases([(Adam(0.1), 3), ("lbfgs", 4), (SGD(0.01, momentum=0.9), 3)])

    def model():
        given = {"forward": linear_forward, "vjp": vjp, "init": linear_init, "optimizer": phases, "batch_size": 7}
        return AnalyticRegressor(**given, check_gradient=False, tol=1e-12, random_state=3)

    whole = model().fit(X, Y)
    checkpoint = Checkpoint(tmp_path / "model.pkl", resume=True)
    with pytest.raises(Killed):
        model().set_callbacks(checkpoint, Killer(epoch)).fit(X, Y)
    assert_same(model().set_callbacks(checkpoint).fit(X, Y), whole, epoch)
