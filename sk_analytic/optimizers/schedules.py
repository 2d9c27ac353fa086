"""Hyperparameters that change during training: pass a schedule in place of a number.

A schedule is a pure function of the step (calls of ``update`` so far) and the epoch, both from 0; `ReduceOnPlateau`
also depends on the losses of the epochs so far. A resumed run therefore continues exactly. ``unit`` says which of
the two is counted. The length of a schedule is set by its own arguments and does not depend on how long training
takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hyperparameters import Hyperparameters
from ..validation import Interval, check_range
from .composite import Composite, named, names_of, unnamed
from .scalars import as_float, cos, log1p

if TYPE_CHECKING:
    from .state import State


NUMBER = Interval(-np.inf, np.inf)
AMOUNT = Interval(0, np.inf)
POSITIVE = Interval(0, np.inf, closed="neither")
SHARE = Interval(0, 1)
AT_LEAST_ONE = Interval(1, np.inf)
COUNT = Interval(0, np.inf, integral=True)
UNITS = {"unit": ("step", "epoch")}


class Schedule(Hyperparameters):
    """Base class of schedules: implement ``__call__``, and ``at`` if the value depends on the loss.

    Attributes
    ----------
    unit : {"step", "epoch"}
        What is counted: updates, or passes over the data. Most schedules have it as a hyperparameter.
    """

    unit = "step"

    def __call__(self, step: int, epoch: int) -> float:
        """Return the value after the given number of steps and epochs.

        Parameters
        ----------
        step : int
            Number of updates so far.
        epoch : int
            Number of complete passes over the data so far.

        Returns
        -------
        value : float
        """
        raise NotImplementedError

    def at(self, state: State | _Moment) -> float:
        """Return the value for the next update.

        Parameters
        ----------
        state : State
            State of the optimizer, with ``step``, ``epoch`` and the ``loss_curve`` so far.

        Returns
        -------
        value : float
        """
        return self(state.step, state.epoch)

    def check(self) -> None:
        """Raise an error that names the first invalid hyperparameter, of this or a nested schedule."""
        super().check()
        for value in vars(self).values():
            if isinstance(value, Schedule):
                value.check()

    def _count(self, step: int, epoch: int) -> int:
        return epoch if self.unit == "epoch" else step


class _Moment:
    """The state as seen by a schedule inside another, with its count restarted."""

    __slots__ = ("epoch", "loss_curve", "notes", "step")

    def __init__(
        self, step: int, epoch: int, loss_curve: Sequence[float] = (), notes: dict[Any, Any] | None = None
    ) -> None:
        self.step, self.epoch, self.loss_curve = step, epoch, loss_curve
        self.notes = {} if notes is None else notes

    @classmethod
    def after(cls, state: State | _Moment, begin: Any, unit: str) -> _Moment:
        """Return a state as seen by a schedule that began after so many units."""
        step, epoch = (state.step - begin, state.epoch) if unit == "step" else (state.step, state.epoch - begin)
        return cls(step, epoch, state.loss_curve, state.notes)


class _OfState(Schedule):
    """A schedule defined by ``at``, because it depends on more than two counts; a plain call has seen no loss."""

    def __call__(self, step: int, epoch: int) -> float:
        """Return the value after the given number of steps and epochs, without any loss seen."""
        return self.at(_Moment(step, epoch))


def _value(schedule: Schedule | float, state: State | _Moment) -> float:
    """Return the value of a schedule, or of a number in its place."""
    return schedule.at(state) if isinstance(schedule, Schedule) else schedule


class Constant(Schedule):
    """Constant value, for functions that require a schedule.

    Parameters
    ----------
    value : float
        The value.

    Examples
    --------
    >>> from sk_analytic.optimizers import Constant
    >>> Constant(0.1)(step=1000, epoch=10)
    0.1
    """

    ranges = {"value": NUMBER}

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, step: int, epoch: int) -> float:
        """Return the value."""
        return self.value


class Exponential(Schedule):
    r"""Multiply by ``decay`` once in ``every`` units, smoothly: :math:`v_0\, d^{\,k / e}` after k units.

    Like ``optax.exponential_decay`` and, with ``unit="epoch"``, ``torch.optim.lr_scheduler.ExponentialLR``.

    Parameters
    ----------
    initial : float
        Initial value.
    decay : float
        Factor per ``every`` units, greater than 0.
    every : float, default=1
        Number of units after which the value has been multiplied by ``decay``.
    unit : {"step", "epoch"}, default="step"
        Whether to count steps or epochs.

    Examples
    --------
    >>> from sk_analytic.optimizers import Exponential
    >>> Exponential(0.1, decay=0.5, every=100)(step=200, epoch=0)
    0.025
    """

    ranges = {"initial": NUMBER, "decay": POSITIVE, "every": POSITIVE, **UNITS}

    def __init__(self, initial: float, decay: float, every: float = 1, unit: str = "step") -> None:
        self.initial = initial
        self.decay = decay
        self.every = every
        self.unit = unit

    def __call__(self, step: int, epoch: int) -> float:
        """Return the value after the given number of steps and epochs."""
        return as_float(self.initial * self.decay ** (self._count(step, epoch) / self.every))


class InverseTime(Schedule):
    r"""Decrease inversely with time: :math:`v_0 / (1 + d\, k / e)` after k units.

    Like ``keras.optimizers.schedules.InverseTimeDecay``.

    Parameters
    ----------
    initial : float
        Initial value.
    decay : float
        Decay d per ``every`` units.
    every : float, default=1
        Number of units after which the denominator has grown by ``decay``.
    unit : {"step", "epoch"}, default="step"
        Whether to count steps or epochs.

    Examples
    --------
    >>> from sk_analytic.optimizers import InverseTime
    >>> InverseTime(0.1, decay=1.0, unit="epoch")(step=900, epoch=9)
    0.01
    """

    ranges = {"initial": NUMBER, "decay": AMOUNT, "every": POSITIVE, **UNITS}

    def __init__(self, initial: float, decay: float, every: float = 1, unit: str = "step") -> None:
        self.initial = initial
        self.decay = decay
        self.every = every
        self.unit = unit

    def __call__(self, step: int, epoch: int) -> float:
        """Return the value after the given number of steps and epochs."""
        return self.initial / (1 + self.decay * self._count(step, epoch) / self.every)


class Polynomial(Schedule):
    r"""Go to a final value in n units: :math:`v_1 + (v_0 - v_1) (1 - k / n)^p` after k units.

    After n units it stays constant. With a power of 1 it is linear. Like ``optax.polynomial_schedule`` and, with a
    final value of 0, ``torch.optim.lr_scheduler.PolynomialLR``.

    Parameters
    ----------
    initial : float
        Value at the start, :math:`v_0`.
    length : float
        Number n of units until the final value is reached.
    final : float, default=0.0
        Final value, :math:`v_1`.
    power : float, default=1.0
        Power p.
    unit : {"step", "epoch"}, default="step"
        Whether to count steps or epochs.

    Examples
    --------
    >>> from sk_analytic.optimizers import Polynomial
    >>> Polynomial(0.1, length=100, final=0.02)(step=50, epoch=0)
    0.06
    """

    ranges = {"initial": NUMBER, "length": POSITIVE, "final": NUMBER, "power": POSITIVE, **UNITS}

    def __init__(
        self, initial: float, length: float, final: float = 0.0, power: float = 1.0, unit: str = "step"
    ) -> None:
        self.initial = initial
        self.length = length
        self.final = final
        self.power = power
        self.unit = unit

    def __call__(self, step: int, epoch: int) -> float:
        """Return the value after the given number of steps and epochs."""
        left = 1.0 - min(self._count(step, epoch) / self.length, 1.0)
        return as_float(self.final + (self.initial - self.final) * left**self.power)


class Step(Schedule):
    r"""Multiply by a factor every e units: :math:`v_0\, f^{\lfloor k / e \rfloor}` after k units.

    Like ``torch.optim.lr_scheduler.StepLR`` and ``optax.exponential_decay`` with ``staircase=True``.

    Parameters
    ----------
    initial : float
        Initial value.
    every : float
        Number of units between changes.
    factor : float, default=0.1
        Factor of each change, greater than 0.
    unit : {"step", "epoch"}, default="step"
        Whether to count steps or epochs.

    Examples
    --------
    >>> from sk_analytic.optimizers import Step
    >>> schedule = Step(0.1, every=30, factor=0.5, unit="epoch")
    >>> [schedule(step=0, epoch=epoch) for epoch in (0, 29, 30, 60)]
    [0.1, 0.1, 0.05, 0.025]
    """

    ranges = {"initial": NUMBER, "every": POSITIVE, "factor": POSITIVE, **UNITS}

    def __init__(self, initial: float, every: float, factor: float = 0.1, unit: str = "step") -> None:
        self.initial = initial
        self.every = every
        self.factor = factor
        self.unit = unit

    def __call__(self, step: int, epoch: int) -> float:
        """Return the value after the given number of steps and epochs."""
        return as_float(self.initial * self.factor ** (self._count(step, epoch) // self.every))


class Piecewise(Schedule):
    """Piecewise constant values, which change at given boundaries.

    Like ``torch.optim.lr_scheduler.MultiStepLR`` and ``optax.piecewise_constant_schedule``, which take factors
    instead of values.

    Parameters
    ----------
    values : list of float
        Values, one more than there are boundaries.
    boundaries : list of float
        Number of units after which each next value applies, increasing.
    unit : {"step", "epoch"}, default="step"
        Whether to count steps or epochs.

    Examples
    --------
    >>> from sk_analytic.optimizers import Piecewise
    >>> schedule = Piecewise([0.1, 0.01, 0.001], boundaries=[10, 20], unit="epoch")
    >>> [schedule(step=0, epoch=epoch) for epoch in (9, 10, 20)]
    [0.1, 0.01, 0.001]
    """

    ranges = UNITS

    def __init__(self, values: Sequence[float], boundaries: Sequence[int], unit: str = "step") -> None:
        self.values = values
        self.boundaries = boundaries
        self.unit = unit

    def __call__(self, step: int, epoch: int) -> float:
        """Return the value after the given number of steps and epochs."""
        return self.values[_passed(self.boundaries, self._count(step, epoch))]

    def check(self) -> None:
        """Raise an error if a value is not a number, or the boundaries do not fit."""
        super().check()
        _check_boundaries(self, "values")
        for value in self.values:
            check_range("Piecewise", "each of the values", value, NUMBER)


class Cosine(Schedule):
    r"""Cosine annealing, optionally with warm restarts [Loshchilov2017]_.

    .. math::

        v_1 + \frac{v_0 - v_1}{2} \Big(1 + \cos \frac{\pi k}{n}\Big)

    after k of n units. Afterwards it stays at :math:`v_1` or, with restarts, jumps back to :math:`v_0` and takes
    ``growth`` times as long for the next cycle. Like ``optax.cosine_decay_schedule`` and, with restarts,
    ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts``.

    Parameters
    ----------
    initial : float
        Value at the start of each cycle, :math:`v_0`.
    length : float
        Number n of units in the first cycle.
    final : float, default=0.0
        Value at the end of each cycle, :math:`v_1`.
    restarts : bool, default=False
        Whether to restart after each cycle.
    growth : float, default=1.0
        Factor by which each cycle is longer than the one before, at least 1; :math:`T_{mult}` in the paper.
    unit : {"step", "epoch"}, default="step"
        Whether to count steps or epochs.

    References
    ----------
    .. [Loshchilov2017] I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm restarts",
       ICLR 2017, equation 5.

    Examples
    --------
    >>> from sk_analytic.optimizers import Cosine
    >>> schedule = Cosine(0.1, length=10, restarts=True, growth=2)
    >>> [round(schedule(step=step, epoch=0), 3) for step in (0, 5, 9, 10, 20, 30)]
    [0.1, 0.05, 0.002, 0.1, 0.05, 0.1]
    """

    ranges = {
        "initial": NUMBER,
        "length": POSITIVE,
        "final": NUMBER,
        "restarts": bool,
        "growth": AT_LEAST_ONE,
        **UNITS,
    }

    def __init__(
        self,
        initial: float,
        length: float,
        final: float = 0.0,
        restarts: bool = False,
        growth: float = 1.0,
        unit: str = "step",
    ) -> None:
        self.initial = initial
        self.length = length
        self.final = final
        self.restarts = restarts
        self.growth = growth
        self.unit = unit

    def __call__(self, step: int, epoch: int) -> float:
        """Return the value after the given number of steps and epochs."""
        passed = self._count(step, epoch)
        count, length = self._in_fall(passed) if self.restarts else (passed, self.length)
        return self.final + (self.initial - self.final) * _half_wave(min(count / length, 1.0))

    def _in_fall(self, count: float) -> tuple[float, float]:
        """Return the position of a count within its cycle, and the length of that cycle."""
        length, growth = self.length, self.growth
        if growth == 1:
            return count % length, length

        def begin(fall: float) -> float:
            return as_float(length * (growth**fall - 1) / (growth - 1))

        # The logarithm may round to a neighbor.
        fall = math.floor(log1p(count / length * (growth - 1)) / math.log(growth))
        fall += (count >= begin(fall + 1)) - (count < begin(fall))
        return count - begin(fall), length * growth**fall


class InverseSquareRoot(Schedule):
    r"""Linear warm-up, then decay with the inverse square root of time [Vaswani2017]_.

    .. math::

        v \min\Big(\frac{k + 1}{w}, \sqrt{\frac{w}{k + 1}}\Big)

    after k units. The paper's learning rate, known as "Noam", has the peak
    :math:`v = d_\text{model}^{-1/2} w^{-1/2}`.

    Parameters
    ----------
    peak : float
        Largest value v, reached in the w-th unit.
    warm_up : float
        Number w of units of the warm-up; 1 for none.
    unit : {"step", "epoch"}, default="step"
        Whether to count steps or epochs.

    References
    ----------
    .. [Vaswani2017] A. Vaswani et al., "Attention is all you need", NeurIPS 2017, equation 3.

    Examples
    --------
    >>> from sk_analytic.optimizers import InverseSquareRoot
    >>> schedule = InverseSquareRoot(0.1, warm_up=10)
    >>> [schedule(step=step, epoch=0) for step in (0, 9, 39)]
    [0.01, 0.1, 0.05]
    """

    ranges = {"peak": NUMBER, "warm_up": AT_LEAST_ONE, **UNITS}

    def __init__(self, peak: float, warm_up: float, unit: str = "step") -> None:
        self.peak = peak
        self.warm_up = warm_up
        self.unit = unit

    def __call__(self, step: int, epoch: int) -> float:
        """Return the value after the given number of steps and epochs."""
        share = (self._count(step, epoch) + 1) / self.warm_up
        return as_float(self.peak * min(share, share**-0.5))


class OneCycle(Schedule):
    r"""One-cycle policy: rise to a peak, then fall far below the initial value [Smith2019]_.

    To vary the momentum in the opposite direction, use a second schedule, as in the example. Like
    ``torch.optim.lr_scheduler.OneCycleLR``: of n units, number 0 has the initial value, number
    :math:`p n - 1` (which may be fractional) the peak, and number :math:`n - 1` the final value, which is then kept.

    Parameters
    ----------
    peak : float
        Value at the peak, which may also be the smallest, as for a momentum.
    length : float
        Number n of units in the cycle.
    initial : float, default=None
        Value at the start. If None, ``peak / 25``.
    final : float, default=None
        Value at the end. If None, ``initial / 10000``.
    peak_at : float, default=0.3
        Fraction p of the cycle after which the peak is reached.
    shape : {"cosine", "linear"}, default="cosine"
        Shape of the curve between these values.
    three_phases : bool, default=False
        Whether to fall to the initial value first, in as many units as the rise took, and then to the final one. The
        peak must then lie in the first half.
    unit : {"step", "epoch"}, default="step"
        Whether to count steps or epochs.

    References
    ----------
    .. [Smith2019] L. Smith and N. Topin, "Super-convergence: very fast training of neural networks using
       large learning rates", arXiv:1708.07120.

    Examples
    --------
    >>> from sk_analytic.optimizers import SGD, OneCycle
    >>> optimizer = SGD(
    ...     learning_rate=OneCycle(0.5, length=100),
    ...     momentum=OneCycle(0.85, length=100, initial=0.95, final=0.95),
    ... )
    >>> [round(optimizer.learning_rate(step=step, epoch=0), 3) for step in (0, 29, 60, 99)]
    [0.02, 0.5, 0.295, 0.0]
    """

    ranges = {
        "peak": NUMBER,
        "length": AT_LEAST_ONE,
        "peak_at": SHARE,
        "shape": ("cosine", "linear"),
        "three_phases": bool,
        **UNITS,
    }

    def __init__(
        self,
        peak: float,
        length: float,
        initial: float | None = None,
        final: float | None = None,
        peak_at: float = 0.3,
        shape: str = "cosine",
        three_phases: bool = False,
        unit: str = "step",
    ) -> None:
        self.peak = peak
        self.length = length
        self.initial = initial
        self.final = final
        self.peak_at = peak_at
        self.shape = shape
        self.three_phases = three_phases
        self.unit = unit

    def __call__(self, step: int, epoch: int) -> float:
        """Return the value after the given number of steps and epochs."""
        count = self._count(step, epoch)
        for (begin, value), (end, target) in pairwise(self._corners()):
            if count <= end:
                share = (count - begin) / (end - begin) if end > begin else 1.0
                left = _half_wave(share) if self.shape == "cosine" else 1.0 - share
                return target + (value - target) * left
        return target

    def check(self) -> None:
        """Raise an error that names the first hyperparameter outside its range."""
        super().check()
        for name in ("initial", "final"):
            if getattr(self, name) is not None:
                check_range("OneCycle", name, getattr(self, name), NUMBER)
        if self.three_phases:
            check_range("OneCycle", "peak_at of three phases", self.peak_at, Interval(0, 0.5))

    def _corners(self) -> list[tuple[float, float]]:
        """Return the pairs of count and value that the schedule interpolates."""
        initial = self.peak / 25 if self.initial is None else self.initial
        final = initial / 1e4 if self.final is None else self.final
        rise = max(self.peak_at * self.length - 1, 0)
        corners = [(0, initial), (rise, self.peak), (self.length - 1, final)]
        if self.three_phases:
            corners.insert(2, (2 * rise, initial))
        return corners


class WarmUp(_OfState):
    """Linear warm-up to the first value of another schedule, then that schedule.

    If both count the same unit, the other schedule starts counting after the warm-up; otherwise it counts from the
    beginning. Like ``optax.warmup_cosine_decay_schedule``, with any schedule in place of the cosine.

    Parameters
    ----------
    length : float
        Number of units of the warm-up. Unit number ``length``, counted from 0, has the first value of ``then``.
    then : float or Schedule
        Schedule or value after the warm-up.
    start_factor : float, default=0.0
        Initial fraction of that value. With 0, a learning rate is zero in the first unit.
    unit : {"step", "epoch"}, default="step"
        Whether to count steps or epochs.

    Examples
    --------
    >>> from sk_analytic.optimizers import Exponential, WarmUp
    >>> schedule = WarmUp(10, then=Exponential(0.1, decay=0.5, every=10))
    >>> [schedule(step=step, epoch=0) for step in (0, 5, 10, 20)]
    [0.0, 0.05, 0.1, 0.05]
    >>> schedule.set_params(then__initial=0.2)(step=5, epoch=0)
    0.1
    """

    ranges = {"length": POSITIVE, "start_factor": NUMBER, **UNITS}

    def __init__(self, length: float, then: float | Schedule, start_factor: float = 0.0, unit: str = "step") -> None:
        self.length = length
        self.then = then
        self.start_factor = start_factor
        self.unit = unit

    def at(self, state: State | _Moment) -> float:
        """Return the value for the next update."""
        count = self._count(state.step, state.epoch)
        value = _value(self.then, _Moment.after(state, min(count, self.length), self.unit))
        if count >= self.length:
            return value
        return value * (self.start_factor + (1.0 - self.start_factor) * (count / self.length))

    def check(self) -> None:
        """Raise an error that names the first invalid hyperparameter, of this or the following schedule."""
        super().check()
        _check_part("WarmUp", "then", self.then)


class Joined(Composite, _OfState):
    """Several schedules in sequence.

    A schedule that counts the same unit starts counting at the boundary before it; any other counts from the
    beginning. Like ``optax.join_schedules`` and ``torch.optim.lr_scheduler.SequentialLR``.

    Parameters
    ----------
    schedules : list of float or Schedule, or of tuple (str, Schedule)
        Schedules, one more than there are boundaries. Names are generated as by
        :func:`sklearn.pipeline.make_pipeline` unless given.
    boundaries : list of float
        Number of units after which each next schedule takes over, increasing.
    unit : {"step", "epoch"}, default="step"
        Whether to count steps or epochs.

    Examples
    --------
    >>> from sk_analytic.optimizers import Cosine, Joined
    >>> schedule = Joined([0.1, Cosine(0.1, length=50)], boundaries=[100])
    >>> [round(schedule(step=step, epoch=0), 3) for step in (0, 100, 125, 150)]
    [0.1, 0.1, 0.05, 0.0]
    >>> schedule.set_params(cosine__final=0.01)(step=150, epoch=0)
    0.01
    """

    ranges = UNITS

    def __init__(self, schedules: Sequence[Any], boundaries: Sequence[int], unit: str = "step") -> None:
        self.schedules = schedules
        self.boundaries = boundaries
        self.unit = unit

    def at(self, state: State | _Moment) -> float:
        """Return the value for the next update."""
        position = _passed(self.boundaries, self._count(state.step, state.epoch))
        schedule = unnamed(self.schedules[position])
        return _value(schedule, _Moment.after(state, self.boundaries[position - 1], self.unit) if position else state)

    def check(self) -> None:
        """Raise an error if a part is not a schedule, or the boundaries do not fit."""
        super().check()
        _check_boundaries(self, "schedules")
        for schedule in map(unnamed, self.schedules):
            _check_part("Joined", "each of the schedules", schedule)

    def _items(self) -> dict[str, Schedule]:
        return {name: item for name, item in named(self.schedules).items() if isinstance(item, Schedule)}

    def _replace(self, name: str, item: Schedule) -> None:
        names = names_of(self.schedules)
        self.schedules = [(name, item) if name == own else old for own, old in zip(names, self.schedules, strict=True)]


class _Descent:
    """Progress of `ReduceOnPlateau`: the losses seen so far, and the value that follows from them."""

    def __init__(self, value: float) -> None:
        self.value, self.seen = value, 0
        self.best, self.without, self.rest = math.inf, 0, 0


class ReduceOnPlateau(_OfState):
    r"""Multiply by a factor whenever the loss has not improved for some epochs.

    It monitors the ``loss_curve`` of the optimizer's state. An estimator appends the values of its ``loss_curve_`` or,
    with early stopping, minus the validation score, by which training is then stopped. In a custom training loop,
    append the loss of each epoch. Without losses, the value stays constant. It is recomputed from the whole
    curve, so a changed hyperparameter acts as if it had always had its new value. After an infinite loss, later
    losses are not compared with earlier ones.

    Like ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with ``eps=0``. A relative threshold is relative to the
    absolute value of the loss, so that it also works for a negative loss, for which torch accepts a slightly worse
    loss as an improvement.

    Parameters
    ----------
    initial : float
        Initial value.
    factor : float, default=0.1
        Factor of each reduction, between 0 and 1.
    patience : int, default=10
        Number of consecutive epochs without improvement to wait before reducing the value.
    threshold : float, default=1e-4
        Smallest decrease below the best loss that counts as an improvement.
    threshold_mode : {"relative", "absolute"}, default="relative"
        Whether ``threshold`` is relative to the best loss, or absolute.
    cooldown : int, default=0
        Number of epochs after a reduction in which epochs without improvement are not counted.
    minimum : float, default=0.0
        Lower bound of the value.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD, ReduceOnPlateau
    >>> theta, optimizer = (
    ...     np.array([0.0]),
    ...     SGD(ReduceOnPlateau(1.0, factor=0.5, patience=1)),
    ... )
    >>> state = optimizer.init(theta)
    >>> for loss in [3.0, 2.0, 2.0, 2.0, 2.0]:
    ...     optimizer.update(state, theta, np.array([-1.0]))
    ...     state.loss_curve.append(loss)
    ...     print(theta)
    [1.]
    [2.]
    [3.]
    [4.]
    [4.5]
    """

    unit = "epoch"
    ranges = {
        "initial": NUMBER,
        "factor": Interval(0, 1, closed="neither"),
        "patience": COUNT,
        "threshold": AMOUNT,
        "threshold_mode": ("relative", "absolute"),
        "cooldown": COUNT,
        "minimum": NUMBER,
    }

    def __init__(
        self,
        initial: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "relative",
        cooldown: int = 0,
        minimum: float = 0.0,
    ) -> None:
        self.initial = initial
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.minimum = minimum

    def at(self, state: State | _Moment) -> float:
        """Return the value for the next update."""
        key = type(self), *vars(self).values()
        descent, losses = state.notes.get(key), state.loss_curve
        if descent is None or descent.seen > len(losses):
            descent = state.notes[key] = _Descent(self.initial)
        while descent.seen < len(losses):
            self._see(descent, losses[descent.seen])
        return descent.value

    def _see(self, descent: _Descent, loss: float) -> None:
        """Process the loss of one more epoch; an infinite one resets the best loss."""
        descent.seen += 1
        if loss == math.inf:
            descent.best, descent.without = loss, 0
            return
        if self._is_better(loss, descent.best):
            descent.best, descent.without = loss, 0
        else:
            descent.without += 1
        if descent.rest:
            descent.rest -= 1
            descent.without = 0
        if descent.without > self.patience:
            reduced = max(descent.value * self.factor, self.minimum)
            descent.value = min(descent.value, reduced)
            descent.rest, descent.without = self.cooldown, 0

    def _is_better(self, loss: float, best: float) -> bool:
        if math.isinf(best):
            return loss < best
        margin = self.threshold * (abs(best) if self.threshold_mode == "relative" else 1.0)
        return loss < best - margin


def _half_wave(share: float) -> float:
    """Return the value of half a cosine wave from 1 to 0, at a fraction of its length."""
    return 0.5 * (1.0 + cos(math.pi * share))


def _passed(boundaries: Sequence[int], count: float) -> int:
    """Return the number of boundaries reached."""
    for passed, boundary in enumerate(boundaries):
        if count < boundary:
            return passed
    return len(boundaries)


def _check_boundaries(schedule: Piecewise | Joined, parts: str) -> None:
    """Raise if the boundaries of a schedule do not increase, or are not one fewer than its parts."""
    owner, values, boundaries = type(schedule).__name__, getattr(schedule, parts), schedule.boundaries
    for name, given in ((parts, values), ("boundaries", boundaries)):
        if not isinstance(given, list | tuple):
            raise TypeError(f"{owner}: {name} must be a list; got {given!r}.")
    for boundary in boundaries:
        check_range(owner, "each of the boundaries", boundary, POSITIVE)
    if any(b <= a for a, b in pairwise(boundaries)):
        raise ValueError(f"{owner}: boundaries must increase; got {boundaries!r}.")
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"{owner}: {len(values)} {parts} need {len(values) - 1} boundaries between them; "
            f"got {len(boundaries)}: {boundaries!r}."
        )


def _check_part(owner: str, name: str, part: Any) -> None:
    """Raise if a part is neither a schedule nor a number, or a schedule with an invalid hyperparameter."""
    if isinstance(part, Schedule):
        part.check()
    elif not NUMBER.admits(part):
        hint = f" Pass an instance: {part.__name__}(...)." if isinstance(part, type) else ""
        raise TypeError(f"{owner}: {name} must be a schedule or a number; got {part!r}.{hint}")
