"""What the engine computes is what the formulas say, whatever the size of θ and the shape of the chain."""

import numpy as np
import pytest

from sk_analytic.optimizers import SGD, Adam, Chain, ClipBlockNorm, Link, Rule
from sk_analytic.optimizers.engine import numpy_kernel, trace
from sk_analytic.optimizers.engine import run as engine_run


def run(optimizer, theta, gradients):
    """Return θ and the slots after a step along each of the gradients."""
    theta = theta.copy()
    state = optimizer.init(theta)
    for gradient in gradients:
        optimizer.update(state, theta, gradient)
    return theta, [link.slots for link in state.links]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


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
        (lambda g, theta, c: 2 * g, "Bad.formula: 2 stands in the formula; it must be a coefficient"),
        (lambda g, theta, c: g**2, "2 stands in the formula"),
        (lambda g, theta, c: (c + c) * g, "computes with coefficients alone"),
        (lambda g, theta, c: np.sqrt(c) * g, "computes with coefficients alone"),
        (lambda g, theta, c: g if g > c else theta, "cannot branch on a value"),
        (lambda g, theta, c: np.add(g, c, out=g), "not in place"),
        (lambda g, theta, c: np.add.reduce(g), "only be called entry by entry"),
        (lambda g, theta, c: np.sum(g), "np.sum does not work entry by entry"),
        (lambda g, theta, c: np.frexp(g)[0], "only be called entry by entry"),
        (lambda g, theta, c: c, "returned something that is not computed from θ"),
        (lambda g, theta, c: None, "returned something that is not computed from θ"),
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

    with pytest.raises(ValueError, match="Forgetful.formula returned 2 values; expected what flows on, and 2 slots"):
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
        (Bound(), "^Bound.formula is a bound method: make it a @staticmethod.*`coefficients`"),
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
