"""Intervals and choices, the check of a value against them, and the nearest of some words."""

import numpy as np
import pytest

from sk_analytic.validation import Interval, check_range, nearest

INTERVALS = [
    (Interval(0, 1), "[0, 1]", [True, True, True]),
    (Interval(0, 1, closed="left"), "[0, 1)", [True, True, False]),
    (Interval(0, 1, closed="right"), "(0, 1]", [False, True, True]),
    (Interval(0, 1, closed="neither"), "(0, 1)", [False, True, False]),
]


@pytest.mark.parametrize(("interval", "shown", "held"), INTERVALS, ids=[case[1] for case in INTERVALS])
def test_an_interval_holds_its_closed_ends(interval, shown, held):
    """What is inside, what is outside, the ends as they are closed, and never NaN."""
    assert str(interval) == shown
    assert interval.holds([0.0, 0.5, 1.0]).tolist() == held
    assert not interval.holds([-0.1, 1.1, np.nan, np.inf, -np.inf]).any()
    assert [interval.admits(value) for value in (0.0, 0.5, 1.0)] == held
    assert repr(eval(repr(interval))) == repr(interval)


def test_infinite_ends_are_open():
    """Infinity belongs to no range, however it is closed."""
    interval = Interval(-np.inf, np.inf, closed="both")
    assert str(interval) == "(-inf, inf)"
    assert interval.holds([[-1e308, 0], [1e308, np.inf]]).tolist() == [[True, True], [True, False]]
    assert str(Interval(0, np.inf)) == "[0, inf)"


@pytest.mark.parametrize("value", [1, 7, np.int32(3), np.uint8(3)])
def test_an_integral_interval_admits_whole_numbers(value):
    """Python's and NumPy's."""
    assert Interval(1, 10, integral=True).admits(value)


@pytest.mark.parametrize("value", [0, 11, 1.0, np.float64(2), True, np.True_, "3", None, [3], np.array([3]), 1j])
def test_an_integral_interval_admits_nothing_else(value):
    """Floats that are whole, bools, arrays and text are no whole numbers."""
    assert not Interval(1, 10, integral=True).admits(value)
    assert "integral=True" in repr(Interval(1, 10, integral=True))


@pytest.mark.parametrize(
    ("value", "allowed", "expected"),
    [
        (0, Interval(1, np.inf, integral=True), r"a whole number in \[1, inf\); got 0"),
        (1.5, Interval(1, 2, integral=True), r"a whole number in \[1, 2\]; got 1.5"),
        (np.inf, Interval(0, np.inf), r"a number in \[0, inf\); got inf"),
        ("a", ("b", "c"), "one of 'b', 'c'; got 'a'"),
        (1, (True, False, "warn"), "one of True, False, 'warn'; got 1"),
        (None, bool, "True or False; got None"),
        (1, bool, "True or False; got 1"),
    ],
)
def test_check_range_says_who_what_and_what_came(value, allowed, expected):
    """Owner and name, what is allowed, and the value: 1 is not True."""
    with pytest.raises(ValueError, match=f"^Model: steps must be {expected}.$"):
        check_range("Model", "steps", value, allowed)


@pytest.mark.parametrize(
    ("value", "allowed"),
    [(choice, (True, False, "warn")) for choice in (True, False, "warn", np.True_, np.str_("warn"))]
    + [(None, (None,))],
)
def test_check_range_admits_each_choice(value, allowed):
    """Bools, strings and None, NumPy's included."""
    check_range("Model", "steps", value, allowed)


@pytest.mark.parametrize(
    ("word", "words", "hint"),
    [
        ("adm", ["adam", "sgd"], " Did you mean 'adam'?"),
        ("ADAM", ["adam", "sgd"], " Did you mean 'adam'?"),
        ("w", ["W", "b"], " Did you mean 'W'?"),
        ("momentum", ["adam", "sgd"], ""),
        ("x", [], ""),
        (1, [1.0, 10], " Did you mean '10'?"),
    ],
)
def test_nearest_suggests_what_is_close(word, words, hint):
    """A slip is answered, whatever its case; something else entirely is not."""
    assert nearest(word, words) == hint
