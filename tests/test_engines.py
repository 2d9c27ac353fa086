"""What the engine computes is what the formulas say, whatever the size of θ and the shape of the chain."""

import cProfile
import pickle
import pstats
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sk_analytic import AnalyticRegressor
from sk_analytic.exceptions import ParameterStructureError
from sk_analytic.optimizers import (
    SGD,
    Accumulate,
    Adam,
    AdamW,
    Chain,
    ClipBlockNorm,
    ClipNorm,
    Exponential,
    Link,
    Lookahead,
    PerBlock,
    Rule,
    WeightDecay,
    use_engine,
)
from sk_analytic.optimizers.engine import numpy_kernel, trace
from sk_analytic.optimizers.engine import run as engine_run
from sk_analytic.optimizers.engine.numba_kernel import is_installed
from sk_analytic.parameters import Layout
from sk_analytic.training.progress import History

needs_numba = pytest.mark.skipif(not is_installed(), reason="needs numba")


def run(optimizer, theta, gradients):
    """Return θ and the slots after a step along each of the gradients."""
    theta = theta.copy()
    state = optimizer.init(theta)
    for gradient in gradients:
        optimizer.update(state, theta, gradient)
    return theta, [link.slots for link in state.links]


class Swap(Rule):
    """Both slots change places in each step; the gradient flows on as it is."""

    slots = {"a": 1.0, "b": 2.0}

    def __init__(self, learning_rate=0.5):
        self.learning_rate = learning_rate

    @staticmethod
    def formula(g, theta, a, b):
        return g, b, a


class Late(Link):
    """The old value of the slot is read after its new value is there."""

    slots = {"last": 3.0}

    @staticmethod
    def formula(g, theta, last):
        new = g + theta
        return new * last, new


class Twice(Link):
    """One value is new in two slots, and flows on."""

    slots = {"a": 0.0, "b": 0.0}

    @staticmethod
    def formula(g, theta, a, b):
        new = a + g
        return new, new, new


class Masked(Link):
    """Comparisons, `np.where` and booleans; a boolean may be a slot's value."""

    slots = {"was_positive": 0.0}

    def coefficients(self, now):
        return 0.0, 2.0

    @staticmethod
    def formula(g, theta, was_positive, zero, two):
        positive = g > zero
        return np.where(positive & (theta < two), two * g, np.abs(g) * positive), positive


class Lazy(Link):
    """What is computed for nothing is not computed: a division by zero would warn."""

    def coefficients(self, now):
        return (0.0,)

    @staticmethod
    def formula(g, theta, zero):
        theta / (zero * g)
        return g


class Norm(Link):
    """Divides by the Euclidean norm of what comes to it, plus that of θ."""

    def __init__(self, weight=1.0):
        self.weight = weight

    def scales(self, now):
        return (self.weight,)

    @staticmethod
    def measures(flow, theta, weight):
        return flow * flow, weight * theta * theta

    def coefficients(self, now):
        flow, theta = now.sums
        return (1.0 / (flow**0.5 + theta**0.5),)

    @staticmethod
    def formula(flow, theta, factor):
        return factor * flow


def test_slots_may_change_places():
    """New values are old ones of other slots, none of which is overwritten too early."""
    _, (slots,) = run(Swap(), np.ones(3), [np.ones(3)])
    assert (slots["a"] == 2.0).all()
    assert (slots["b"] == 1.0).all()


def test_the_old_value_of_a_slot_is_there_until_its_last_use():
    """A formula may read a slot after it computed the slot's new value."""
    theta, (slots, _) = run(Chain([Late(), SGD(1.0)]), np.array([1.0]), [np.array([4.0])])
    assert slots["last"] == [5.0]
    assert theta == [1.0 - 5.0 * 3.0]


def test_one_value_may_be_new_in_two_places():
    """Slots with the same new value are arrays of their own."""
    _, (slots, _) = run(Chain([Twice(), SGD()]), np.ones(2), [np.ones(2)] * 3)
    assert (slots["a"] == 3.0).all()
    assert (slots["b"] == 3.0).all()
    assert not np.shares_memory(slots["a"], slots["b"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_booleans_in_formulas(dtype):
    """Comparisons give booleans, which select, combine and multiply; θ and slots keep their dtype."""
    theta = np.array([1.0, 3.0, 1.0, 3.0], dtype)
    after, (slots, _) = run(Chain([Masked(), SGD(1.0)]), theta, [np.array([1.0, 1.0, -1.0, -1.0], dtype)])
    assert after.tolist() == [1.0 - 2.0, 3.0 - 1.0, 1.0, 3.0]
    assert slots["was_positive"].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert after.dtype == slots["was_positive"].dtype == dtype


def test_what_nobody_reads_is_not_computed():
    """A result that reaches neither flow, slot nor sum costs nothing, and cannot warn."""
    run(Chain([Lazy(), SGD()]), np.ones(2), [np.ones(2)])


def test_the_same_call_is_made_once():
    """g * g, wherever it stands in a pass, is one call."""
    record = trace.Trace(np.dtype(float))
    g = record.symbol("g")
    assert (g * g).name == (g * g).name
    assert len(record.calls) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 7, 16, 17, 100])
def test_pieces_make_no_difference(monkeypatch, rng, size, dtype):
    """θ in pieces of 16 entries gives bitwise what θ in one piece gives."""
    theta = rng.normal(size=size).astype(dtype)
    gradients = rng.normal(size=(5, size)).astype(dtype)
    whole = run(Chain([Masked(), Adam(amsgrad=True)]), theta, gradients)
    monkeypatch.setattr(numpy_kernel, "PIECE", 16)
    pieces = run(Chain([Masked(), Adam(amsgrad=True)]), theta, gradients)
    np.testing.assert_equal(pieces, whole)


def test_sums_go_over_all_pieces(monkeypatch, rng):
    """What a link measures is summed over the whole block, however it is cut."""
    monkeypatch.setattr(numpy_kernel, "PIECE", 16)
    theta, g = rng.normal(size=(2, 100))
    after, _ = run(Chain([Norm(4.0), SGD(1.0)]), theta, [g])
    np.testing.assert_allclose(after, theta - g / (np.linalg.norm(g) + 2 * np.linalg.norm(theta)), rtol=1e-14)


def test_a_link_that_measures_sees_what_the_links_before_it_did(rng):
    """Two of them in a row, and links before, between and after: each takes what the last one gave."""
    theta, g = rng.normal(size=(2, 50))
    after, _ = run(Chain([Twice(), Norm(), Late(), Norm(), SGD(1.0)]), theta, [g])
    size = np.linalg.norm
    flow = g / (size(g) + size(theta))
    flow = (flow + theta) * 3.0
    flow /= size(flow) + size(theta)
    np.testing.assert_allclose(after, theta - flow, rtol=1e-13)


def test_one_link_may_stand_twice(rng):
    """The same object in two places is two links, each with its own sums."""
    theta, g = rng.normal(size=(2, 50))
    norm = Norm(0.0)
    after, _ = run(Chain([norm, norm, SGD(1.0)]), theta, [g])
    np.testing.assert_allclose(after, theta - g / np.linalg.norm(g), rtol=1e-13)


def test_the_gradient_is_only_read(rng):
    """Neither passes nor clipping write to the user's gradient; it may be read-only."""
    theta, g = rng.normal(size=(2, 50))
    kept = g.copy()
    g.flags.writeable = False
    run(Chain([Twice(), Norm(), SGD()]), theta, [g, g])
    np.testing.assert_array_equal(g, kept)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (lambda g, theta, c: 2 * g, "Bad.formula: numeric literal 2 in a formula; return it from `coefficients`"),
        (lambda g, theta, c: g**2, "numeric literal 2 in a formula"),
        (lambda g, theta, c: (c + c) * g, "computes with coefficients alone"),
        (lambda g, theta, c: np.sqrt(c) * g, "computes with coefficients alone"),
        (lambda g, theta, c: g if g > c else theta, "cannot branch on a value"),
        (lambda g, theta, c: np.add(g, c, out=g), "not in place"),
        (lambda g, theta, c: np.add.reduce(g), "must be called elementwise"),
        (lambda g, theta, c: np.sum(g), "np.sum is not an elementwise function"),
        (lambda g, theta, c: np.frexp(g)[0], "must be called elementwise"),
        (lambda g, theta, c: c, "returned a value that is not computed from θ"),
        (lambda g, theta, c: None, "returned a value that is not computed from θ"),
    ],
)
def test_a_formula_that_breaks_the_rules_says_which(formula, message):
    """Literals, arithmetic on coefficients, branches, sums and writing in place are refused by name."""

    class Bad(Rule):
        def __init__(self, learning_rate=0.1):
            self.learning_rate = learning_rate

        def coefficients(self, now):
            return (1.0,)

    Bad.formula = staticmethod(formula)
    with pytest.raises(TypeError, match=message):
        run(Bad(), np.ones(2), [np.ones(2)])


def test_a_formula_returns_a_value_for_each_slot():
    """Too few or too many values are an error that counts them."""

    class Forgetful(Swap):
        @staticmethod
        def formula(g, theta, a, b):
            return g, a

    with pytest.raises(ValueError, match="Forgetful.formula returned 2 values; expected the output and 2 slots"):
        run(Forgetful(), np.ones(2), [np.ones(2)])


class Bound(Rule):
    """Its formula sees hyperparameters: a change of them would go unseen."""

    def __init__(self, learning_rate=0.1, flip=False):
        self.learning_rate, self.flip = learning_rate, flip

    def formula(self, g, theta):
        return -g if self.flip else g


class BoundByProperty(Bound):
    """Likewise, by another way."""

    formula = property(lambda self: super().formula)


class BoundMeasure(Norm):
    """What it measures depends on hyperparameters."""

    def measures(self, flow, theta, weight):
        return flow * flow, weight * theta * theta


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (Bound(), "^Bound.formula is a bound method. Make it a @staticmethod.*`coefficients`"),
        (BoundByProperty(), "^BoundByProperty.formula is a bound method"),
        (Chain([BoundMeasure(), SGD()]), "^BoundMeasure.measures is a bound method.*`scales`"),
    ],
    ids=["formula", "formula from a property", "measures"],
)
def test_a_method_is_no_formula(optimizer, message):
    """What a formula does is learned once, so it must not see what may change."""
    with pytest.raises(TypeError, match=message):
        optimizer.init(np.ones(2))


class Renewed(Rule):
    """The property gives another function each time it is asked."""

    def __init__(self, learning_rate=0.1):
        self.learning_rate = learning_rate

    @property
    def formula(self):
        return lambda g, theta: np.negative(-g)


def test_kernels_do_not_pile_up(monkeypatch):
    """A formula that is another function after each change of a hyperparameter leaves a fixed number behind."""
    monkeypatch.setattr(numpy_kernel, "MOST_KEPT", 4)
    theta, rule = np.zeros(2), Renewed()
    state = rule.init(theta)
    for step in range(1, 12):
        rule.learning_rate = float(step)
        rule.update(state, theta, np.ones(2))
        assert len(state._engine._kernels) <= 4
    np.testing.assert_array_equal(theta, -sum(range(1, 12)))


def test_programs_do_not_pile_up(monkeypatch, rng):
    """However many sets of blocks take part in some step, a fixed number is kept, and the numbers are the same."""
    start, patterns = rng.normal(size=5), rng.random((60, 5)) > 0.5
    theta = {str(i): np.array([value]) for i, value in enumerate(start)}
    expected = {name: block.copy() for name, block in theta.items()}
    gradients = [{name: None if gone else np.ones(1) for name, gone in zip(theta, p, strict=True)} for p in patterns]
    optimizer = Adam()
    state = optimizer.init(expected)
    for gradient in gradients:
        optimizer.update(state, expected, gradient)
    assert len(state._run._programs) > 4
    monkeypatch.setattr(engine_run, "MOST_KEPT", 4)
    state = optimizer.init(theta)
    for gradient in gradients:
        optimizer.update(state, theta, gradient)
        assert len(state._run._programs) <= 4
    np.testing.assert_equal(theta, expected)


def test_a_block_without_entries_is_no_obstacle():
    """An empty block among others passes the same links."""
    theta = {"empty": np.zeros((0, 3)), "W": np.ones(2)}
    optimizer = Chain([ClipBlockNorm(0.5), SGD(1.0)])
    optimizer.update(optimizer.init(theta), theta, {"empty": np.zeros((0, 3)), "W": np.ones(2)})
    np.testing.assert_allclose(theta["W"], 1 - 0.5 / 2**0.5)


ENGINES = ["numpy", pytest.param("numba", marks=needs_numba)]


def stepping(optimizer, theta, engine="numpy", blocks=None):
    """Return a new state made under an engine."""
    with use_engine(engine):
        return optimizer.init(theta, blocks)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "optimizer",
    [
        Adam(),
        Adam(Exponential(0.1, 0.9)),
        Chain([ClipNorm(0.1), AdamW()]),
        Chain([Accumulate(3), SGD(0.1, momentum=0.9), Lookahead()]),
        PerBlock({"a": Adam(), "b": Chain([ClipBlockNorm(0.1), SGD()])}),
    ],
)
def test_the_step_function_does_what_update_does(optimizer, engine, rng):
    """Bit for bit, and in between `update` may be called, also without a block, and θ be another array."""
    layout = Layout.of({"a": np.ones(5), "b": np.ones(7)})
    ours, theirs = np.ones(12), np.ones(12)
    state, other = stepping(optimizer, ours, engine, layout), stepping(optimizer, theirs, engine, layout)
    step = optimizer.step_function(state, ours)
    for number, g in enumerate(rng.normal(size=(20, 12))):
        missing = (1,) if number == 7 else ()
        optimizer.update(other, theirs, g, missing=missing)
        if missing or number % 5 == 4:
            optimizer.update(state, ours, g, missing=missing)
        else:
            step(g)
        if number == 11:
            copy = theirs.copy()
            optimizer.update(other, copy, g)
            theirs[:] = copy
            step(g)
    np.testing.assert_array_equal(ours, theirs)
    assert (state.step, repr(state.links)) == (other.step, repr(other.links))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_step_function_takes_any_gradient_that_fits(engine):
    """Read-only, strided, of another precision or a list: as `update` takes it; of another shape: an error."""
    g = np.arange(4.0)
    read_only = g.copy()
    read_only.flags.writeable = False
    kinds = [
        g,
        read_only,
        np.repeat(g, 2)[::2],
        g[::-1].copy()[::-1],
        g.astype(np.float32),
        g.astype(np.float16),
        list(g),
    ]
    results = []
    for kind in kinds:
        theta, optimizer = np.ones(4), Adam()
        step = optimizer.step_function(stepping(optimizer, theta, engine), theta)
        for _ in range(3):
            step(kind)
        results.append(theta)
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    for bad in (np.ones(5), np.ones(1), np.ones((4, 1)), 1.0):
        with pytest.raises(ParameterStructureError, match=r"gradient has shape .*; expected \(4,\)"):
            step(bad)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_vector_that_is_not_contiguous_is_updated_all_the_same(engine, rng):
    """θ may be a view with gaps: what lies between stays."""
    g, whole = rng.normal(size=5), np.ones(10)
    plain, theta = np.ones(5), whole[::2]
    for vector in (plain, theta):
        optimizer = Adam()
        state = stepping(optimizer, vector, engine)
        for _ in range(4):
            optimizer.update(state, vector, g)
    np.testing.assert_array_equal(theta, plain)
    assert (whole[1::2] == 1.0).all()


def replace_in_list(optimizer):
    """Change what a chain is made of, in place."""
    optimizer.links[1] = SGD(0.0)


def set_inside(optimizer):
    """Change a hyperparameter of a part."""
    optimizer.links[1].learning_rate = 0.0


@pytest.mark.parametrize("change", [replace_in_list, set_inside])
def test_a_step_function_notices_changes(change, rng):
    """A hyperparameter set, and a list changed in place, hold from the next step."""
    optimizer, theta = Chain([WeightDecay(), SGD(0.1)]), np.ones(3)
    step = optimizer.step_function(optimizer.init(theta), theta)
    for _ in range(4):
        step(np.ones(3))
    before = theta.copy()
    change(optimizer)
    step(np.ones(3))
    np.testing.assert_array_equal(theta, before)


def test_a_step_function_notices_a_changed_dict():
    """PerBlock's dict may be changed in place too."""
    optimizer, theta = PerBlock({"": SGD(0.1)}), np.ones(3)
    step = optimizer.step_function(optimizer.init(theta), theta)
    for _ in range(4):
        step(np.ones(3))
    before = theta.copy()
    optimizer.blocks[""] = SGD(0.0)
    step(np.ones(3))
    np.testing.assert_array_equal(theta, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("engine", ENGINES)
def test_flushed_slots_hold_no_denormals(engine, dtype, rng):
    """Averages of dead entries become zero; all others stay, and both engines agree to the bit."""
    paths = {}
    for name in ("numpy", engine):
        theta, optimizer = np.ones(50, dtype), Adam()
        state = stepping(optimizer, theta, name)
        g = np.random.default_rng(0).normal(size=50).astype(dtype)
        steps = 1200 if dtype == np.float32 else 8000
        for step in range(steps):
            g[10:] = 0 if step else 1
            optimizer.update(state, theta, g)
            if step == steps - 5:
                assert any(has_denormals(slot) for slot in state.links[0].slots.values())
                kept = {slot: values.copy() for slot, values in state.links[0].slots.items()}
                state.flush_denormals()
                for slot, values in state.links[0].slots.items():
                    assert not has_denormals(values)
                    np.testing.assert_array_equal(values[:10], kept[slot][:10])
        paths[name] = theta, state.links[0].slots
    np.testing.assert_equal(paths[engine], paths["numpy"])


def has_denormals(values):
    """Whether some entries are too small for full precision."""
    return bool(((values != 0) & (np.abs(values) < np.finfo(values.dtype).tiny)).any())


def test_flushing_leaves_read_only_slots_alone():
    """A snapshot's slots are views: flushing it does nothing, flushing the state is seen in it."""
    theta, optimizer = np.ones(2), SGD(momentum=0.9)
    state = optimizer.init(theta)
    optimizer.update(state, theta, np.array([1.0, 1e-310]))
    snapshot = state.snapshot()
    snapshot.flush_denormals()
    assert state.links[0].slots["velocity"][1] == 1e-310
    state.flush_denormals()
    assert snapshot.links[0].slots["velocity"].tolist() == [1.0, 0.0]


def test_threads_share_no_scratch(rng):
    """Two optimizers in two threads end where each alone would."""
    gradients = rng.normal(size=(300, 1000))

    def run_alone(_):
        return run(Chain([ClipNorm(1.0), Adam()]), np.ones(1000), gradients)[0]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run_alone, range(4)))
    for result in results:
        np.testing.assert_array_equal(result, run_alone(0))


@pytest.mark.parametrize("links", [[], [ClipNorm()], [ClipBlockNorm()]])
def test_many_blocks_are_set_up_in_linear_time(links):
    """Four times as many blocks make four times as many calls, not sixteen times as many."""

    def calls(n):
        theta = np.ones(n)
        layout = Layout.of({f"b{i}": np.ones(1) for i in range(n)})
        optimizer, profile = Chain([*links, Adam()]), cProfile.Profile()
        profile.enable()
        optimizer.update(optimizer.init(theta, layout), theta, np.ones(n))
        profile.disable()
        return pstats.Stats(profile).total_calls

    assert calls(2000) < 5 * calls(500)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"alpha": 0.1},
        {"alpha": {f"b{i}": 0.1 for i in range(250)}},
        {"fixed": [f"b{i}" for i in range(1, 250)]},
        {"optimizer": Chain([ClipBlockNorm(), Adam()])},
        {"optimizer": "lbfgs"},
    ],
    ids=lambda settings: ", ".join(f"{name}" for name in settings) or "default",
)
@pytest.mark.parametrize("leaf", [np.zeros(1), None], ids=["gradient", "missing"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # three epochs are enough
def test_a_fit_of_many_blocks_takes_linear_time(settings, leaf):
    """All of it: the layout, the penalty, names, the first steps, the history."""
    X, y = np.ones((10, 1)), np.ones(10)

    def forward(params, X):
        return X @ params["b0"]

    def gradient(params, X, y):
        return dict.fromkeys(params, leaf) | {"b0": X.T @ (forward(params, X) - y) / len(X)}

    def calls(n):
        init = {f"b{i}": np.zeros(1) for i in range(n)}
        model = AnalyticRegressor(forward, gradient, init, max_iter=3, check_gradient=False, random_state=0, **settings)
        profile = cProfile.Profile()
        profile.enable()
        model.fit(X, y)
        profile.disable()
        return pstats.Stats(profile).total_calls

    assert calls(1000) < 5 * calls(250)


@pytest.mark.parametrize("rate", [0.01, Exponential(0.1, 0.9, unit="epoch")], ids=["constant", "schedule"])
def test_what_is_kept_of_an_epoch_does_not_grow_with_the_blocks(rate):
    """Blocks that share a rate share its record, in memory and in a file; it reads as one for each block."""
    X, y = np.ones((10, 1)), np.ones(10)

    def forward(params, X):
        return X @ params["b0"]

    def gradient(params, X, y):
        return dict.fromkeys(params, np.zeros(1)) | {"b0": X.T @ (forward(params, X) - y) / len(X)}

    def an_epoch(n):
        """Bytes that an epoch adds to the pickled history."""
        init = {f"b{i}": np.zeros(1) for i in range(n)}
        sizes = []
        for max_iter in (10, 30):
            model = AnalyticRegressor(
                forward,
                gradient,
                init,
                optimizer=Adam(rate),
                max_iter=max_iter,
                n_iter_no_change=np.inf,
                check_gradient=False,
            ).fit(X, y)
            sizes.append(len(pickle.dumps(model._training.history)))
        rates = model._training.history.learning_rates
        assert list(rates) == list(range(30))
        assert rates[29] == dict.fromkeys(init, rate if rate == 0.01 else pytest.approx(0.1 * 0.9**29))
        return (sizes[1] - sizes[0]) / 20

    assert an_epoch(400) < an_epoch(2) + 8


def test_rates_that_differ_are_kept_in_groups():
    """Whoever has the same rate in an epoch is one group; the groups are shared by epochs that are alike."""
    history = History()
    for epoch, (a, b) in enumerate([(0.1, 0.2), (0.05, 0.2), (0.2, 0.2)]):
        history.note_rates(epoch, {"x": a, "y": b, "z": a})
    assert history.learning_rates == {
        0: {"x": 0.1, "y": 0.2, "z": 0.1},
        1: {"x": 0.05, "y": 0.2, "z": 0.05},
        2: {"x": 0.2, "y": 0.2, "z": 0.2},
    }
    assert history.rates[0] == ((("x", "z"), ("y",)), (0.1, 0.2))
    assert history.rates[1][0] is history.rates[0][0]
    assert history.copy().learning_rates == history.learning_rates
