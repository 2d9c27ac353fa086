"""Losses: their mathematics, at the extremes too, against scikit-learn's; and their names."""

import decimal
import inspect
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import sklearn._loss.loss as theirs
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sk_analytic import losses
from sk_analytic.losses import (
    LOSSES,
    AbsoluteError,
    Gamma,
    Huber,
    LogLoss,
    Loss,
    NegativeLogLikelihood,
    Poisson,
    Quantile,
    SquaredError,
    Tweedie,
    get_loss,
    get_loss_names,
)

POWERS = [-1.5, 0, 1, 1.2, 1.5, 1.9, 2, 2.5, 3]
TWEEDIES = [Tweedie(power, link) for power in POWERS for link in ("log", "identity")]
CASES = [cls() for cls in LOSSES.values()] + [
    Huber(epsilon=0.3),
    Quantile(quantile=0.9),
    Poisson(link="identity"),
    Gamma(link="identity"),
    *TWEEDIES,
]
ELEMENTWISE = [loss for loss in CASES if not isinstance(loss, NegativeLogLikelihood)]
DTYPES = [np.float32, np.float64]
SHAPES = [(40,), (40, 1), (40, 3)]
# The range of y that a domain stands for in the tests.
USUAL = {"(-inf, inf)": (-3, 3), "[0.0, inf)": (0, 4), "[0, inf)": (0, 4), "(0, inf)": (0.1, 4), "[0, 1]": (0, 1)}


def draw_y(loss, shape, rng):
    if loss.domain is None:
        return None
    domain = str(loss.domain)
    assert domain in USUAL, f"Add to USUAL the usual range of y in {domain}, the domain of {type(loss).__name__}."
    return rng.uniform(*USUAL[domain], size=shape)


def draw_prediction(loss, shape, rng):
    """A prediction at which the loss is smooth: positive where it has to be a mean."""
    is_mean = isinstance(loss, Tweedie) and loss.link == "identity"
    return rng.uniform(0.3, 3, size=shape) if is_mean else rng.normal(size=shape)


def draw_case(loss, shape, rng):
    return draw_y(loss, shape, rng), draw_prediction(loss, shape, rng)


def central_difference(function, step=1e-5):
    return (function(step) - function(-step)) / (2 * step)


def per_row_dot(a, b):
    return (a * b).reshape(len(a), -1).sum(axis=1)


# ---- mathematics ----


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("loss", CASES, ids=repr)
def test_derivative_is_the_slope_of_the_value(loss, shape, rng):
    """Along any direction, the derivative of each row equals the central difference of its value."""
    y, prediction = draw_case(loss, shape, rng)
    along = rng.normal(size=shape)
    slope = central_difference(lambda step: loss.value(y, prediction + step * along))
    assert_allclose(per_row_dot(loss.derivative(y, prediction), along), slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_multinomial_derivative_is_the_slope_of_the_value(n_classes, rng):
    """The same holds where y is a class index and the prediction a row of scores."""
    y, prediction = rng.integers(n_classes, size=40), rng.normal(scale=3, size=(40, n_classes))
    along = rng.normal(size=prediction.shape)
    slope = central_difference(lambda step: LogLoss().value(y, prediction + step * along))
    assert_allclose(per_row_dot(LogLoss().derivative(y, prediction), along), slope, rtol=1e-7, atol=1e-8)


def perfect(loss, y):
    """The prediction whose inverse link is y."""
    links = {"identity": lambda: y, "log": lambda: np.log(y), "logit": lambda: np.log(y / (1 - y))}
    assert loss.link in links, f"Add to `links` the function {loss.link!r}, the link of {type(loss).__name__}."
    return links[loss.link]()


@pytest.mark.parametrize("loss", ELEMENTWISE, ids=repr)
def test_a_perfect_prediction_is_the_minimum(loss):
    """Where the inverse link of the prediction is y, the derivative is 0 and the value is least."""
    y = np.array([0.2, 0.5, 0.9])
    prediction = perfect(loss, y)
    values, derivative = loss.value_and_derivative(y, prediction)
    assert_allclose(loss.inverse_link(prediction), y)
    assert_allclose(derivative, 0, atol=1e-13)
    assert (values < loss.value(y, prediction + 0.05)).all()
    assert (values < loss.value(y, prediction - 0.05)).all()


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.8])
def test_pinball_loss_is_least_at_the_quantile(quantile, rng):
    """Among the values that y takes, its quantile has the smallest mean loss."""
    y = rng.normal(size=1001)
    means = [Quantile(quantile=quantile).value(y, np.full_like(y, at)).mean() for at in y]
    assert y[np.argmin(means)] == np.quantile(y, quantile, method="inverted_cdf")


@pytest.mark.parametrize("loss", CASES, ids=repr)
def test_a_row_is_the_sum_over_its_outputs(loss, rng):
    """For several outputs, values add over the columns and derivatives stand side by side."""
    y, prediction = draw_case(loss, (40, 3), rng)
    columns = [loss.value_and_derivative(None if y is None else y[:, j], prediction[:, j]) for j in range(3)]
    values, derivative = loss.value_and_derivative(y, prediction)
    assert values.shape == (40,)
    assert_allclose(values, sum(column[0] for column in columns))
    assert_allclose(derivative, np.column_stack([column[1] for column in columns]))


def test_two_classes_are_the_binary_loss_of_the_difference(rng):
    """With two columns of scores, multinomial equals binary at the difference of the scores."""
    y, scores = rng.integers(2, size=60), rng.normal(scale=5, size=(60, 2))
    two, one = LogLoss().value_and_derivative(y, scores), LogLoss().value_and_derivative(y, scores[:, 1] - scores[:, 0])
    assert_allclose(two[0], one[0], rtol=1e-10, atol=1e-14)
    assert_allclose(two[1], np.column_stack([-one[1], one[1]]), rtol=1e-10, atol=1e-14)


def test_multilabel_is_the_sum_of_binary_losses(rng):
    """A table y of the scores' shape is taken label by label, not as classes."""
    y, scores = rng.integers(2, size=(60, 4)).astype(float), rng.normal(size=(60, 4))
    each = [LogLoss().value(y[:, k], scores[:, k]) for k in range(4)]
    assert_allclose(LogLoss().value(y, scores), np.sum(each, axis=0))


@pytest.mark.parametrize("loss", CASES, ids=repr)
def test_value_and_derivative_alone_are_the_two_halves(loss, rng):
    """`value` and `derivative` give what `value_and_derivative` gives."""
    y, prediction = draw_case(loss, (40,), rng)
    values, derivative = loss.value_and_derivative(y, prediction)
    assert_array_equal(loss.value(y, prediction), values)
    assert_array_equal(loss.derivative(y, prediction), derivative)


@pytest.mark.parametrize(("cls", "power"), [(Poisson, 1), (Gamma, 2)])
@pytest.mark.parametrize("link", ["log", "identity"])
def test_poisson_and_gamma_are_members_of_the_tweedie_family(cls, power, link, rng):
    """Their values are those of `Tweedie` at power 1 and 2, on both links."""
    y, prediction = draw_case(cls(link=link), (40,), rng)
    assert_array_equal(cls(link=link).value(y, prediction), Tweedie(power, link).value(y, prediction))


@pytest.mark.parametrize("loss", [loss for loss in TWEEDIES if loss.link == "log"], ids=repr)
def test_links_differ_by_the_chain_rule(loss, rng):
    """At the same mean, both links have one value; the derivative in the mean is that in its log over the mean."""
    y, log_mean = draw_case(loss, (40,), rng)
    mean = np.exp(log_mean)
    value, derivative = clone(loss).set_params(link="identity").value_and_derivative(y, mean)
    assert_allclose(value, loss.value(y, log_mean), rtol=1e-12)
    assert_allclose(derivative, loss.derivative(y, log_mean) / mean, rtol=1e-11, atol=1e-13)


# ---- against scikit-learn ----

PAIRS = [
    (SquaredError(), theirs.HalfSquaredError()),
    (AbsoluteError(), theirs.AbsoluteError()),
    (Huber(epsilon=0.7), theirs.HuberLoss(delta=0.7)),
    (Quantile(quantile=0.8), theirs.PinballLoss(quantile=0.8)),
    (Poisson(), theirs.HalfPoissonLoss()),
    (Gamma(), theirs.HalfGammaLoss()),
    (LogLoss(), theirs.HalfBinomialLoss()),
    *((loss, theirs.HalfTweedieLoss(power=loss.power)) for loss in TWEEDIES if loss.link == "log"),
    *((loss, theirs.HalfTweedieLossIdentity(power=loss.power)) for loss in TWEEDIES if loss.link == "identity"),
]


@pytest.mark.parametrize(("ours", "reference"), PAIRS, ids=[repr(pair[0]) for pair in PAIRS])
def test_agrees_with_scikit_learn(ours, reference, rng):
    """Gradients are scikit-learn's, values too but for a constant in y."""
    y, prediction = draw_case(ours, (200,), rng)
    other = draw_prediction(ours, (200,), rng)
    values, derivative = ours.value_and_derivative(y, prediction)
    reference_values, reference_derivative = reference.loss_gradient(y, prediction)
    assert_allclose(derivative, reference_derivative, rtol=1e-11, atol=1e-13)
    ours_apart = values - ours.value(y, other)
    assert_allclose(ours_apart, reference_values - reference.loss(y, other), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("dtype", DTYPES)
def test_multinomial_agrees_with_scikit_learn(n_classes, dtype, rng):
    """Values and gradients are those of its multinomial loss, in both precisions."""
    y, scores = rng.integers(n_classes, size=200), rng.normal(size=(200, n_classes)).astype(dtype)
    values, derivative = LogLoss().value_and_derivative(y, scores)
    reference = theirs.HalfMultinomialLoss(n_classes=n_classes).loss_gradient(y.astype(dtype), scores)
    tolerance = 10 * np.finfo(dtype).eps
    assert_allclose(values, reference[0], rtol=tolerance, atol=tolerance)
    assert_allclose(derivative, reference[1], rtol=tolerance, atol=tolerance)


# ---- extremes ----

SCORES = [0.0, 1.0, -1.0, 20.0, -20.0, 80.0, -80.0, 1000.0, -1000.0]


def exact_tweedie(power, y, s):
    """Value and derivative on the log link, in decimal arithmetic, which does not overflow."""
    power, y, s = Decimal(power), Decimal(y), Decimal(s)
    up, down = ((2 - power) * s).exp(), y * ((1 - power) * s).exp()
    if power == 1:
        return up - y * s, up - down
    if power == 2:
        return s + down, up - down
    return up / (2 - power) - down / (1 - power), up - down


def exact_log_loss(y, scores):
    """Value and derivative of one row of scores for a class index, in decimal arithmetic."""
    exponentials = [Decimal(score).exp() for score in scores]
    total = sum(exponentials)
    derivative = [e / total - (k == y) for k, e in enumerate(exponentials)]
    return total.ln() - Decimal(scores[y]), derivative


def assert_equals_exact(results, exact, dtype):
    """Right to a rounding error that grows with the exponent, or infinite where the truth overflows."""
    with np.errstate(over="ignore"):
        expected = np.array([[float(part) for part in row] for row in exact]).astype(dtype)
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    for result, truth in zip(results, expected.T, strict=True):
        assert result.dtype == dtype
        assert_allclose(result, truth, rtol=300 * eps, atol=tiny)


@pytest.fixture
def precise():
    """Enough digits for 1 / (1 + e^1000) - 1."""
    with decimal.localcontext() as context:
        context.prec, context.Emax, context.Emin = 1000, 10**6, -(10**6)
        yield


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", POWERS)
def test_tweedie_family_at_extreme_scores(power, dtype, precise):
    """Up to scores of 1000 either way and at the ends of y's domain: the truth or its overflow, never NaN."""
    ys = [-2.0, 0.0, 3.0] if power <= 0 else [0.0, 0.5, 3.0] if power < 2 else [0.5, 3.0]
    grid = [(y, s) for y in ys for s in SCORES]
    y, s = (np.array(column, dtype=dtype) for column in zip(*grid, strict=True))
    assert_equals_exact(
        Tweedie(power).value_and_derivative(y, s), [exact_tweedie(power, *point) for point in grid], dtype
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_log_loss_at_extreme_scores(dtype, precise):
    """Both tails keep their relative precision, and 1000 is right to the last digit."""
    grid = [(y, s) for y in (0, 1) for s in SCORES]
    exact = [exact_log_loss(y, (0, s)) for y, s in grid]
    y, s = (np.array(column) for column in zip(*grid, strict=True))
    results = LogLoss().value_and_derivative(y, s.astype(dtype))
    assert_equals_exact(results, [(value, derivative[1]) for value, derivative in exact], dtype)
    assert results[0][-2:].tolist() == [0.0, 1000.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scores", [(1000, -1000, 0), (-1000, -1000, -1000), (80, 79, 20), (1000, 1000, 1000)], ids=str)
def test_multinomial_log_loss_at_extreme_scores(scores, dtype, precise):
    """Exponentials are taken of differences to the largest score, so none overflows."""
    exact = [exact_log_loss(y, scores) for y in range(3)]
    values, derivative = LogLoss().value_and_derivative(np.arange(3), np.tile(np.array(scores, dtype=dtype), (3, 1)))
    eps = np.finfo(dtype).eps
    assert_allclose(values, [float(row[0]) for row in exact], rtol=4 * eps, atol=4 * eps)
    assert_allclose(derivative, [[float(d) for d in row[1]] for row in exact], rtol=4 * eps, atol=4 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [SquaredError(), AbsoluteError(), Huber(), Quantile()], ids=repr)
def test_losses_of_the_residual_at_extreme_residuals(loss, dtype):
    """A residual near the largest float gives a right derivative, and a value that is right or infinite."""
    far = dtype(np.finfo(dtype).max / 8)
    y, prediction = np.zeros(2, dtype), np.array([far, -far])
    values, derivative = loss.value_and_derivative(y, prediction)
    slope = {"squared_error": far, "absolute_error": 1, "huber": dtype(1.35), "quantile": 0.5}[loss.name]
    assert_array_equal(derivative, [slope, -slope])
    assert_array_equal(values, [np.inf, np.inf] if loss.name == "squared_error" else [slope * far, slope * far])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("loss", "y", "expected"),
    [
        (Poisson(link="identity"), 0, (0, 1)),
        (Poisson(link="identity"), 2, (np.inf, -np.inf)),
        (Tweedie(1.5, "identity"), 0, (0, np.inf)),
        (Tweedie(1.5, "identity"), 2, (np.inf, -np.inf)),
        (Gamma(link="identity"), 2, (np.inf, -np.inf)),
        (Tweedie(3, "identity"), 2, (np.inf, -np.inf)),
        (Tweedie(0, "identity"), 2, (0, -2)),
    ],
    ids=repr,
)
def test_a_mean_of_zero_has_the_limit_of_the_loss(loss, y, expected, dtype):
    """On the identity link a mean that underflowed to 0 gives the limit from above, not NaN."""
    results = loss.value_and_derivative([y], np.zeros(1, dtype))
    assert tuple(result.item() for result in results) == expected


@pytest.mark.parametrize("loss", [loss for loss in TWEEDIES if loss.link == "identity"], ids=repr)
def test_a_negative_mean_has_no_value(loss):
    """A mean below 0 gives NaN, quietly, for the training loop to report; only the normal distribution admits it."""
    value = loss.value(np.ones(1), np.array([-0.5]))
    assert np.isfinite(value) if loss.power == 0 else np.isnan(value)


@pytest.mark.parametrize("loss", CASES, ids=repr)
def test_a_prediction_that_is_nan_gives_nan(loss):
    """A diverged prediction shows in the value, whatever y is, so that it is not trained on."""
    y = None if loss.domain is None else np.array([1.0, 0.0 if loss.domain.holds(0) else 1.0])
    assert np.isnan(loss.value(y, np.full(2, np.nan))).all()


def test_a_density_of_zero_costs_infinitely_much():
    """A log-density of minus infinity is an infinite loss, and its derivative is still minus 1."""
    values, derivative = NegativeLogLikelihood().value_and_derivative(None, np.array([-np.inf, 2.0]))
    assert values.tolist() == [np.inf, -2.0]
    assert derivative.tolist() == [-1.0, -1.0]


@pytest.mark.parametrize("loss", CASES, ids=repr)
def test_no_rows_are_no_losses(loss):
    """A batch without rows gives empty arrays of the right shapes."""
    y = None if loss.domain is None else np.empty((0, 2))
    values, derivative = loss.value_and_derivative(y, np.empty((0, 2)))
    assert values.shape == (0,)
    assert derivative.shape == (0, 2)


# ---- arrays ----


@pytest.mark.parametrize("y_type", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("loss", CASES, ids=repr)
def test_float32_is_kept(loss, shape, y_type, rng):
    """Results have the prediction's type, whatever y's and the hyperparameters' are."""
    y, prediction = draw_case(loss, shape, rng)
    y = None if y is None else np.ceil(y).astype(y_type)
    wide = clone(loss).set_params(**{k: np.float64(v) for k, v in loss.get_params().items() if not isinstance(v, str)})
    values, derivative = wide.value_and_derivative(y, prediction.astype(np.float32))
    assert values.dtype == derivative.dtype == wide.inverse_link(prediction.astype(np.float32)).dtype == np.float32
    assert_allclose(values, loss.value(y, prediction), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("index_type", [np.int32, np.int64, np.uint8, np.float64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_class_indices_leave_the_type_to_the_scores(index_type, dtype, rng):
    """Indices of any integer type, and whole floats, select the class; results have the scores' type."""
    y, scores = rng.integers(4, size=300), rng.normal(size=(300, 4)).astype(dtype)
    values, derivative = LogLoss().value_and_derivative(y.astype(index_type), scores)
    assert values.dtype == derivative.dtype == dtype
    assert_array_equal(values, LogLoss().value(y, scores))


@pytest.mark.parametrize("loss", CASES, ids=repr)
def test_inputs_are_only_read_and_results_are_new(loss, rng):
    """Read-only arrays are accepted, and the results may be written to without touching them."""
    y, prediction = draw_case(loss, (40, 3), rng)
    for array in (y, prediction):
        if array is not None:
            array.setflags(write=False)
    for result in loss.value_and_derivative(y, prediction):
        assert result.flags.writeable
        assert not np.shares_memory(result, prediction)
        assert y is None or not np.shares_memory(result, y)


@pytest.mark.parametrize("order", ["C", "F"])
def test_multinomial_derivative_is_in_c_order(order, rng):
    """Scores in either order, read-only too, give a derivative in C order."""
    scores = np.asarray(rng.normal(size=(5, 3)), order=order)
    scores.setflags(write=False)
    assert LogLoss().derivative(np.array([0, 1, 2, 0, 1]), scores).flags.c_contiguous


def test_lists_and_integer_predictions_are_taken_as_floats():
    """Nothing is rounded to the integers that the prediction came in."""
    assert SquaredError().value([0.5], [1]).tolist() == [0.125]


@pytest.mark.parametrize(
    ("y_shape", "shape"), [((4,), (4, 1)), ((4, 1), (4,)), ((4, 2), (4, 3)), ((4,), (3,)), ((4,), (5, 3))], ids=str
)
@pytest.mark.parametrize("loss", ELEMENTWISE, ids=repr)
def test_shapes_that_differ_are_never_broadcast(loss, y_shape, shape):
    """The message has both shapes."""
    with pytest.raises(ValueError, match=rf"{loss.name}: y has shape .*{y_shape[-1]}.*, but the prediction has shape"):
        loss.value_and_derivative(np.ones(y_shape), np.ones(shape))


# ---- links and probabilities ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("loss", "expected"),
    [(SquaredError(), [-1000, 0, 1000]), (Poisson(), [0, 1, np.inf]), (LogLoss(), [0, 0.5, 1])],
    ids=repr,
)
def test_inverse_link_at_the_extremes(loss, expected, dtype):
    """The mean has the limits of its link, in the prediction's type, without a warning."""
    mean = loss.inverse_link(np.array([-1000, 0, 1000], dtype=dtype))
    assert mean.dtype == dtype
    assert_array_equal(mean, np.array(expected, dtype=dtype))


@pytest.mark.parametrize("scale", [1, 10, 1000])
@pytest.mark.parametrize("columns", [None, 1, 2, 3, 10, 100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_sum_to_one(dtype, columns, scale, rng):
    """Each row sums to 1 within the rounding of its type, and the largest score is the likeliest class."""
    shape = (500,) if columns is None else (500, columns)
    scores = rng.normal(scale=scale, size=shape).astype(dtype)
    probabilities = LogLoss.probabilities(scores)
    n_classes = max(columns or 1, 2)
    assert probabilities.shape == (500, n_classes)
    assert probabilities.dtype == dtype
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert_allclose(probabilities.sum(axis=1, dtype=np.float64), 1, rtol=n_classes * np.finfo(dtype).eps)
    likeliest = (scores.reshape(-1) > 0).astype(int) if n_classes == 2 and columns != 2 else scores.argmax(axis=1)
    assert_allclose(probabilities[np.arange(500), likeliest], probabilities.max(axis=1))


def test_probabilities_and_the_loss_agree(rng):
    """The loss is minus the logarithm of the probability of the class."""
    y, scores = rng.integers(3, size=50), rng.normal(size=(50, 3))
    assert_allclose(LogLoss().value(y, scores), -np.log(LogLoss.probabilities(scores)[np.arange(50), y]))
    y, scores = rng.integers(2, size=50), rng.normal(size=50)
    assert_allclose(LogLoss().value(y, scores), -np.log(LogLoss.probabilities(scores)[np.arange(50), y]))


# ---- domains ----


@pytest.mark.parametrize("loss", CASES, ids=repr)
def test_a_y_of_the_domain_passes(loss, rng):
    """What lies in the domain, its closed ends too, is not complained about, in one or two dimensions."""
    for shape in SHAPES:
        loss.check_domain(draw_y(loss, shape, rng))
    if loss.domain is not None:
        loss.check_domain(np.array([end for end in (loss.domain.low, loss.domain.high) if loss.domain.holds(end)]))


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (
            Poisson(),
            [0, 2, -1, -3],
            r"poisson: y\[2\] is -1, outside the loss's domain \[0, inf\)\. Correct the sample, or",
        ),
        (Gamma(), [1.0, 0.0], r"gamma: y\[1\] is 0\.0, outside the loss's domain \(0, inf\).*'poisson'.*'tweedie'"),
        (Tweedie(power=1.5), [-0.5], r"tweedie: y\[0\] is -0\.5, outside .*\[0, inf\).*'huber'"),
        (Tweedie(power=3), [0.0], r"tweedie: y\[0\] is 0\.0, outside .*\(0, inf\)"),
        (LogLoss(), [0.0, 2.0], r"log_loss: y\[1\] is 2\.0, outside the loss's domain \[0, 1\].*'squared_error'"),
        (LogLoss(), [0, -1], r"log_loss: y\[1\] is -1, outside"),
        (LogLoss(), [[0, 1], [1, 3]], r"log_loss: y\[1, 1\] is 3, outside"),
        (
            SquaredError(),
            [0.0, np.nan],
            r"squared_error: y\[1\] is nan, outside .*\(-inf, inf\)\. Correct the sample\.$",
        ),
        (Huber(), [np.inf], r"huber: y\[0\] is inf, outside"),
    ],
    ids=str,
)
def test_a_y_outside_the_domain_is_named(loss, y, message):
    """The message has the loss, the first such row, its value, the domain, and losses that would admit all of y."""
    with pytest.raises(ValueError, match=message):
        loss.check_domain(np.array(y))


def test_class_indices_are_in_the_domain_of_the_log_loss():
    """Integers of one dimension are class indices, however many classes there are."""
    LogLoss().check_domain(np.arange(10))


def test_a_loss_without_y_has_no_domain():
    """Densities have no y to look at."""
    assert NegativeLogLikelihood().domain is None
    NegativeLogLikelihood().check_domain(None)


# ---- hyperparameters and names ----


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Huber(epsilon=0), r"Huber: epsilon must be a number in \(0, inf\); got 0"),
        (Huber(epsilon="1"), r"Huber: epsilon must be a number in \(0, inf\); got '1'"),
        (Quantile(quantile=1), r"Quantile: quantile must be a number in \(0, 1\); got 1"),
        (Quantile(quantile=0.0), r"Quantile: quantile must be a number in \(0, 1\); got 0\.0"),
        (Tweedie(power=np.inf), r"Tweedie: power must be a number in \(-inf, inf\); got inf"),
        (Tweedie(power=0.5), r"Tweedie: power must not lie between 0 and 1.*got 0\.5"),
        (Tweedie(link="logit"), r"Tweedie: link must be one of 'log', 'identity'; got 'logit'"),
        (Poisson(link=None), r"Poisson: link must be one of 'log', 'identity'; got None"),
        (Gamma(link="sqrt"), r"Gamma: link must be one of 'log', 'identity'; got 'sqrt'"),
    ],
    ids=repr,
)
def test_a_hyperparameter_outside_its_range_is_named(loss, message):
    """`check` names the loss, the hyperparameter, what is allowed and what came."""
    with pytest.raises(ValueError, match=message):
        loss.check()


@pytest.mark.parametrize("loss", CASES, ids=repr)
def test_losses_are_scikit_learn_objects(loss):
    """Hyperparameters pass their own check and survive `clone`, `get_params` and `set_params`."""
    loss.check()
    assert clone(loss).get_params() == loss.get_params()
    assert type(loss)().set_params(**loss.get_params()).get_params() == loss.get_params()


def test_an_unknown_hyperparameter_is_named():
    """The message has the nearest that exists."""
    with pytest.raises(ValueError, match=r"Huber has no hyperparameter 'epsilom'\. Did you mean 'epsilon'\?"):
        Huber().set_params(epsilom=1)


def test_every_class_has_its_name():
    """The table holds each loss of the module under a name of its own, and nothing else."""
    classes = [c for _, c in inspect.getmembers(losses, inspect.isclass) if issubclass(c, Loss) and c is not Loss]
    assert sorted(LOSSES) == sorted(cls.name for cls in classes) == get_loss_names()
    assert all("name" in vars(cls) and LOSSES[cls.name] is cls for cls in classes)


@pytest.mark.parametrize("name", LOSSES)
def test_a_name_gives_its_loss(name):
    """A name stands for a new object with default hyperparameters; an object stands for itself."""
    loss = get_loss(name)
    assert type(loss) is LOSSES[name]
    assert get_loss(loss) is loss
    assert get_loss(name) is not loss
    assert loss.additive


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            "squared_eror",
            ValueError,
            r"Unknown loss 'squared_eror'\. Did you mean 'squared_error'\? There are: .*'huber'",
        ),
        (Huber, TypeError, r"loss must be a name or an instance of Loss; .*Pass an instance: Huber\(\)"),
        (None, TypeError, r"loss must be a name or an instance of Loss; got None"),
    ],
    ids=str,
)
def test_what_is_no_loss_is_refused(value, error, message):
    """An unknown name, a class and anything else have messages that show the way."""
    with pytest.raises(error, match=message):
        get_loss(value)


# ---- a loss of one's own ----


class LogCosh(Loss):
    """Logarithm of the hyperbolic cosine of the residual, for y above -1."""

    domain = losses.Interval(-1, np.inf)

    def formula(self, y, prediction):
        residual = prediction - y
        return np.logaddexp(residual, -residual), np.tanh(residual)


def test_a_formula_is_a_loss(rng):
    """A class with a formula has row sums, types, checks of shape and domain without another line."""
    y, prediction = rng.normal(size=(2, 40, 3)).astype(np.float32)
    values, derivative = get_loss(LogCosh()).value_and_derivative(y, prediction)
    assert values.shape == (40,)
    assert values.dtype == derivative.dtype == np.float32
    assert LogCosh().inverse_link(prediction) is prediction
    with pytest.raises(ValueError, match=r"LogCosh: y\[1\] is -2\.0, outside the loss's domain \[-1, inf\)"):
        LogCosh().check_domain([0.0, -2.0])


def test_a_loss_without_a_formula_says_so():
    """Forgetting the one method that a loss needs gives its signature."""

    class Nothing(Loss):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing must define formula\(y, prediction\)"):
        Nothing().value([1.0], [1.0])


# ---- documentation ----


@pytest.mark.parametrize("name", LOSSES)
def test_the_documentation_has_every_loss(name):
    """The table of the guide has its class, its formula, its domain, its link and the defaults of its parameters."""
    docs = Path(__file__).parents[1] / "docs"
    assert ".. include:: generated/losses.inc" in (docs / "losses.rst").read_text("utf-8")
    spec = spec_from_file_location("tables", docs / "_extensions" / "tables.py")
    tables = module_from_spec(spec)
    spec.loader.exec_module(tables)
    row = tables.table_of_losses().partition(f'* - :class:`"{name}" <')[2].partition("* -")[0]
    heading, formula, domain, link, _ = (cell.strip() for cell in row.split("\n     - "))
    assert f".losses.{LOSSES[name].__name__}>`" in heading
    assert "" not in (formula, domain)
    assert link == LOSSES[name]().link
    for parameter, default in LOSSES[name]().get_params().items():
        assert f"``{parameter}={default!r}``" in row


@pytest.mark.parametrize("shape", [(50,), (50, 3)], ids=str)
@pytest.mark.parametrize("loss", CASES, ids=repr)
def test_many_rows_are_taken_in_parts(loss, shape, rng, monkeypatch):
    """The last, short part included; class indices go with the rows of their scores."""
    y, prediction = draw_y(loss, shape, rng), draw_prediction(loss, shape, rng)
    targets = [y, rng.integers(0, 3, 50)] if isinstance(loss, LogLoss) and len(shape) == 2 else [y]
    for target in targets:
        whole = loss.value_and_derivative(target, prediction)
        with monkeypatch.context() as smaller:
            smaller.setattr(losses, "MANY_ENTRIES", 20)
            smaller.setattr(losses, "ENTRIES_AT_ONCE", 21)
            parts = loss.value_and_derivative(target, prediction)
        for a, b in zip(parts, whole, strict=True):
            assert_allclose(a, b, rtol=1e-14)
            assert a.shape == b.shape


def test_a_loss_that_is_no_sum_over_rows_gets_all_of_them_at_once(monkeypatch):
    """However many they are."""

    class Centered(Loss):
        additive = False

        def formula(self, y, prediction):
            residual = prediction - y - (prediction - y).mean()
            return 0.5 * residual**2, residual

    monkeypatch.setattr(losses, "MANY_ENTRIES", 2)
    monkeypatch.setattr(losses, "ENTRIES_AT_ONCE", 2)
    values, derivative = Centered().value_and_derivative(np.zeros(4), np.array([0.0, 0.0, 4.0, 4.0]))
    assert_array_equal(derivative, [-2.0, -2.0, 2.0, 2.0])
    assert_array_equal(values, [2.0, 2.0, 2.0, 2.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-3, 1.0, 3.0, 30.0, 90.0, 400.0])
def test_the_softmax_of_moderate_scores_agrees_with_that_of_any(dtype, size):
    """Whether or not the largest score is taken off; float32 stays float32, and what is no class is an error."""
    rng = np.random.default_rng(2)
    scores = (size * rng.normal(size=(7, 4))).astype(dtype)
    y = rng.integers(4, size=7)
    expected = LogLoss._multinomial(y, scores.astype(np.float64))
    tolerance = 20 * np.finfo(dtype).eps * max(1, size)
    for came, right in zip(LogLoss().value_and_derivative(y, scores), expected, strict=True):
        assert came.dtype == dtype
        assert came.flags.c_contiguous
        assert_allclose(came, right, rtol=tolerance, atol=tolerance)
    with pytest.raises(IndexError):
        LogLoss().value_and_derivative(np.full(7, 4), scores)
