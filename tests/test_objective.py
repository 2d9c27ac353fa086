"""Model, loss, penalty and weights together: every gradient form ends in the same mean and its gradient."""

import copy
import pickle
import re

import cloudpickle
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sk_analytic.contribution import Contribution, merge
from sk_analytic.data.arrays import ArrayRows
from sk_analytic.data.batch import Batch
from sk_analytic.exceptions import ParameterStructureError
from sk_analytic.losses import LogLoss, get_loss, get_loss_names
from sk_analytic.model.callables import Callables
from sk_analytic.model.default_models import LINEAR
from sk_analytic.model.gradient_forms import GRADIENT_FORMS
from sk_analytic.objective import Objective, evaluator, match_target, read_prediction
from sk_analytic.parameters import Layout, Parameters
from sk_analytic.sparse_gradients import SparseGradient

N, N_FEATURES, N_HIDDEN, K = 13, 3, 4, 2
X = np.random.default_rng(1).normal(size=(N, N_FEATURES))
WEIGHT = np.random.default_rng(2).uniform(0, 2, size=N) * (np.arange(N) % 4 > 0)

# One model, in all four gradient forms: scale * (tanh(X W + a) V + b), with nested parameters and a float among them.


def network_start(outputs):
    """θ for predictions of shape (n, *outputs)."""
    rng = np.random.default_rng(3)
    return {
        "hidden": (rng.normal(size=(N_FEATURES, N_HIDDEN)), rng.normal(size=N_HIDDEN)),
        "V": 0.5 * rng.normal(size=(N_HIDDEN, *outputs)),
        "b": rng.uniform(0.5, 1, size=outputs) if outputs else 0.75,
        "scale": 0.5,
    }


def network(params, X):
    W, a = params["hidden"]
    h = np.tanh(X @ W + a)
    return h, h @ params["V"] + params["b"]


def forward(params, X):
    return params["scale"] * network(params, X)[1]


def pull(params, X, d):
    """The adjoint of `forward` at d, in an order of keys of its own."""
    V, scale = params["V"], params["scale"]
    h, out = network(params, X)
    d_wide, V_wide = d.reshape(len(X), -1), V.reshape(N_HIDDEN, -1)
    d_hidden = scale * (d_wide @ V_wide.T) * (1 - h * h)
    return {
        "scale": (d * out).sum(),
        "b": scale * d.sum(axis=0),
        "V": (scale * h.T @ d_wide).reshape(V.shape),
        "hidden": [X.T @ d_hidden, d_hidden.sum(axis=0)],
    }


def vjp(params, X):
    return forward(params, X), lambda d: pull(params, X, d)


def jacobian(params, X):
    """Row by row and output by output, the adjoint at a unit vector."""
    outputs = np.shape(params["b"])
    units = [np.zeros((1, *outputs)) for _ in range(int(np.prod(outputs)))]
    for unit, index in zip(units, np.ndindex(outputs), strict=True):
        unit[(0, *index)] = 1
    pulled = [pull(params, row[None], unit) for row in X for unit in units]

    def stacked(leaves):
        return np.array(leaves).reshape(len(X), *outputs, *np.shape(leaves[0]))

    hidden = tuple(stacked([p["hidden"][i] for p in pulled]) for i in (0, 1))
    return {"hidden": hidden} | {key: stacked([p[key] for p in pulled]) for key in ("V", "b", "scale")}


def loss_and_derivative(loss, prediction, y, weight, reduction):
    """The loss of a batch and its derivative in the prediction, written out."""
    if y is not None and y.size == prediction.size:
        y = y.reshape(prediction.shape)
    values, derivative = loss.value_and_derivative(y, prediction)
    weight = np.ones(len(prediction)) if weight is None else weight
    share = weight / (len(prediction) if reduction == "mean" else 1)
    return (share * values).sum(), derivative * share.reshape(-1, *[1] * (derivative.ndim - 1))


def callables(form, loss, reduction="mean"):
    """What the user would give for a form: `forward` and the gradient, for a loss that they have derived."""

    def loss_and_gradient(params, X, y=None, sample_weight=None):
        value, d = loss_and_derivative(loss, forward(params, X), y, sample_weight, reduction)
        return value, pull(params, X, d)

    def gradient(params, X, y=None, sample_weight=None):
        return loss_and_gradient(params, X, y, sample_weight)[1]

    written = {"gradient": gradient, "loss_and_gradient": loss_and_gradient, "vjp": vjp, "jacobian": jacobian}
    return {"forward": forward, "forms": {form: written[form]}}


# Every loss with the shapes of y and of the prediction that go together.
SHAPES = [((N,), ()), ((N,), (1,)), ((N, 1), ()), ((N, 1), (1,)), ((N, K), (K,))]
CASES = {
    f"{name} y{y_shape} prediction(n, {', '.join(map(str, outputs))})": (get_loss(name), y_shape, outputs)
    for name in get_loss_names()
    for y_shape, outputs in SHAPES
    if name != "negative_log_likelihood" or outputs != (K,)
} | {"log_loss of 3 classes": (LogLoss(), "classes", (3,))}
EACH_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
EACH_FORM = pytest.mark.parametrize("form", GRADIENT_FORMS)
WEIGHTED = pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])


def draw(loss, y_shape):
    rng = np.random.default_rng(4)
    if loss.domain is None:
        return None
    if y_shape == "classes":
        return rng.integers(3, size=N)
    y = rng.uniform(0.1, 2, size=y_shape)
    return (y > 1).astype(float) if isinstance(loss, LogLoss) else y


def problem(form="vjp", loss="squared_error", y_shape=(N,), outputs=(), weight=None, dtype=np.float64, **options):
    """An objective over the network in a form, its θ and a batch."""
    loss = get_loss(loss)
    y = draw(loss, y_shape)
    columns = {} if y is None else {"y": y}
    start = network_start(outputs)
    layout = Layout.of(start, dtype)
    model = Callables(**callables(form, loss, options.get("reduction", "mean")), columns=columns, init=start)
    theta = Parameters(layout, layout.flatten(start))
    return Objective(model, loss, layout, **options), theta, Batch(X, columns, weight).astype(dtype)


def part(batch, rows, weight=None):
    """Some rows of a batch."""
    kept = batch.sample_weight if weight is None else weight
    columns = {name: column[rows] for name, column in batch.columns.items()}
    return Batch(batch.X[rows], columns, None if kept is None else kept[rows], batch.position)


def kept(contribution):
    """A contribution whose gradient outlives the next call."""
    return contribution._replace(gradient=contribution.gradient.copy())


def central_differences(objective, theta, batch, step=1e-5):
    moves = step * np.eye(theta.layout.size)
    above, below = (
        np.array([objective.value(Parameters(theta.layout, theta.vector + sign * move), batch) for move in moves])
        for sign in (1, -1)
    )
    return (above - below) / (2 * step)


# ---- one interface over four forms ----


@EACH_FORM
@WEIGHTED
@EACH_CASE
def test_every_form_gives_the_same_loss_and_gradient(case, weight, form):
    """For every loss and pair of shapes: the weighted mean over the rows, and its gradient, to rounding."""
    loss, y_shape, outputs = case
    objective, theta, batch = problem(form, loss, y_shape, outputs, weight, needs_value=True)
    value, d = loss_and_derivative(loss, forward(theta.structure, X), batch.y, weight, "mean")
    expected = np.empty(theta.layout.size)
    theta.layout.read_gradient(pull(theta.structure, X, d), expected)
    contribution = objective.contribution(theta, batch)
    assert (contribution.n, contribution.missing) == (N, ())
    assert type(contribution.loss) is float
    assert contribution.loss == pytest.approx(value, rel=1e-12)
    assert objective.value(theta, batch) == pytest.approx(value, rel=1e-12)
    assert_allclose(contribution.gradient, expected, rtol=1e-11, atol=1e-14)


@WEIGHTED
@EACH_CASE
def test_the_gradient_is_the_slope_of_the_value(case, weight):
    """Entry by entry, central differences of `value` give the gradient of `contribution`."""
    objective, theta, batch = problem("vjp", *case, weight=weight)
    gradient = objective.contribution(theta, batch).gradient.copy()
    assert_allclose(gradient, central_differences(objective, theta, batch), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", ["gradient", "loss_and_gradient"])
@WEIGHTED
@EACH_CASE
def test_a_sum_is_divided_by_the_number_of_rows(case, weight, form):
    """`reduction="sum"` gives what "mean" gives: the number of rows counts, not the sum of their weights."""
    loss, y_shape, outputs = case
    by_mean, theta, batch = problem(form, loss, y_shape, outputs, weight, needs_value=True)
    by_sum = problem(form, loss, y_shape, outputs, weight, needs_value=True, reduction="sum")[0]
    expected, contribution = by_mean.contribution(theta, batch), by_sum.contribution(theta, batch)
    assert contribution.loss == pytest.approx(expected.loss, rel=1e-12)
    assert_allclose(contribution.gradient, expected.gradient, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("form", ["gradient", "loss_and_gradient"])
def test_a_callable_loss_is_the_value(form, reduction):
    """It has the same reduction as the gradient, and the value comes from it."""
    loss = get_loss("squared_error")

    def own_loss(params, X, y, sample_weight=None):
        return loss_and_derivative(loss, forward(params, X), y, sample_weight, reduction)[0]

    model = Callables(**callables(form, loss, reduction), loss=own_loss, columns=("y",))
    named, theta, batch = problem(form, weight=WEIGHT, needs_value=True)
    objective = Objective(model, None, theta.layout, reduction=reduction, needs_value=True)
    assert objective.has_value
    assert objective.value(theta, batch) == pytest.approx(named.value(theta, batch), rel=1e-12)
    assert objective.contribution(theta, batch).loss == pytest.approx(named.contribution(theta, batch).loss, rel=1e-12)


@EACH_FORM
def test_only_the_gradient_form_has_no_loss_in_a_step(form):
    """It has one where the step needs the value, at the price of one more `forward`."""
    objective, theta, batch = problem(form)
    assert objective.step_has_value is (form != "gradient")
    assert (objective.contribution(theta, batch).loss is None) is (form == "gradient")
    assert objective.value(theta, batch) is not None
    assert objective.mean_value(theta, [batch]) is not None
    objective = problem(form, needs_value=True)[0]
    assert objective.step_has_value
    assert objective.contribution(theta, batch).loss == pytest.approx(objective.value(theta, batch))


def test_without_a_loss_the_gradient_form_has_no_value():
    """`loss=None`: None everywhere, also for a batch without rows; a method that needs the value is refused."""
    objective, theta, batch = problem("gradient")
    layout, model = theta.layout, objective.model
    objective = Objective(model, None, layout)
    assert not objective.has_value
    assert objective.contribution(theta, batch).loss is None
    assert objective.value(theta, batch) is None
    assert objective.value(theta, part(batch, slice(0))) is None
    assert objective.mean_value(theta, [part(batch, slice(0)), batch]) is None
    with pytest.raises(ValueError, match="This optimizer needs the value of the loss, but .* use loss_and_gradient."):
        objective.require_value()
    problem("gradient")[0].require_value()


@EACH_FORM
@WEIGHTED
def test_float32_is_kept(form, weight):
    """The gradient has the layout's dtype, whatever precision the callables return; the loss is a float."""
    exact, theta, batch = problem(form, weight=weight, needs_value=True)
    objective, single, narrow = problem(form, weight=weight, needs_value=True, dtype=np.float32)
    contribution, expected = objective.contribution(single, narrow), exact.contribution(theta, batch)
    loss, gradient = objective.finish(single, contribution)
    assert gradient.dtype == np.float32
    assert type(loss) is float
    assert loss == pytest.approx(expected.loss, rel=1e-5)
    assert_allclose(gradient, expected.gradient, rtol=1e-4, atol=1e-6)


@EACH_FORM
def test_astype_evaluates_in_double_precision(form):
    """The same objective over float64 vectors: float32 rows and θ, cast, give the exact gradient."""
    objective, theta, batch = problem(form, needs_value=True, dtype=np.float32, alpha=0.1, fixed=["b"])
    double, wide = objective.astype(np.float64), theta.astype(np.float64)
    exact = problem(form, needs_value=True, alpha=0.1, fixed=["b"])[0]
    ours, expected = (o.contribution(wide, batch.astype(np.float64)) for o in (double, exact))
    assert ours.gradient.dtype == np.float64
    assert_array_equal(ours.gradient, expected.gradient)
    assert ours.missing == expected.missing
    assert double.finish(wide, ours)[0] == exact.finish(wide, expected)[0]
    assert objective.layout.dtype == np.float32
    assert objective.contribution(theta, batch).gradient.dtype == np.float32


def test_weights_reach_the_pullback_through_the_derivative():
    """What is pulled back is weight times the loss's derivative over the number of rows, in the prediction's shape."""
    came = []

    def recording(params, X):
        return X @ params["W"], lambda d: came.append(d) or {"W": X.T @ d}

    y = X[:, 0]
    for shape in ((3,), (3, 1)):
        theta = Parameters(Layout.of({"W": np.ones(shape)}), np.ones(3))
        objective = Objective(
            Callables(forward=None, forms={"vjp": recording}), get_loss("squared_error"), theta.layout
        )
        objective.contribution(theta, Batch(X, {"y": y}, WEIGHT))
        assert_allclose(came[-1].ravel(), WEIGHT * (X.sum(axis=1) - y) / N)
        assert came[-1].shape == (N, *shape[1:])


def test_a_callable_sees_read_only_views():
    """Neither θ nor rows can be written by a callable; its own results are only read."""
    seen = []

    def gradient(params, X, y):
        seen.extend([params["W"], X, y])
        result = X.T @ (X @ params["W"] - y) / len(X)
        result.flags.writeable = False
        return {"W": result}

    theta = Parameters(Layout.of({"W": np.ones(3)}), np.ones(3))
    model = Callables(forward=forward, forms={"gradient": gradient}, columns=("y",))
    objective = Objective(model, None, theta.layout, reduction="sum", fixed=["W"], alpha=1.0)
    objective.finish(theta, objective.contribution(theta, Batch(X, {"y": X[:, 0]})))
    assert not seen[0].flags.writeable
    assert np.shares_memory(seen[0], theta.vector)
    assert seen[1] is X


# ---- bound to θ, for a loop ----


def with_a_gap(gradient):
    """A gradient of which one leaf is None and another given in one row."""
    hidden = gradient["hidden"]
    return gradient | {"b": None, "hidden": [(np.array([0]), hidden[0][:1]), hidden[1]]}


BOUND = {
    "as it is": {},
    "with a penalty": {"alpha": 0.3},
    "with fixed blocks": {"fixed": ("b",)},
    "with differences": {"numerical": ("b",)},
    "with a penalty and fixed blocks": {"alpha": {"V": 0.1}, "fixed": ("V",)},
}


@EACH_FORM
@WEIGHTED
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("options", BOUND.values(), ids=BOUND)
def test_bound_gives_what_contribution_and_finish_give(form, weight, options, dtype):
    """To the bit, also after θ was written in place."""
    objective, theta, batch = problem(form, weight=weight, dtype=dtype, **options)
    evaluate = objective.bound(theta)
    for factor in (1, 0.5):
        theta.vector[...] *= factor
        contribution = kept(objective.contribution(theta, batch))
        loss, gradient = objective.finish(theta, contribution)
        ours = evaluate(batch)
        assert type(ours) is Contribution
        assert (ours.loss, ours.n, ours.missing) == (loss, N, contribution.missing)
        assert_array_equal(ours.gradient, gradient)
        assert ours.gradient.dtype == dtype


def test_bound_gives_missing_and_sparse_blocks():
    """As `contribution` does, without a penalty or what else makes them dense."""
    objective, theta, batch = problem("gradient")
    function = objective.model.gradient.function
    forms = {"gradient": lambda params, X, y: with_a_gap(function(params, X, y))}
    model = Callables(forward=forward, forms=forms, columns=("y",))
    objective = Objective(model, objective.loss, objective.layout)
    expected, ours = kept(objective.contribution(theta, batch)), kept(objective.bound(theta)(batch))
    assert ours.missing == expected.missing == (theta.layout.names.index("b"),)
    assert [sparse.block for sparse in ours.sparse_grads] == [sparse.block for sparse in expected.sparse_grads]
    assert len(ours.sparse_grads) == 1
    assert_array_equal(ours.dense().gradient, expected.dense().gradient)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_bound_learns_nothing_from_an_empty_batch(alpha):
    """No rows, or none with a weight: the callable is not called, there is no gradient, and no penalty either."""
    objective, theta, batch = problem(alpha=alpha)
    evaluate = objective.bound(theta)
    assert evaluate(part(batch, slice(0))) == Contribution(0.0, None, 0)
    assert evaluate(part(batch, slice(3), np.zeros(N))) == Contribution(0.0, None, 3)


class Elsewhere:
    """Rows of which only contributions come here."""

    def __init__(self, batch):
        self.batches = [part(batch, slice(start, start + 4)) for start in range(0, N, 4)]
        self.n_samples, self.batch_size, self.steps_per_epoch = N, 4, len(self.batches)

    def contribution(self, objective, theta, epoch, step):
        return objective.contribution(theta, self.batches[step])


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_rows_may_live_elsewhere(alpha):
    """What evaluates steps asks rows that have no batches here for contributions."""
    objective, theta, batch = problem(alpha=alpha)
    here = ArrayRows(batch.X, batch.columns, batch_size=4)
    ours, theirs = evaluator(objective, theta, Elsewhere(batch)), evaluator(objective, theta, here)
    for step in range(here.steps_per_epoch):
        one, other = kept(ours(0, step)), kept(theirs(0, step))
        assert (one.loss, one.n) == (other.loss, other.n)
        assert_array_equal(one.gradient, other.gradient)


# ---- contributions ----


@EACH_FORM
@WEIGHTED
@pytest.mark.parametrize(
    "cuts",
    [[0, N], [0, 5, N], [0, 0, 5, 5, 6, N], [0, 1, 2, 3, 4, 5, 9, N, N]],
    ids=["one batch", "two", "with empty ones", "many"],
)
def test_merged_partials_equal_one_batch(form, weight, cuts):
    """Whatever the parts, empty ones in between, first or last: the mean over all the rows."""
    objective, theta, batch = problem(form, weight=weight, needs_value=True)
    whole = kept(objective.contribution(theta, batch))
    parts = [part(batch, slice(*cut)) for cut in zip(cuts[:-1], cuts[1:], strict=True)]
    merged = merge(objective.contribution(theta, each) for each in parts)
    assert (merged.n, merged.missing) == (N, ())
    assert merged.loss == pytest.approx(whole.loss, rel=1e-12)
    assert_allclose(merged.gradient, whole.gradient, rtol=1e-11, atol=1e-14)
    assert objective.mean_value(theta, [each for each in parts if each.n]) == pytest.approx(whole.loss, rel=1e-12)


@pytest.mark.parametrize("without", [slice(0, 4), slice(4, 9), slice(9, N)], ids=["first", "between", "last"])
@EACH_FORM
def test_rows_of_no_weight_count_in_the_mean(form, without):
    """A part of weight 0 adds its rows to the number, as it does within one batch."""
    weight = np.ones(N)
    weight[without] = 0
    objective, theta, batch = problem(form, weight=weight, needs_value=True)
    whole = kept(objective.contribution(theta, batch))
    merged = merge(objective.contribution(theta, part(batch, rows)) for rows in (slice(0, 4), slice(4, 9), slice(9, N)))
    assert merged.n == N
    assert merged.loss == pytest.approx(whole.loss, rel=1e-12)
    assert_allclose(merged.gradient, whole.gradient, rtol=1e-11, atol=1e-14)


def test_a_merged_loss_is_none_where_a_part_has_none():
    """The gradient is still the mean."""
    ones, twos = np.ones(2), np.full(2, 2.0)
    merged = merge([Contribution(None, ones, 1), Contribution(None, twos, 3)])
    assert merged.loss is None
    assert_array_equal(merged.gradient, 1.75)
    assert merge([Contribution(0.0, None, 4), Contribution(None, ones, 4), Contribution(0.0, None, 2)]).loss is None


def test_merging_nothing_gives_nothing():
    """No parts, or none with anything to learn."""
    assert merge([]) == Contribution(0.0, None, 0)
    assert merge([Contribution(0.0, None, 3), Contribution(0.0, None, 2)]) == Contribution(0.0, None, 5)


def test_a_merged_block_is_missing_only_if_every_part_misses_it():
    """Where some rows have a gradient for a block, the block is trained."""
    parts = [
        Contribution(1.0, np.ones(3), 1, (0, 1, 2)),
        Contribution(1.0, np.ones(3), 1, (1, 2)),
        Contribution(0.0, None, 1),
    ]
    assert merge(parts).missing == (1, 2)
    assert merge([*parts, Contribution(1.0, np.ones(3), 1, ())]).missing == ()


def test_merging_leaves_the_parts_alone():
    """The sum has memory of its own: the parts may all be the same scratch."""
    parts = [Contribution(1.0, np.ones(3), 1), Contribution(1.0, np.full(3, 2.0), 1)]
    merged = merge(parts)
    assert_array_equal([p.gradient for p in parts], [[1, 1, 1], [2, 2, 2]])
    assert not any(np.shares_memory(merged.gradient, p.gradient) for p in parts)


def test_row_gradients_that_all_parts_have_stay_so():
    """Rows of several parts are those of any, with the weighted sums; a part with the whole block spreads them."""

    def part(rows, values, n):
        gradient = np.array([np.nan, np.nan, np.nan, np.nan, float(n)])  # what stands in a block by rows means nothing
        by_rows = SparseGradient(0, slice(0, 4), (4, 1), np.array(rows), np.array(values, float)[:, None])
        return Contribution(1.0, gradient, n, (), (by_rows,))

    parts = [part([0, 2], [1, 2], 1), part([2, 3], [4, 8], 3)]
    merged = merge(parts)
    (by_rows,) = merged.sparse_grads
    assert by_rows.rows.tolist() == [0, 2, 3]
    assert by_rows.values.ravel().tolist() == [0.25, 3.5, 6.0]
    assert merged.gradient[4] == (1 + 9) / 4
    whole = merge([*parts, Contribution(1.0, np.arange(5.0), 4)])
    assert whole.sparse_grads == ()
    assert whole.gradient.tolist() == [0.125, 0.5, 2.75, 4.5, 3.25]


@EACH_FORM
@pytest.mark.parametrize("case", ["no rows", "no weight"])
def test_a_batch_that_teaches_nothing_does_not_reach_a_callable(form, case):
    """No rows, or weights all zero: no gradient, and nobody is called."""

    def never(*_):
        raise AssertionError("called")

    objective, theta, batch = problem(form, needs_value=True)
    model = Callables(forward=never, forms={form: never}, columns=("y",))
    objective = Objective(model, objective.loss, theta.layout, needs_value=True)
    empty = part(batch, slice(0)) if case == "no rows" else part(batch, slice(5), np.zeros(N))
    assert objective.contribution(theta, empty) == Contribution(0.0, None, empty.n)
    assert objective.value(theta, empty) == 0.0


@EACH_FORM
def test_partials_reuse_their_memory(form):
    """Nothing is allocated for the gradient of a step."""
    objective, theta, batch = problem(form)
    assert objective.contribution(theta, batch).gradient is objective.contribution(theta, batch).gradient


# ---- penalties, fixed blocks, missing leaves ----

PENALTIES = [
    (0.0, {}),
    (0.3, {"hidden.0": 0.3, "hidden.1": 0.3, "V": 0.3, "b": 0.3, "scale": 0.3}),
    (1, {"hidden.0": 1, "hidden.1": 1, "V": 1, "b": 1, "scale": 1}),
    (np.float32(0.5), {"hidden.0": 0.5, "hidden.1": 0.5, "V": 0.5, "b": 0.5, "scale": 0.5}),
    ({}, {}),
    ({"V": 0.5}, {"V": 0.5}),
    ({"V": 0.5, "scale": 2, "b": 0}, {"V": 0.5, "scale": 2}),
    ({"hidden": 0.2}, {"hidden.0": 0.2, "hidden.1": 0.2}),
    ({"hidden.1": 0.4, "hidden": 0.2}, {"hidden.0": 0.2, "hidden.1": 0.4}),
    ({"hidden": 0.2, "hidden.1": 0.0}, {"hidden.0": 0.2}),
]


@pytest.mark.parametrize(("alpha", "strengths"), PENALTIES, ids=[repr(alpha) for alpha, _ in PENALTIES])
@EACH_FORM
def test_the_penalty_is_half_alpha_times_the_sum_of_squares(form, alpha, strengths):
    """Of all blocks, or by name, where a name that says more goes before a prefix; added once, by `finish`."""
    objective, theta, batch = problem(form, needs_value=True, alpha=alpha)
    bare = kept(problem(form, needs_value=True)[0].contribution(theta, batch))
    layout, penalty, slope = theta.layout, 0.0, np.zeros_like(theta.vector)
    for name, strength in strengths.items():
        where = layout.slices[layout.names.index(name)]
        penalty += strength / 2 * (theta.vector[where] ** 2).sum()
        slope[where] = strength * theta.vector[where]
    before = theta.vector.copy()
    contribution = objective.contribution(theta, batch)
    assert contribution.loss == bare.loss
    assert_array_equal(contribution.gradient, bare.gradient)
    loss, gradient = objective.finish(theta, contribution)
    assert objective.penalty(theta) == pytest.approx(penalty)
    assert loss == pytest.approx(bare.loss + penalty, rel=1e-13)
    assert_allclose(gradient, bare.gradient + slope, rtol=1e-12)
    assert objective.mean_value(theta, [batch]) == pytest.approx(loss)
    assert objective.value(theta, batch) == pytest.approx(bare.loss)
    assert_array_equal(theta.vector, before)


def test_a_number_leaves_out_what_is_not_penalized_and_a_dict_names_it():
    """The intercept of a default model has no penalty, unless it is asked for by name."""
    start = {"coef": np.ones(2), "intercept": 3.0}
    model, layout = Callables(forward=None, forms={"vjp": LINEAR["vjp"]}), Layout.of(start)
    theta = Parameters(layout, layout.flatten(start))
    for alpha, penalty in ((2.0, 2.0), ({"intercept": 2.0}, 9.0)):
        objective = Objective(model, get_loss("squared_error"), layout, alpha=alpha, unpenalized=("intercept",))
        assert objective.penalty(theta) == penalty


@pytest.mark.parametrize("alpha", [-1.0, np.nan, np.inf, True, None, "1", 1j, [1.0], np.ones(2)], ids=repr)
def test_a_strength_that_is_no_finite_number_from_zero_is_refused(alpha):
    """As a number, and for a block; the message names the block and what came."""
    message = f"alpha must be a finite, non-negative number; got {re.escape(repr(alpha))} for"
    with pytest.raises(ValueError, match=f"{message} 'V'"):
        problem(alpha={"b": 1.0, "V": alpha})
    with pytest.raises(ValueError, match=message):
        problem(alpha=alpha)


@pytest.mark.parametrize("argument", ["alpha", "fixed"])
def test_a_block_that_does_not_exist_is_refused(argument):
    """The message names who asked, the nearest, and what there is."""
    message = (
        f"{argument} names the parameter 'hiden.0', .* Did you mean 'hidden.0'. There are: hidden.0, hidden.1, V, b"
    )
    with pytest.raises(ParameterStructureError, match=message):
        problem(**{argument: {"hiden.0": 1.0}})


@EACH_FORM
@pytest.mark.parametrize(
    ("fixed", "names"),
    [
        ("b", {"b"}),
        (("V", "scale"), {"V", "scale"}),
        (["hidden"], {"hidden.0", "hidden.1"}),
        ({"hidden.1"}, {"hidden.1"}),
    ],
)
def test_fixed_blocks_have_no_gradient(form, fixed, names):
    """In every step they are missing and zero, the penalty's part too; the others are as they were."""
    objective, theta, batch = problem(form, alpha=0.5, fixed=fixed, needs_value=True)
    free_loss, free = problem(form, alpha=0.5, needs_value=True)[0].finish(theta, objective.contribution(theta, batch))
    contribution = objective.contribution(theta, batch)
    loss, gradient = objective.finish(theta, contribution)
    layout = theta.layout
    assert {layout.names[index] for index in contribution.missing} == names
    for name, block in zip(layout.names, layout.blocks(gradient), strict=True):
        assert block.any() != (name in names)
    assert loss == pytest.approx(free_loss)
    unpenalized = problem(form, needs_value=True)[0].contribution(theta, batch).gradient
    for name, where in zip(layout.names, layout.slices, strict=True):
        expected = 0 if name in names else unpenalized[where] + 0.5 * theta.vector[where]
        assert_allclose(gradient[where], expected, rtol=1e-12)


def without(structure, name):
    """A gradient or Jacobian with None in the place of a block."""
    if name.startswith("hidden"):
        hidden = list(structure["hidden"])
        hidden[int(name[-1])] = None
        return structure | {"hidden": hidden}
    return structure | {name: None}


@EACH_FORM
@pytest.mark.parametrize("name", ["hidden.0", "hidden.1", "V", "b", "scale"])
def test_a_leaf_none_is_a_block_without_a_gradient(form, name):
    """It is listed as missing, its part is zero and gets no penalty; the same as `fixed`."""
    loss = get_loss("squared_error")
    given = callables(form, loss)
    full = given["forms"][form]

    def lacking(params, X, y=None):
        returned = full(params, X) if form in ("vjp", "jacobian") else full(params, X, y)
        if form == "vjp":
            return returned[0], lambda d: without(returned[1](d), name)
        if form == "loss_and_gradient":
            return returned[0], without(returned[1], name)
        return without(returned, name)

    fixed, theta, batch = problem(form, fixed=[name], alpha=0.5, needs_value=True)
    model = Callables(forward=forward, forms={form: lacking}, columns=("y",))
    objective = Objective(model, loss, theta.layout, alpha=0.5, needs_value=True)
    contribution, expected = objective.contribution(theta, batch), fixed.contribution(theta, batch)
    assert contribution.missing == expected.missing == (theta.layout.names.index(name),)
    ours, theirs = objective.finish(theta, contribution), fixed.finish(theta, expected)
    assert ours[0] == theirs[0]
    assert_array_equal(ours[1], theirs[1])
    both = Objective(model, loss, theta.layout, fixed=["V", "scale"]).contribution(theta, batch)
    assert {theta.layout.names[index] for index in both.missing} == {name, "V", "scale"}


@EACH_FORM
@WEIGHTED
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numerical_blocks_have_differences_for_a_gradient(form, weight, reduction, dtype):
    """Whatever the callable returns there, None included: the slope of the loss, in double precision."""
    if reduction == "sum" and form in ("vjp", "jacobian"):
        return
    options = {"weight": weight, "reduction": reduction, "dtype": dtype, "fixed": ["hidden.1"]}
    expected = kept(problem(form, **options)[0].contribution(*problem(form, **options)[1:]))
    objective, theta, batch = problem(form, numerical=["hidden", "b"], **options)
    before = theta.vector.copy()
    contribution = objective.contribution(theta, batch)
    assert contribution.missing == expected.missing == (1,)
    assert_allclose(contribution.gradient, expected.gradient, rtol=1e-4, atol=1e-8 if dtype == np.float64 else 1e-5)
    assert_array_equal(theta.vector, before)


@EACH_FORM
@pytest.mark.parametrize("left_out", ["absent", "None"])
def test_a_numerical_block_may_be_left_out_of_the_gradient(form, left_out):
    """A key that is absent, or None, where the user has derived nothing."""
    whole, theta, batch = problem(form, numerical=["b"])
    full = whole.model.gradient.function

    def cut(grads):
        return {key: leaf for key, leaf in grads.items() if key != "b"} | ({} if left_out == "absent" else {"b": None})

    given = {
        "gradient": lambda params, X, y: cut(full(params, X, y)),
        "loss_and_gradient": lambda params, X, y: (full(params, X, y)[0], cut(full(params, X, y)[1])),
        "vjp": lambda params, X: (full(params, X)[0], lambda d: cut(full(params, X)[1](d))),
        "jacobian": lambda params, X: cut(full(params, X)),
    }
    model = Callables(forward=forward, forms={form: given[form]}, columns=("y",))
    contribution = Objective(model, whole.loss, theta.layout, numerical=["b"]).contribution(theta, batch)
    assert contribution.missing == ()
    assert_array_equal(contribution.gradient, whole.contribution(theta, batch).gradient)


def test_numerical_blocks_need_a_loss():
    """There is nothing to take differences of."""
    objective, theta, _ = problem("gradient")
    with pytest.raises(
        ValueError,
        match="numerical names parameters whose gradient is computed by differences of the loss, but there is no",
    ):
        Objective(objective.model, None, theta.layout, numerical=["b"])


# ---- pickling ----


@EACH_FORM
def test_an_objective_pickles_without_its_scratch(form):
    """After pickling or copying it has scratch of its own, and gives the same numbers."""
    objective, theta, batch = problem(form, alpha=0.1, fixed=["b"], needs_value=True)
    expected = kept(objective.contribution(theta, batch))
    twins = [cloudpickle.loads(cloudpickle.dumps(objective)), copy.deepcopy(objective), copy.copy(objective)]
    for twin in twins:
        contribution = twin.contribution(theta, batch)
        assert not np.shares_memory(contribution.gradient, objective.contribution(theta, batch).gradient)
        assert (contribution.loss, contribution.missing) == (expected.loss, expected.missing)
        assert_array_equal(contribution.gradient, expected.gradient)
        assert_array_equal(twin.finish(theta, kept(contribution))[1], objective.finish(theta, kept(expected))[1])


def test_a_pickled_objective_is_small():
    """However large θ is: neither scratch nor views are in it."""
    layout = Layout.of({"W": np.zeros((1000, 1000))})
    objective = Objective(Callables(forward=None, forms={"vjp": vjp}), get_loss("squared_error"), layout)
    assert len(pickle.dumps(objective)) < 5000
    pickle.loads(pickle.dumps(objective))


# ---- what is refused ----


@pytest.mark.parametrize("form", ["vjp", "jacobian"])
def test_a_reduction_or_a_loss_that_does_not_go_with_the_form_is_refused(form):
    """A composed form has no reduction of its own, and needs a loss that has a derivative."""
    objective, theta, _ = problem(form)
    with pytest.raises(ValueError, match=f"reduction='sum' applies to gradient and loss_and_gradient, not to {form}"):
        Objective(objective.model, objective.loss, theta.layout, reduction="sum")
    with pytest.raises(ValueError, match=f"{form} is composed with a loss that has a derivative; got none. Use a name"):
        Objective(objective.model, None, theta.layout)


PREDICTIONS = [
    (np.ones(N + 1), rf"forward returned shape \({N + 1},\) for {N} samples; expected \({N},\) or \({N}, k\)."),
    (np.ones((1, N)), rf"shape \(1, {N}\) for {N} samples"),
    (np.ones((N, 1, 1)), rf"shape \({N}, 1, 1\) for {N} samples"),
    (1.0, rf"shape \(\) for {N} samples"),
    (None, "dtype object; real numbers are needed."),
    (np.ones(N, complex), "dtype complex128; real numbers are needed."),
    (np.full(N, None), "dtype object; real numbers are needed."),
    (np.full(N, "a"), "dtype <U1; real numbers are needed."),
    (np.ones((N, 2)), rf"shape \({N}, 2\), but y has shape \({N},\). They must agree .* arrays are not broadcast."),
    (np.ones((N, N)), rf"shape \({N}, {N}\), but y has shape \({N},\)"),
]


@pytest.mark.parametrize(("prediction", "message"), PREDICTIONS, ids=[message[:40] for _, message in PREDICTIONS])
@pytest.mark.parametrize("form", ["vjp", "jacobian", "gradient"])
def test_a_prediction_that_does_not_fit_is_refused(form, prediction, message):
    """Another length, axis or dtype than y's: never broadcast; the message has both shapes."""
    given = {"vjp": lambda params, X: (prediction, lambda d: d), "jacobian": jacobian, "gradient": jacobian}
    model = Callables(forward=lambda params, X: prediction, forms={form: given[form]}, columns=("y",))
    _, theta, batch = problem()
    objective = Objective(model, get_loss("squared_error"), theta.layout, needs_value=True)
    with pytest.raises(ParameterStructureError, match=message):
        objective.contribution(theta, batch)


@pytest.mark.parametrize(
    ("y_shape", "shape", "fits"),
    [
        ((N,), (N,), True),
        ((N,), (N, 1), True),
        ((N, 1), (N,), True),
        ((N, 2), (N, 2), True),
        ((N,), (N, 2), False),
        ((N, 1), (N, 2), False),
        ((N, 2), (N,), False),
        ((N, 2), (N, 1), False),
        ((N, 2), (N, 3), False),
        ((1,), (N,), False),
    ],
)
def test_only_a_column_stands_for_a_vector(y_shape, shape, fits):
    """(n,) and (n, 1) go together, in both directions; what is compared has one shape."""
    y, prediction = np.ones(y_shape), np.ones(shape)
    if fits:
        ours, theirs = match_target(y, prediction)
        assert ours.shape == theirs.shape
    else:
        with pytest.raises(ParameterStructureError, match="They must agree"):
            match_target(y, prediction)


def test_class_indices_go_with_scores_of_classes():
    """Whole numbers (n,) are indices beside (n, K); floats are not. Without y, everything goes."""
    scores, y = np.ones((N, 3)), np.zeros(N, int)
    assert match_target(y, scores) == (y, scores)
    assert match_target(None, scores) == (None, scores)
    with pytest.raises(ParameterStructureError, match="They must agree"):
        match_target(y.astype(float), scores)


@pytest.mark.parametrize(
    ("prediction", "dtype"),
    [
        ([1.0, 2.0], float),
        ([1, 2], float),
        ([True, False], float),
        (np.ones(2, np.float32), np.float32),
        (memoryview(np.ones(2)), float),
    ],
    ids=["a list", "whole numbers", "bools", "float32", "a buffer"],
)
def test_a_prediction_is_read_as_floats(prediction, dtype):
    """Lists, whole numbers and bools become float64; a floating dtype is kept."""
    assert read_prediction(prediction, 2).dtype == dtype
    ready = np.ones((2, 3))
    assert read_prediction(ready, 2) is ready


W = {"W": np.ones(3)}
RETURNS = [
    ("gradient", None, ParameterStructureError, "gradient is None; expected a dict with 'W'."),
    ("gradient", (0.0, W), ParameterStructureError, "gradient is of type tuple; expected a dict with 'W'."),
    ("loss_and_gradient", W, TypeError, r"must return the pair \(loss, grads\); got dict."),
    ("loss_and_gradient", None, TypeError, r"must return the pair \(loss, grads\); got NoneType."),
    ("loss_and_gradient", (0.0, W, None), TypeError, r"must return the pair \(loss, grads\); got 3 items."),
    (
        "loss_and_gradient",
        (W, 0.0),
        ParameterStructureError,
        "the loss of .* must be one real number, the mean .* got {",
    ),
    ("loss_and_gradient", (np.ones(N), W), ParameterStructureError, r"got an array of shape \(13,\)."),
    ("loss_and_gradient", (np.ones(1), W), ParameterStructureError, r"got an array of shape \(1,\)."),
    ("loss_and_gradient", (None, W), ParameterStructureError, "must be one real number, the mean .* got None."),
    ("loss_and_gradient", (1j, W), ParameterStructureError, "must be one real number, .* got 1j."),
    ("loss_and_gradient", ("low", W), ParameterStructureError, "must be one real number, .* got 'low'."),
    (
        "loss_and_gradient",
        (0.0, [np.ones(3)]),
        ParameterStructureError,
        "loss_and_gradient is of type list; expected a",
    ),
    ("vjp", np.ones(N), TypeError, r"must return the pair \(prediction, pullback\); got ndarray."),
    ("vjp", (np.ones(N), W), TypeError, r"must return \(prediction, pullback\) with a callable pullback; got {'W'"),
    ("vjp", (np.ones(N), lambda d: None), ParameterStructureError, "vjp is None; expected a dict with 'W'."),
    ("vjp", (np.ones(N), lambda d: (None,)), ParameterStructureError, "vjp is None; expected a dict with 'W'."),
    (
        "vjp",
        (np.ones(N), lambda d: {"W": d}),
        ParameterStructureError,
        r"vjp has shape \(13,\) in parameter 'W'; expected",
    ),
    ("jacobian", np.ones((N, 3)), ParameterStructureError, r"jacobian is an array of shape \(13, 3\); expected a dict"),
    ("jacobian", W, ParameterStructureError, r"jacobian has shape \(3,\) in parameter 'W'; expected \(13, 3\)."),
    ("jacobian", {"W": np.ones((3, N))}, ParameterStructureError, r"shape \(3, 13\) .* expected \(13, 3\). Is it tr"),
    ("jacobian", {"W": np.ones((N, 2, 3))}, ParameterStructureError, r"shape \(13, 2, 3\) .* expected \(13, 3\)."),
]


@pytest.mark.parametrize(("form", "returned", "error", "message"), RETURNS)
def test_what_a_callable_should_not_return_is_refused(form, returned, error, message):
    """The message names the callable, what came and what was expected."""
    model = Callables(forward=lambda params, X: X @ params["W"], forms={form: lambda params, X: returned})
    theta = Parameters(Layout.of(W), np.ones(3))
    objective = Objective(model, get_loss("squared_error"), theta.layout)
    with pytest.raises(error, match=message):
        objective.contribution(theta, Batch(X, {"y": np.ones(N)}))


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.float64(2), np.array(2.0), np.int64(2)], ids=repr)
def test_a_loss_may_be_any_real_number(value):
    """Python's and NumPy's, and an array without axes; it becomes a float."""
    model = Callables(forward=forward, forms={"loss_and_gradient": lambda params, X: (value, W)})
    theta = Parameters(Layout.of(W), np.ones(3))
    loss = Objective(model, None, theta.layout).contribution(theta, Batch(X, {})).loss
    assert type(loss) is float
    assert loss == 2.0


@pytest.mark.parametrize("value", [[1.0, 2.0], None, "x"], ids=repr)
def test_a_callable_loss_that_is_no_number_is_refused(value):
    """The message says which reduction is meant."""
    model = Callables(forward=forward, forms={"gradient": lambda params, X: W}, loss=lambda params, X: value)
    theta = Parameters(Layout.of(W), np.ones(3))
    objective = Objective(model, None, theta.layout, reduction="sum")
    with pytest.raises(ParameterStructureError, match="^loss must be one real number, the sum over the batch; got"):
        objective.value(theta, Batch(X, {}))


def test_an_exception_in_a_pullback_goes_on_with_a_note():
    """It is the same object, and the note says that it was the pullback, and where that stands."""
    error = ZeroDivisionError("boom")

    def pullback(d):
        raise error

    model = Callables(forward=None, forms={"vjp": lambda params, X: (X @ params["W"], pullback)})
    theta = Parameters(Layout.of(W), np.ones(3))
    with pytest.raises(ZeroDivisionError, match="boom") as caught:
        Objective(model, get_loss("squared_error"), theta.layout).contribution(theta, Batch(X, {"y": np.ones(N)}))
    assert caught.value is error
    assert re.match(r"Raised inside the pullback returned by vjp: .*pullback \(.*test_objective", error.__notes__[0])


# ---- what is allowed ----


def test_a_pullback_may_return_a_tuple_of_one():
    """As the pullback of `jax.vjp` does."""
    objective, theta, batch = problem()
    wrapped = Callables(
        forward=None, forms={"vjp": lambda params, X: (forward(params, X), lambda d: (pull(params, X, d),))}
    )
    ours = Objective(wrapped, objective.loss, theta.layout).contribution(theta, batch)
    assert_array_equal(ours.gradient, objective.contribution(theta, batch).gradient)


def test_the_jacobian_of_a_column_may_leave_out_its_axis():
    """For predictions (n, 1), leaves (n, *block) and (n, 1, *block) say the same."""
    objective, theta, batch = problem("jacobian", outputs=(1,))

    def narrow(params, X):
        full = jacobian(params, X)
        return {key: leaf[:, 0] for key, leaf in full.items() if key != "hidden"} | {
            "hidden": [leaf[:, 0] for leaf in full["hidden"]]
        }

    model = Callables(forward=forward, forms={"jacobian": narrow})
    ours = Objective(model, objective.loss, theta.layout).contribution(theta, batch)
    assert_array_equal(ours.gradient, objective.contribution(theta, batch).gradient)


def test_a_jacobian_may_have_an_empty_block():
    """A block without numbers has a Jacobian without numbers."""
    start = {"W": np.ones(3), "nothing": np.empty((0, 2))}
    layout = Layout.of(start)
    model = Callables(
        forward=lambda params, X: X @ params["W"],
        forms={"jacobian": lambda params, X: {"W": X, "nothing": np.empty((len(X), 0, 2))}},
    )
    theta = Parameters(layout, layout.flatten(start))
    contribution = Objective(model, get_loss("squared_error"), layout).contribution(theta, Batch(X, {"y": np.ones(N)}))
    assert_allclose(contribution.gradient, X.T @ (X.sum(axis=1) - 1) / N)


@pytest.mark.parametrize(
    "start", [(np.ones(3),), [np.ones(3), 1.0], np.ones(3), {"W": {"x": np.ones(3)}, "b": 1.0}], ids=repr
)
@EACH_FORM
def test_every_structure_serves_every_form(start, form):
    """Tuple, list, one array, nested dict: linear regression in each."""
    layout = Layout.of(start)
    with_offset = len(layout.names) > 1
    y = X[:, 0]

    def leaves(params):
        return layout.leaves(params)

    def linear(params, X):
        coef, *offset = leaves(params)
        return X @ coef + sum(offset)

    def adjoint(params, X, d):
        return layout.unflatten([X.T @ d, d.sum()])

    forms = {
        "gradient": lambda params, X, y: adjoint(params, X, (linear(params, X) - y) / len(X)),
        "loss_and_gradient": lambda params, X, y: (
            0.5 * np.mean((linear(params, X) - y) ** 2),
            adjoint(params, X, (linear(params, X) - y) / len(X)),
        ),
        "vjp": lambda params, X: (linear(params, X), lambda d: adjoint(params, X, d)),
        "jacobian": lambda params, X: layout.unflatten([X, np.ones(len(X))]),
    }
    model = Callables(forward=linear, forms={form: forms[form]}, columns=("y",))
    theta = Parameters(layout, layout.flatten(start))
    contribution = Objective(model, get_loss("squared_error"), layout, needs_value=True).contribution(
        theta, Batch(X, {"y": y})
    )
    residual = X.sum(axis=1) + with_offset - y
    assert contribution.loss == pytest.approx(0.5 * (residual**2).mean())
    assert_allclose(contribution.gradient, [*(X.T @ residual / N), *[residual.mean()] * with_offset])
