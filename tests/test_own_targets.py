"""y that only a loss of the user's own relates to predictions: times with events, several responses, records."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from models import (
    linear_forward,
    linear_gradient,
    linear_init,
    linear_jacobian,
    linear_loss,
    linear_squared_error,
    linear_vjp,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from sk_analytic import (
    AnalyticRegressor,
    DivergenceError,
    ParameterStructureError,
    ReceivedArgumentError,
    check_gradient,
    trusted_types,
)
from sk_analytic.callbacks import Checkpoint
from sk_analytic.data.batch import identity
from sk_analytic.losses import Loss, get_loss
from sk_analytic.search import find_learning_rate

N = 120
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 2))
EVENT = RNG.random(N) < 0.7
TIME = RNG.exponential(np.exp(X @ [0.5, -1.0] + 0.3))
COLUMNS = np.column_stack([TIME, EVENT])
DTYPE = [("event", bool), ("time", float)]
RECORDS = np.zeros(N, DTYPE)
RECORDS["event"], RECORDS["time"] = EVENT, TIME

# Weibull accelerated failure times: log T = X @ coef + intercept + exp(-log_rho) * an extreme value. `forward` is the
# logarithm of the scale, one score a row; the loss is minus the mean log-likelihood.


def log_scale(params, X):
    return X @ params["coef"] + params["intercept"]


def weibull(params, X, time, event, sample_weight=None):
    """Minus the mean log-likelihood and its gradient."""
    share = np.full(len(X), 1 / len(X)) if sample_weight is None else sample_weight / len(X)
    rho = np.exp(params["log_rho"])
    z = rho * (np.log(time) - log_scale(params, X))
    by_z = event - np.exp(z)  # of the log-likelihood
    loss = share @ (np.exp(z) - event * (params["log_rho"] + z - np.log(time)))
    by_scale = share * rho * by_z
    grads = {"coef": X.T @ by_scale, "intercept": by_scale.sum(), "log_rho": -(share @ (event + by_z * z))}
    return loss, grads


def of_columns(params, X, y, sample_weight=None):
    return weibull(params, X, y[:, 0], y[:, 1], sample_weight)


def of_records(params, X, y, sample_weight=None):
    return weibull(params, X, y["time"], y["event"], sample_weight)


def of_attributes(params, X, y, sample_weight=None):
    return weibull(params, X, y.time, y.event, sample_weight)


def loss_of(both):
    """A callable loss from a pair."""
    return lambda params, X, y, sample_weight=None: both(params, X, y, sample_weight)[0]


def gradient_of(both):
    return lambda params, X, y, sample_weight=None: both(params, X, y, sample_weight)[1]


NESTED = [("at", [("t", float)]), ("event", int)]

CONTAINERS = {
    "array": (COLUMNS, of_columns),
    "list": (COLUMNS.tolist(), of_columns),
    "frame": (pd.DataFrame({"time": TIME, "event": EVENT}), of_columns),
    "records": (RECORDS, of_records),
    "list of records": ([*RECORDS], of_records),
    "recarray": (RECORDS.view(np.recarray), of_attributes),
    "records of a frame": (pd.DataFrame({"time": TIME, "event": EVENT}).to_records(index=False), of_attributes),
    "aligned records": (RECORDS.astype(np.dtype(DTYPE, align=True)), of_records),
    "nested": (np.array([((time,), 1) if event else ((time,), 0) for time, event in COLUMNS], NESTED),
               lambda params, X, y, sample_weight=None: weibull(params, X, y["at"]["t"], y["event"], sample_weight)),
    "several axes": (np.stack([COLUMNS, COLUMNS], axis=2),
                     lambda params, X, y, sample_weight=None: of_columns(params, X, y[..., 0], sample_weight)),
}  # fmt: skip

# How the loss is given, as the settings of an estimator; with loss=None no full-batch method has a value.
SPELLINGS = {
    "loss": lambda both: {"gradient": gradient_of(both), "loss": loss_of(both)},
    "loss_and_gradient": lambda both: {"loss_and_gradient": both},
    "loss_and_gradient, None": lambda both: {"loss_and_gradient": both, "loss": None},
    "None": lambda both: {"gradient": gradient_of(both), "loss": None},
}


def start(n_features):
    return {"coef": np.zeros(n_features), "intercept": 0.0, "log_rho": 0.0}


def model(both=of_columns, spelling="loss_and_gradient", **settings):
    """A model of survival times, trained in batches."""
    settings = {"max_iter": 3, "tol": None, "random_state": 0, "batch_size": 16} | settings
    return AnalyticRegressor(log_scale, init=start, **SPELLINGS[spelling](both), **settings)


def flat(estimator):
    return np.hstack([np.ravel(leaf) for leaf in estimator.params_.values()])


# Against lifelines.


@pytest.fixture(scope="module")
def rossi():
    """Recidivism data with ties, and what lifelines makes of them: X, time, event, and coefficients by model."""
    lifelines = pytest.importorskip("lifelines")
    frame = pytest.importorskip("lifelines.datasets").load_rossi()
    features = [name for name in frame if name not in ("week", "arrest")]
    weibull = lifelines.WeibullAFTFitter().fit(frame, "week", "arrest").params_
    cox = lifelines.CoxPHFitter().fit(frame, "week", "arrest").params_
    expected = {
        "weibull": np.r_[weibull["lambda_"][[*features, "Intercept"]], weibull["rho_"]["Intercept"]],
        "cox": cox[features].to_numpy(),
    }
    return frame[features].to_numpy(float), frame["week"].to_numpy(float), frame["arrest"].to_numpy(bool), expected


def as_container(container, time, event):
    columns = pd.DataFrame({"time": time, "event": event})
    records = columns.to_records(index=False)
    made = {"array": columns.to_numpy(float), "frame": columns, "records": np.array(records), "recarray": records}
    return made[container]


BOTH = {"array": of_columns, "frame": of_columns, "records": of_records, "recarray": of_attributes}


@pytest.mark.parametrize(("container", "spelling"), [*zip(BOTH, SPELLINGS, strict=True)])
def test_weibull_times_have_the_coefficients_of_lifelines(container, spelling, rossi):
    """Accelerated failure times, one spelling of y and of the loss at a time."""
    features, time, event, expected = rossi
    y = as_container(container, time, event)
    settings = {"optimizer": "lbfgs", "max_iter": 2000} if spelling != "None" else {"optimizer": "rprop"}
    scaled, scale = features - features.mean(axis=0), features.std(axis=0)
    fitted = model(BOTH[container], spelling, **{"batch_size": len(time), "tol": 1e-9, "max_iter": 500} | settings)
    params = fitted.fit(scaled / scale, y).params_
    coef = params["coef"] / scale
    found = np.r_[coef, params["intercept"] - coef @ features.mean(axis=0), params["log_rho"]]
    assert_allclose(found, expected["weibull"], atol=1e-4, rtol=0)


def efron(score, time, event):
    """Minus Cox's partial log-likelihood and its derivative by the scores, ties as Efron has them."""
    risk = np.exp(score)
    total, derivative = -score[event].sum(), -event.astype(float)
    for moment in np.unique(time[event]):
        at_risk, tied = time >= moment, (time == moment) & event
        share = np.arange(tied.sum()) / tied.sum()
        left = risk[at_risk].sum() - share * risk[tied].sum()
        total += np.log(left).sum()
        derivative[at_risk] += risk[at_risk] * (1 / left).sum()
        derivative[tied] -= risk[tied] * (share / left).sum()
    return total, derivative


class Cox(Loss):
    """Cox's partial likelihood: y are times, and events come beside them."""

    additive = False

    def value_and_derivative(self, y, prediction, event):
        return efron(prediction, y, np.asarray(event, bool))


def cox_of_records(params, X, y):
    total, derivative = efron(X @ params, y["time"], y["event"])
    return total / len(X), X.T @ derivative / len(X)


def cox_of_columns(params, X, y):
    total, derivative = efron(X @ params, y[:, 0], y[:, 1] > 0)
    return total / len(X), X.T @ derivative / len(X)


COX = {
    "records": {"loss_and_gradient": cox_of_records},
    "array": {
        "gradient": lambda params, X, y: cox_of_columns(params, X, y)[1],
        "loss": lambda params, X, y: cox_of_columns(params, X, y)[0],
    },
    "vjp": {"vjp": lambda params, X: (X @ params, lambda d: X.T @ d), "loss": Cox()},
    "jacobian": {"jacobian": lambda params, X: X, "loss": Cox()},
    "default": {"loss": Cox()},
}


@pytest.mark.parametrize("spelling", COX)
def test_cox_regression_has_the_coefficients_of_lifelines(spelling, rossi):
    """The partial likelihood of all rows at once; as a loss object it receives the events beside X."""
    features, time, event, expected = rossi
    beside = {} if spelling in BOTH else {"event": event}
    y = time if beside else as_container(spelling, time, event)
    own = {} if spelling == "default" else {"forward": lambda params, X: X @ params, "init": np.zeros(7)}
    settings = {"additive": False, "optimizer": "lbfgs", "tol": 1e-8}
    fitted = AnalyticRegressor(**own, **COX[spelling], **settings).fit(features, y, **beside)
    coef = fitted.params_["coef"] if spelling == "default" else fitted.params_
    assert_allclose(coef, expected["cox"], atol=1e-4, rtol=0)
    assert_allclose(fitted.predict(features), features @ coef + getattr(fitted, "intercept_", 0.0) * (not own))


# As it came.


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_trains_the_same_model(container, spelling):
    """To the bit, in shuffled batches, whatever holds the columns."""
    y, both = CONTAINERS[container]
    assert_array_equal(flat(model(both, spelling).fit(X, y)), flat(model().fit(X, COLUMNS)))


@pytest.mark.parametrize("container", CONTAINERS)
def test_callables_receive_rows_of_what_was_given(container):
    """In each call y is read-only, of the kind and the fields that were given, and the user's own is as before."""
    y, both = CONTAINERS[container]
    before = copy.deepcopy(y)
    given = np.array(y) if isinstance(y, list) and isinstance(y[0], np.void) else y
    dtype = getattr(given, "dtype", np.dtype(float))
    seen = []

    def watching(params, X, y, sample_weight=None):
        seen.append((type(y), y.dtype, y.flags.writeable, len(y) == len(X)))
        return both(params, X, y, sample_weight)

    watched = model(watching, early_stopping=True, optimizer="adam")
    watched.fit(X, y)
    watched.partial_fit(X, y) if not watched.set_params(early_stopping=False).early_stopping else None
    watched.fit_chunks([(X[:50], y[:50]), (X[50:], y[50:])])
    watched.set_params(optimizer="lbfgs", max_iter=1, tol=1.0, batch_size="auto").fit(X, y)
    check_gradient(watched, X, y)
    kind = type(given) if isinstance(given, np.recarray) else np.ndarray
    assert {entry[0] for entry in seen} == {kind}
    assert {entry[1] for entry in seen} == {dtype}
    assert {entry[2:] for entry in seen} == {(False, True)}
    pd.testing.assert_frame_equal(y, before) if isinstance(y, pd.DataFrame) else assert_array_equal(y, before)


def test_plain_numbers_have_the_dtype_of_X_and_fields_their_own():
    """Single precision is kept where X has it; nobody's fields are rounded."""
    seen = set()

    def watching(params, X, y):
        seen.add(y.dtype)
        return weibull(params, X, *((y["time"], y["event"]) if y.dtype.names else y.T))

    for y in (COLUMNS, COLUMNS.astype(int) + 1, RECORDS):
        model(watching, check_gradient=False).fit(X.astype(np.float32), y)
    assert seen == {np.dtype(np.float32), RECORDS.dtype}


NUMBERED = np.rec.fromarrays([np.arange(N), np.full(N, 0.5)], names="row, half")


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("way", ["fit", "chunks", "partial_fit", "early_stopping", "X_val", "lbfgs"])
def test_rows_of_y_stay_with_their_rows_of_X(way, weighted):
    """Shuffled, split, held out, weighted, in chunks: a record belongs to the row that it came with."""
    numbers = np.arange(N, dtype=float)[:, None]
    weight = np.where(np.arange(N) % 3, 1.0, 0.0) if weighted else None
    seen = []

    def matched(params, X, y, sample_weight=None):
        assert_array_equal(X[:, 0], y.row)
        assert sample_weight is None or (sample_weight[y.row % 3 == 0] == 0).all()
        seen.extend(y.row)
        return 0.5 * params["w"] ** 2, {"w": params["w"]}

    estimator = AnalyticRegressor(
        lambda params, X: X[:, 0] * params["w"], loss_and_gradient=matched, init={"w": 1.0}, batch_size=10, max_iter=2,
        tol=None, check_gradient=False, early_stopping=way in ("early_stopping", "X_val"), additive=True,
        optimizer="lbfgs" if way == "lbfgs" else "adam",
    )  # fmt: skip
    if way == "lbfgs":
        estimator.set_params(batch_size="auto", tol=1e-6, max_iter=50)
    if way == "chunks":
        parts = np.array_split(np.arange(N), 3)
        chunks = [(numbers[p], NUMBERED[p], *([] if weight is None else [weight[p]])) for p in parts]
        estimator.fit_chunks(chunks)
    elif way == "partial_fit":
        estimator.partial_fit(numbers, NUMBERED, sample_weight=weight)
    else:
        held_out = {"X_val": numbers[:9], "y_val": NUMBERED[:9]} if way == "X_val" else {}
        estimator.fit(numbers, NUMBERED, sample_weight=weight, **held_out)
    counted = set(range(N)) if weight is None else set(np.flatnonzero(weight))
    assert counted <= set(seen)


def test_weights_count_rows_of_records():
    """A row of weight 2 is a row that is there twice."""
    twice = np.repeat(np.arange(N), np.arange(N) % 2 + 1)
    settings = {"optimizer": "lbfgs", "batch_size": "auto", "max_iter": 200, "tol": 1e-9}
    weighted = model(of_records, **settings).fit(X, RECORDS, sample_weight=np.arange(N) % 2 + 1)
    assert_allclose(flat(weighted), flat(model(of_records, **settings).fit(X[twice], RECORDS[twice])), rtol=1e-5)


# Predictions.


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_predict_returns_what_forward_returned(shape, spelling):
    """One score a row or several: neither a link nor the shape of y is put on them."""

    def several(params, X):
        return np.multiply.outer(log_scale(params, X), np.ones(shape))

    fitted = model(spelling=spelling).set_params(forward=several).fit(X, COLUMNS[:, [0, 1, 1, 0]])
    assert_array_equal(fitted.predict(X), several(fitted.params_, X))
    assert fitted.n_outputs_ == 4


def test_a_link_that_is_named_beside_loss_and_gradient_is_applied():
    """`loss_and_gradient` trains; the loss by name says on which scale `forward` predicts."""
    fitted = model(loss="poisson").fit(X, COLUMNS)
    assert_allclose(fitted.predict(X), np.exp(log_scale(fitted.params_, X)))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_predictions_keep_one_shape(spelling):
    """A `forward` that returns another one for a single row is told so."""

    def fickle(params, X):
        prediction = log_scale(params, X)
        return prediction if len(X) > 1 else prediction[:, None]

    fitted = model(of_records, spelling).set_params(forward=fickle).fit(X, RECORDS)
    with pytest.raises(
        ParameterStructureError, match=r"shape \(1, 1\); at the start of fit it had shape \(n_samples,\)"
    ):
        fitted.predict(X[:1])


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
@pytest.mark.parametrize("spelling", ["loss_and_gradient", "None"])
def test_what_can_be_compared_is_as_ever(spelling, shape):
    """Predictions that go with y have its shape in `predict`, and must keep it: a loss by name or R² compares them."""
    y = np.multiply.outer(TIME, np.ones(shape))

    def both(params, X, y):
        residual = linear_forward(params, X) - y.reshape(len(X), -1)
        return 0.5 * float((residual**2).sum()) / len(X), linear_vjp(params, X)[1](residual / len(X))

    def fickle(params, X):
        prediction = linear_forward(params, X)
        return prediction if len(X) > 1 else np.hstack([prediction, prediction])

    form = {"loss_and_gradient": both} if spelling == "loss_and_gradient" else {"gradient": gradient_of_pair(both)}
    given = {} if spelling == "loss_and_gradient" else {"loss": None}
    fitted = AnalyticRegressor(fickle, init=linear_init, **form, **given, early_stopping=True, max_iter=2, tol=None)
    fitted.fit(X, y)
    assert fitted.predict(X).shape == y.shape
    assert fitted.validation_scores_[-1] <= 1
    assert fitted.score(X, y) <= 1
    with pytest.raises(ParameterStructureError, match="but y has shape"):
        fitted.predict(X[:1])


def gradient_of_pair(both):
    return lambda params, X, y: both(params, X, y)[1]


def test_init_is_told_the_columns_or_fields_of_y():
    """`n_outputs` counts what a row of y has beside one another; `init` may look at y itself."""
    told = []

    def init(n_features, n_outputs, y):
        told.append((n_outputs, y.shape, y.dtype.names))
        return start(n_features)

    for y, both in ((COLUMNS, of_columns), (RECORDS, of_records)):
        fitted = model(both).set_params(init=init).fit(X, y)
        assert fitted.n_outputs_ == 2
    assert told == [(2, (N, 2), None), (2, (N,), ("event", "time"))]


# Scores.


@pytest.mark.parametrize("spelling", ["loss", "loss_and_gradient", "loss_and_gradient, None"])
@pytest.mark.parametrize("container", ["array", "records", "recarray", "several axes"])
def test_held_out_rows_are_scored_by_the_loss(container, spelling):
    """Minus its mean, as nothing else relates y to predictions; also a single row, where y is no outputs for sure."""
    y, both = CONTAINERS[container]
    held_out = np.arange(N) < (2 if (container, spelling) == ("array", "loss_and_gradient") else 1)
    stopped = model(both, spelling, early_stopping=True)
    stopped.fit(X[~held_out], y[~held_out], X_val=X[held_out], y_val=y[held_out])
    value, _ = both(stopped.params_, X[held_out], y[held_out])
    assert_allclose(max(stopped.validation_scores_), -value)


@pytest.mark.parametrize("rows", ["X_val", "chunks", "fraction"])
def test_a_scorer_gets_y_as_it_came(rows):
    """Records with their fields, and what `forward` returned."""
    seen = []

    def concordance(estimator, X, y):
        predicted = estimator.predict(X)
        assert predicted.shape == (len(X),) == y.shape
        seen.append(len(X))
        earlier = (y.time[:, None] < y.time) & y.event[:, None]
        return float((predicted[:, None] < predicted)[earlier].mean())

    records = RECORDS.view(np.recarray)
    stopped = model(of_attributes, early_stopping=True, scoring=concordance, max_iter=20)
    if rows == "chunks":
        stopped.fit_chunks([(X[i::4], records[i::4]) for i in range(4)])
    else:
        given = {"X_val": X[:30], "y_val": records[:30]} if rows == "X_val" else {}
        stopped.fit(X, records, **given)
    assert set(seen) == {12 if rows == "fraction" else 30}
    assert stopped.best_validation_score_ > 0.6


def test_without_a_loss_there_is_nothing_to_score_records_by():
    """The gradient alone gives no number; a scorer does."""
    with pytest.raises(ValueError, match="There is no loss, because gradient was given with loss=None"):
        model(of_records, "None", early_stopping=True).fit(X, RECORDS)
    scored = model(of_records, "None", early_stopping=True, scoring=lambda estimator, X, y: -y["time"].sum())
    assert scored.fit(X, RECORDS).validation_scores_


@pytest.mark.parametrize("container", ["array", "frame", "records", "recarray"])
def test_searches_and_pipelines_pass_it_on(container):
    """scikit-learn picks rows out of arrays, frames and records alike."""
    y, both = CONTAINERS[container]

    def scorer(estimator, X, y):
        return -both(fitted_part(estimator).params_, X, y.to_numpy(float) if isinstance(y, pd.DataFrame) else y)[0]

    def fitted_part(estimator):
        return estimator[-1] if hasattr(estimator, "steps") else estimator

    folds = KFold(3)
    survival = model(both, max_iter=30)
    scores = cross_val_score(survival, X, y, cv=folds, scoring=scorer)
    expected = [
        scorer(clone(survival).fit(X[train], COLUMNS_OF[container](y, train)), X[test], COLUMNS_OF[container](y, test))
        for train, test in folds.split(X)
    ]
    assert_array_equal(scores, expected)
    search = GridSearchCV(survival, {"alpha": [0.0, 100.0]}, scoring=scorer, cv=folds).fit(X, y)
    assert search.best_params_ == {"alpha": 0.0}
    assert cross_val_predict(survival, X, y, cv=folds).shape == (N,)
    X_train, X_test, y_train, _ = train_test_split(X, y, random_state=0)
    assert make_pipeline(StandardScaler(), survival).fit(X_train, y_train).predict(X_test).shape == (30,)


COLUMNS_OF = {
    "array": lambda y, rows: y[rows],
    "frame": lambda y, rows: y.iloc[rows],
    "records": lambda y, rows: y[rows],
    "recarray": lambda y, rows: y[rows],
}


# What is refused.


def fields(**columns):
    """Records of columns, object ones too."""
    made = np.zeros(N, [(name, np.asarray(values).dtype) for name, values in columns.items()])
    for name, values in columns.items():
        made[name] = values
    return made


MASK = np.arange(N)[:, None] < 1
REFUSED = {
    "text": (np.full((N, 2), "a"), ValueError, "could not convert string"),
    "objects": (np.full((N, 2), "a", object), ValueError, "could not convert string"),
    "ragged": ([[1.0, 2.0]] * (N - 1) + [[1.0]], ValueError, "inhomogeneous"),
    "sparse": (scipy.sparse.csr_matrix(COLUMNS), TypeError, r"Sparse data was passed for y.* y.toarray\(\)"),
    "too few": (COLUMNS[1:], ValueError, "inconsistent numbers of samples"),
    "too few records": (RECORDS[1:], ValueError, "inconsistent numbers of samples"),
    "too few matrices": (np.zeros((N - 1, 2, 2)), ValueError, "inconsistent numbers of samples"),
    "one record": (RECORDS[0], TypeError, "expected a sequence|at least 1 dimension|Singleton"),
    "a dict": (
        {"time": TIME, "event": EVENT},
        TypeError,
        "y is a dict; it must be an array with one row per sample.*fromarrays",
    ),
    "dates": (np.full((N, 2), np.datetime64("2020")), ValueError, "y has dates or times"),
    "dates of more axes": (np.full((N, 2, 2), np.datetime64("2020")), ValueError, "y has dates or times"),
    "a field of dates": (fields(at=np.full(N, np.datetime64("2020"))), ValueError, r"y\['at'\] has dates or times"),
    "a field of text": (fields(time=TIME, id=["a"] * N), ValueError, r"y\['id'\] has dtype <U1; .* fit\(X, y, name="),
    "a field of objects": (fields(id=np.full(N, "a", object)), ValueError, r"y\['id'\] has dtype object"),
    "a complex field": (fields(z=TIME * 1j), ValueError, r"y\['z'\] has dtype complex128; .* real|numbers"),
    "a field within a field": (np.zeros(N, [("a", [("b", "U3")])]), ValueError, r"y\['a'\]\['b'\] has dtype <U3"),
    "no fields": (np.zeros(N, []), ValueError, "y has no fields"),
    "complex": (COLUMNS * 1j, ValueError, "Complex data not supported"),
    "NaN": (np.where(MASK, np.nan, COLUMNS), ValueError, "Input y contains NaN"),
    "infinity": (np.where(MASK, np.inf, COLUMNS), ValueError, "Input y contains infinity"),
    "NaN in matrices": (np.full((N, 2, 2), np.nan), ValueError, "Input y contains NaN"),
    "masked": (np.ma.masked_array(COLUMNS, np.hstack([MASK, MASK])), ValueError, "y is a masked array"),
    "masked records": (np.ma.masked_array(RECORDS, mask=[(True, False)] * N), ValueError, "y is a masked array"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_row_of_numbers_is_refused(case, spelling):
    """Before any function runs, with words that say which field it is and what to do."""

    def never(params, X, y, sample_weight=None):
        raise AssertionError("called")

    y, error, message = REFUSED[case]
    with pytest.raises(error, match=f"(?s){message}"):
        model(never, spelling).fit(X, y)


@pytest.mark.parametrize(("case", "note"), [
    ("text", "y must contain numbers. Encode text"),
    ("ragged", "The rows of y have between 1 and 2 values"),
    ("NaN", "pass a structured array, np.rec.fromarrays"),
    ("infinity", "pass a structured array, np.rec.fromarrays"),
])  # fmt: skip
def test_notes_say_what_to_do(case, note):
    """Where scikit-learn's message does not."""
    y, error, _ = REFUSED[case]
    with pytest.raises(error) as caught:
        model().fit(X, y)
    assert any(note in line for line in caught.value.__notes__)


def test_nothing_masked_is_no_masked_array():
    """One without a masked value is the array that it holds."""
    for y, both in ((COLUMNS, of_columns), (RECORDS, of_records)):
        assert_array_equal(flat(model(both).fit(X, np.ma.masked_array(y))), flat(model(both).fit(X, y)))


def test_infinite_and_missing_values_of_fields_are_the_losses_own_business():
    """Intervals without an end, whose likelihood is that of survival; a response that is missing counts for nothing."""
    y = np.rec.fromarrays([TIME, np.where(EVENT, TIME * 1.5, np.inf)], names="lower, upper")
    y.lower[:5] = np.nan

    def intervals(params, X, y):
        known = ~np.isnan(y.lower)
        rate = np.exp(-log_scale(params, X)) * known
        lower, gap = np.where(known, y.lower, 0.0), np.where(np.isinf(y.upper) | ~known, 0.0, y.upper - y.lower)
        has_end = gap > 0
        ratio = np.where(has_end, rate * gap / np.expm1(np.where(has_end, rate * gap, 1.0)), 0.0)
        loss = rate * lower - np.log(np.where(has_end, -np.expm1(-rate * gap), 1.0))
        d = -(rate * lower - ratio) / len(X)
        return loss.mean(), {"coef": X.T @ d, "intercept": d.sum(), "log_rho": 0.0 * params["log_rho"]}

    fitted = model(intervals, optimizer="lbfgs", batch_size="auto", max_iter=100, tol=1e-8, fixed=["log_rho"]).fit(X, y)
    known = y[5:]
    alone = clone(fitted).fit(X[5:], known)
    assert_allclose(flat(fitted), flat(alone), rtol=1e-4, atol=1e-6)
    assert fitted.gradient_report_.ok


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_loss_that_does_not_expect_them_says_where_it_is_not_finite(optimizer):
    """A time that is missing by mistake makes the loss NaN; the error tells of y."""
    y = RECORDS.copy()
    y["time"][3] = np.nan
    with pytest.raises(DivergenceError, match="not finite .* Fields of y have NaN or infinity in 1 of 120 samples"):
        model(of_records, optimizer=optimizer, batch_size="auto").fit(X, y)


BY_NAME = {
    "default": {},
    "gradient": {"gradient": lambda params, X, y: params},
    "vjp": {"vjp": linear_vjp},
    "jacobian": {"jacobian": linear_jacobian},
}


@pytest.mark.parametrize("loss", ["squared_error", get_loss("huber")], ids=["name", "object"])
@pytest.mark.parametrize("form", BY_NAME)
def test_a_loss_by_name_compares(form, loss):
    """Its y has the shape of predictions, and no fields: one that does not go with `forward` is an error, as ever."""
    one = {"forward": lambda params, X: X[:, 0], "init": linear_init} if BY_NAME[form] else {}
    estimator = AnalyticRegressor(**one, **BY_NAME[form], loss=loss)
    with pytest.raises(ValueError, match="y has the fields event, time, which a named loss cannot .* y\\['event'\\]"):
        estimator.fit(X, RECORDS)
    with pytest.raises(ValueError, match="Found array with dim 3"):
        estimator.fit(X, np.zeros((N, 2, 2)))
    if one:
        with pytest.raises(ParameterStructureError, match=rf"\({N},\), but y has shape \({N}, 2\). They must agree"):
            estimator.fit(X, COLUMNS)


# Chunks, and fits that go on.


def test_chunks_of_records_train_like_their_rows():
    """One chunk gives what `fit` gives; several are summed by a full-batch method."""
    settings = {"optimizer": "lbfgs", "batch_size": "auto", "max_iter": 100, "tol": 1e-9}
    whole = model(of_records, **settings).fit(X, RECORDS)
    chunks = [{"X": X[part], "y": RECORDS[part]} for part in np.array_split(np.arange(N), 3)]
    assert_allclose(flat(model(of_records, **settings).fit_chunks(chunks)), flat(whole), rtol=1e-6)
    one = model(of_records).fit_chunks([(X, RECORDS)])
    assert_array_equal(flat(one), flat(model(of_records).fit(X, RECORDS)))


OTHERS = {
    "other fields": (RECORDS[["event"]], r"y has the fields event \(bool\), but .* event \(bool\), time \(float64\)"),
    "another dtype": (RECORDS.astype([("event", int), ("time", float)]), r"y has the fields event \(int64\), time"),
    "another order": (RECORDS.astype([("time", float), ("event", bool)])[["time", "event"]], "y has the fields time"),
    "no fields": (TIME, r"y has no fields, but the y that training began with had the fields event \(bool\), time"),
    "another shape": (COLUMNS, r"y has shape \(120, 2\), but the y that training began with had shape \(n_samples,\)"),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("way", ["chunks", "partial_fit", "warm_start", "y_val"])
def test_y_stays_what_training_began_with(way, case):
    """In later chunks, later fits and held-out rows: the same fields of the same dtypes, in their order."""
    y, message = OTHERS[case]
    estimator = model(of_records, early_stopping=way == "y_val")
    if way in ("partial_fit", "warm_start"):
        estimator.set_params(warm_start=True).partial_fit(X, RECORDS)
    again = {
        "chunks": lambda: estimator.fit_chunks([(X, RECORDS), (X, y)]),
        "y_val": lambda: estimator.fit(X, RECORDS, X_val=X, y_val=y),
        "partial_fit": lambda: estimator.partial_fit(X, y),
        "warm_start": lambda: estimator.fit(X, y),
    }
    with pytest.raises(ValueError, match=message):
        again[way]()


def test_a_fit_goes_on_with_records():
    """partial_fit and warm_start go on from where they were, with the shape of predictions that they had."""
    going_on = model(of_records, "loss", warm_start=True).fit(X, RECORDS)
    first = flat(going_on)
    again = flat(going_on.fit(X, RECORDS))
    assert (again != first).all()
    assert (flat(going_on.partial_fit(X, RECORDS)) != again).all()
    assert going_on.predict(X).shape == (N,)
    for twin in (pickle.loads(pickle.dumps(model(of_records_pair).fit(X, RECORDS))), copy.deepcopy(going_on)):
        assert twin.predict(X).shape == (N,)


def of_records_pair(params, X, y):
    return weibull(params, X, y["time"], y["event"])


def test_files_of_skops_hold_a_model_of_records(tmp_path):
    """Nothing of the dtype of y needs to be trusted."""
    io = pytest.importorskip("skops.io")
    fitted = AnalyticRegressor(log_scale, loss_and_gradient=of_records_pair, init=start, max_iter=2, tol=None).fit(
        X, RECORDS
    )
    io.dump(fitted, tmp_path / "model.skops")
    trusted = trusted_types(log_scale, of_records_pair, start)
    assert_array_equal(io.load(tmp_path / "model.skops", trusted=trusted).predict(X), fitted.predict(X))


def test_the_loss_may_change_between_fits_that_go_on():
    """What y has to do with predictions is what the present loss makes of it."""
    going_on = model(warm_start=True).fit(X, COLUMNS)
    going_on.set_params(forward=lambda params, X: np.outer(log_scale(params, X), [1.0, 1.0]), check_gradient=False)
    going_on.set_params(loss_and_gradient=None, gradient=gradient_of(of_columns), loss="squared_error")
    assert going_on.fit(X, COLUMNS).predict(X).shape == (N, 2)
    going_on.set_params(forward=log_scale)
    with pytest.raises(ParameterStructureError, match="They must agree"):
        going_on.predict(X) if going_on.fit(X, COLUMNS) else None


def test_the_identity_of_records_is_that_of_their_values():
    """What lies between fields does not count; every field does."""
    dtype = np.dtype(DTYPE, align=True)
    one, other = (np.frombuffer(bytes([fill]) * dtype.itemsize * N, dtype).copy() for fill in (0, 1))
    for padded in (one, other):
        padded["event"], padded["time"] = EVENT, TIME
    assert identity(X, {"y": one}, None) == identity(X, {"y": other}, None)
    other["event"][7] ^= True
    assert identity(X, {"y": one}, None) != identity(X, {"y": other}, None)


def test_a_checkpoint_knows_records(tmp_path):
    """It resumes with the same y, and refuses another one."""
    pytest.importorskip("sklearn.callback")
    path = tmp_path / "model.pkl"

    def checkpointed(**settings):
        return model(of_records_pair, **settings).set_callbacks(Checkpoint(path, resume=True))

    whole = checkpointed().fit(X, RECORDS)
    assert_array_equal(flat(checkpointed().fit(X, RECORDS)), flat(whole))
    other = RECORDS.copy()
    other["event"][3] ^= True
    with pytest.raises(ValueError, match="y"):
        checkpointed().fit(X, other)


# Looking at gradients.


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_right_gradient_is_found_right(container):
    """And so before every fit."""
    y, both = CONTAINERS[container]
    report = check_gradient(model(both), X, y, random_state=0)
    assert report.ok
    assert {finding.verdict for finding in report.findings} == {"right"}
    plain = check_gradient(
        loss=loss_of(both), gradient=gradient_of(both), params=start(2), X=X, y=y if container != "frame" else COLUMNS
    )
    assert plain.ok


@pytest.mark.parametrize("container", ["array", "records"])
def test_the_doctor_reads_fields_as_it_reads_columns(container):
    """Censored rows that are left out of a gradient are told by the field that says so."""
    y, both = CONTAINERS[container]

    def without_censored(params, X, y):
        event = (y["event"] if y.dtype.names else y[:, 1]) > 0
        return both(params, X, y)[0], both(params, X, y, event.astype(float))[1]

    report = check_gradient(model(without_censored), X[:40], y[:40], random_state=0)
    assert not report.ok
    text = str(report)
    assert ("y['event']" if container == "records" else "y[:, 1]") in text


def test_a_function_that_writes_to_records_is_found():
    """The check names y; the user's records are as before."""
    before = RECORDS.copy()

    def writing(params, X, y):
        y["time"] *= 2
        return weibull(params, X, y["time"], y["event"])

    with pytest.raises(ValueError, match=r"(?s)y .*wr(ote|ites|itten)|changes? .*y|modif"):
        model(writing).fit(X, RECORDS)
    assert_array_equal(RECORDS, before)


def test_both_classes_of_a_field_are_among_the_rows_that_are_checked():
    """A single event among many rows is looked at: there a fault would show."""
    y = RECORDS.copy()
    y["event"] = False
    y["event"][77] = True

    def without_events(params, X, y):
        loss, _ = weibull(params, X, y["time"], y["event"])
        return loss, weibull(params, X, y["time"], np.zeros(len(X)))[1]

    with pytest.raises(ValueError, match="is not the derivative of"):
        model(without_events).fit(X, y)


def test_a_loss_of_all_rows_is_detected_with_records():
    """As with any y: batches of Cox's likelihood train another loss, of which a warning tells."""
    own = {"forward": lambda params, X: X @ params, "init": np.zeros(2), "loss_and_gradient": cox_of_records}
    with pytest.warns(UserWarning, match="The loss does not decompose over samples"):
        AnalyticRegressor(**own, batch_size=20, max_iter=1, tol=None).fit(X, RECORDS)


def test_a_sweep_of_learning_rates_takes_records():
    """Like every other look at a training."""
    rates = [find_learning_rate(model(both), X, y, n_steps=20, random_state=0) for y, both in CONTAINERS.values()]
    for sweep in rates[1:]:
        assert_array_equal(sweep.losses, rates[0].losses)


# Losses that receive metadata.


class Exponential(Loss):
    """Censored exponential times: `forward` is the logarithm of the mean."""

    link = "log"

    def __init__(self, share=1.0):
        self.share = share

    def formula(self, y, prediction, event):
        risk = y * np.exp(-prediction)
        return self.share * (risk + event * prediction), self.share * (event - risk)


class ByRow(Exponential):
    """Likewise, by the method that is about whole rows."""

    def value_and_derivative(self, y, prediction, event):
        return super().value_and_derivative(y, prediction, event=event)


def exponential(params, X, y, event, sample_weight=None):
    share = np.full(len(X), 1 / len(X)) if sample_weight is None else sample_weight / len(X)
    score = linear_forward(params, X)[:, 0]
    risk = y * np.exp(-score)
    return share @ (risk + event * score), linear_vjp(params, X)[1]((share * (event - risk))[:, None])


LOSSES = {"formula": Exponential, "value_and_derivative": ByRow}


@pytest.mark.parametrize("way", ["fit", "weighted", "chunks", "partial_fit"])
@pytest.mark.parametrize("form", ["vjp", "jacobian", "default"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_receives_the_metadata_that_it_names(loss, form, way):
    """Batch by batch, as a callable does: the training is that of `loss_and_gradient` with the same events."""
    zero = {"init": {"coef": np.zeros((2, 1)), "intercept": np.zeros(1)}}
    functions = {"vjp": {"vjp": linear_vjp}, "jacobian": {"jacobian": linear_jacobian}, "default": zero}[form]
    own = {"forward": linear_forward, "init": linear_init}
    settings = {"batch_size": 16, "max_iter": 3, "tol": None, "random_state": 0}
    ours = AnalyticRegressor(**(functions if form == "default" else own | functions), loss=LOSSES[loss](), **settings)
    theirs = AnalyticRegressor(**own, loss_and_gradient=exponential, **settings)
    for estimator in (ours, theirs):
        if way == "chunks":
            estimator.fit_chunks([{"X": X[p], "y": TIME[p], "event": EVENT[p]} for p in (slice(50), slice(50, None))])
        elif way == "partial_fit":
            estimator.partial_fit(X, TIME, event=EVENT)
        else:
            weight = np.arange(N) % 3 + 0.5 if way == "weighted" else None
            estimator.fit(X, TIME, sample_weight=weight, event=EVENT)
    assert_allclose(flat(ours), flat(theirs), rtol=1e-10, atol=1e-14)
    assert_allclose(ours.predict(X), np.exp(X @ flat(ours)[:2] + flat(ours)[2]))


@pytest.mark.parametrize("loss", LOSSES)
def test_metadata_of_losses_are_bound_like_those_of_callables(loss):
    """Misspelt, absent or a constant of all rows: one mechanism and one set of messages."""
    estimator = AnalyticRegressor(loss=LOSSES[loss](), optimizer="lbfgs")
    with pytest.raises(ReceivedArgumentError, match=f"{loss} has an argument 'event' that is not provided. .*fit: ev"):
        estimator.fit(X, TIME)
    with pytest.raises(ReceivedArgumentError, match="Metadata 'evnt' was passed, .* Did you mean 'event'"):
        estimator.fit(X, TIME, evnt=EVENT)
    with pytest.raises(ValueError, match="event has 119 rows, but X has 120"):
        estimator.fit(X, TIME, event=EVENT[1:])
    everybody = clone(estimator).fit(X, TIME, event=np.ones(N))
    constant = clone(estimator).set_params(model_params={"event": 1.0}).fit(X, TIME)
    assert_allclose(constant.coef_, everybody.coef_)
    with pytest.raises(ReceivedArgumentError, match="model_params has 'evnt', which no callable accepts"):
        clone(estimator).set_params(model_params={"evnt": 1.0}).fit(X, TIME, event=EVENT)


def test_losses_that_name_nothing_receive_nothing():
    """Names in a library's own losses, in ``*args`` or hidden by a decorator are none."""

    class Hidden(Loss):
        formula = staticmethod(lambda *args: (0.5 * (args[1] - args[0]) ** 2, args[1] - args[0]))

    plain = AnalyticRegressor(max_iter=2, tol=None, random_state=0)
    hidden = clone(plain).set_params(loss=Hidden()).fit(X, TIME)
    assert_array_equal(flat(hidden), flat(plain.fit(X, TIME)))
    for estimator in (hidden, plain):
        with pytest.raises(ReceivedArgumentError, match="Metadata 'event' was passed"):
            estimator.fit(X, TIME, event=EVENT)


def test_metadata_of_losses_are_routed():
    """Requested by name from fit; a search passes the rows of each fold, and reaches the loss's own parameters."""
    with config_context(enable_metadata_routing=True):
        estimator = AnalyticRegressor(loss=Exponential(), optimizer="lbfgs")
        requests = estimator.get_metadata_routing()
        assert "event" in requests.fit.requests
        assert "event" not in requests.predict.requests
        estimator.set_fit_request(event=True)
        search = GridSearchCV(estimator, {"loss__share": [1.0, 2.0]}, cv=3, scoring="r2").fit(X, TIME, event=EVENT)
        expected = clone(estimator).set_params(**search.best_params_).fit(X, TIME, event=EVENT)
        assert_allclose(search.best_estimator_.coef_, expected.coef_)


def test_held_out_rows_come_with_the_metadata_of_the_loss():
    """What the score by the loss needs of the rows of X_val is asked for by its name there."""

    def both(params, X, y, event):
        return weibull(params, X, y[:, 0], event)

    stopped = AnalyticRegressor(
        log_scale, loss_and_gradient=both, init=start, early_stopping=True, max_iter=2, tol=None
    )
    with pytest.raises(ValueError, match="event is passed for the samples of X; also pass event_val"):
        stopped.fit(X, COLUMNS, event=EVENT, X_val=X, y_val=COLUMNS)
    stopped.fit(X, COLUMNS, event=EVENT, X_val=X, y_val=COLUMNS, event_val=EVENT)
    assert_allclose(max(stopped.validation_scores_), -both(stopped.params_, X, COLUMNS, EVENT)[0])


def test_a_loss_with_metadata_is_pickled_copied_and_goes_on():
    """It is bound to the copy's own loss, not to the original's."""
    fitted = AnalyticRegressor(loss=Exponential(), max_iter=2, tol=None, random_state=0).fit(X, TIME, event=EVENT)
    twins = [pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted), copy.copy(fitted)]
    expected = flat(fitted.partial_fit(X, TIME, event=EVENT))
    for twin in twins:
        assert_array_equal(flat(twin.partial_fit(X, TIME, event=EVENT)), expected)


def test_losses_with_metadata_can_be_called_alone():
    """`value` and `derivative` take them by name too."""
    loss = Exponential()
    prediction = X[:, 0]
    values, derivative = loss.value_and_derivative(TIME, prediction, event=EVENT)
    assert_array_equal(loss.value(TIME, prediction, event=EVENT), values)
    assert_array_equal(loss.derivative(TIME, prediction, EVENT), derivative)
    step = 1e-6
    slopes = (loss.value(TIME, prediction + step, EVENT) - loss.value(TIME, prediction - step, EVENT)) / (2 * step)
    assert_allclose(derivative, slopes, rtol=1e-6, atol=1e-6)


def test_a_wrong_gradient_of_a_loss_with_metadata_is_diagnosed():
    """The doctor has the derivative of such a loss at hand, metadata included."""

    def flipped(params, X):
        prediction, pullback = linear_vjp(params, X)
        return prediction, lambda d: {"W": -pullback(d)["W"], "b": pullback(d)["b"]}

    wrong = AnalyticRegressor(linear_forward, vjp=flipped, init=linear_init, loss=Exponential())
    report = check_gradient(wrong, X[:40], TIME[:40], event=EVENT[:40], random_state=0)
    assert [(f.block, f.cause) for f in report.findings if f.verdict == "wrong"] == [("W", "sign")]


# scikit-learn's checks, which pass plain y.


LINEAR = {
    "loss": {"gradient": linear_gradient, "loss": linear_loss},
    "loss_and_gradient, None": {"loss_and_gradient": linear_squared_error, "loss": None},
    "None": {"gradient": linear_gradient, "loss": None},
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("spelling", LINEAR)
def test_checks_of_scikit_learn_pass_for_losses_of_ones_own(spelling):
    """Their y is that of any regressor."""

    estimator = AnalyticRegressor(linear_forward, init=linear_init, **LINEAR[spelling])
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = [result for result in results if result["status"] not in ("passed", "skipped")]
    assert [(result["check_name"], result["exception"]) for result in failed] == []


def test_a_loss_that_names_the_scale_alone_refuses_no_y():
    """Beside `loss_and_gradient` it is not trained, and its domain is not that of y."""

    def both(params, X, y):
        residual = X @ params - y.sum(axis=1)
        return float(residual @ residual) / (2 * len(X)), X.T @ residual / len(X)

    y = np.column_stack([TIME, -np.ones(N)])
    fitted = AnalyticRegressor(lambda params, X: X @ params, loss_and_gradient=both, init=np.zeros(2), loss="gamma")
    assert np.isfinite(fitted.fit(X, y).mean_loss(X, y))


def test_what_is_scored_is_no_other_training():
    """The advice to train anew is for `fit`."""
    fitted = AnalyticRegressor().fit(X, TIME)
    with pytest.raises(ValueError, match="had shape .* Score with targets like those"):
        fitted.mean_loss(X, COLUMNS)
