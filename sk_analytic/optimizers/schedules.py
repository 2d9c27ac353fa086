"""Hyperparameters that change while training: a schedule stands where a number stands.

A schedule is a pure function of the step (calls of ``update`` so far) and the epoch, both from 0, so
that a resumed run goes on where it was. Which of the two it counts is its ``unit``; none knows how
long training will take.
"""

import numpy as np

from ..named import Hyperparameters, Interval

POSITIVE = Interval(0, np.inf, closed="neither")


class Schedule(Hyperparameters):
    """Base of the schedules: write ``__call__``, and ``at`` if the loss matters.

    Attributes
    ----------
    unit : {"step", "epoch"}
        What counts: updates, or passes over the data. A hyperparameter of those that have it.
    """

    unit = "step"

    def __call__(self, step, epoch):
        """Return the value after so many steps and epochs.

        Parameters
        ----------
        step : int
            Updates so far.
        epoch : int
            Complete passes over the data so far.

        Returns
        -------
        value : float
        """
        raise NotImplementedError

    def at(self, state):
        """Return the value for the next update.

        Parameters
        ----------
        state : State
            Has ``step``, ``epoch`` and the ``loss_curve`` so far.

        Returns
        -------
        value : float
        """
        return self(state.step, state.epoch)

    def _count(self, step, epoch):
        return epoch if self.unit == "epoch" else step


class Constant(Schedule):
    """One value for ever, for places that want a schedule.

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

    def __init__(self, value):
        self.value = value

    def __call__(self, step, epoch):
        """Return the value."""
        return self.value


class Exponential(Schedule):
    r"""Multiply by ``decay`` once in ``every`` units, smoothly: :math:`v_0\, d^{\,k / e}` after k units.

    As ``optax.exponential_decay``; with ``unit="epoch"``, as ``torch.optim.lr_scheduler.ExponentialLR``.

    Parameters
    ----------
    initial : float
        Value at the start.
    decay : float
        Factor, greater than 0.
    every : float, default=1
        Units it takes to gain the factor.
    unit : {"step", "epoch"}, default="step"
        What is counted.

    Examples
    --------
    >>> from sk_analytic.optimizers import Exponential
    >>> Exponential(0.1, decay=0.5, every=100)(step=200, epoch=0)
    0.025
    """

    ranges = {"decay": POSITIVE, "every": POSITIVE, "unit": ("step", "epoch")}

    def __init__(self, initial, decay, every=1, unit="step"):
        self.initial = initial
        self.decay = decay
        self.every = every
        self.unit = unit

    def __call__(self, step, epoch):
        """Return the value after so many steps and epochs."""
        return self.initial * self.decay ** (self._count(step, epoch) / self.every)


class InverseTime(Schedule):
    r"""Fall with the inverse of time: :math:`v_0 / (1 + d\, k / e)` after k units.

    As ``keras.optimizers.schedules.InverseTimeDecay``.

    Parameters
    ----------
    initial : float
        Value at the start.
    decay : float
        How fast it falls.
    every : float, default=1
        Units after which the denominator has grown by ``decay``.
    unit : {"step", "epoch"}, default="step"
        What is counted.

    Examples
    --------
    >>> from sk_analytic.optimizers import InverseTime
    >>> InverseTime(0.1, decay=1.0, unit="epoch")(step=900, epoch=9)
    0.01
    """

    ranges = {"decay": Interval(0, np.inf), "every": POSITIVE, "unit": ("step", "epoch")}

    def __init__(self, initial, decay, every=1, unit="step"):
        self.initial = initial
        self.decay = decay
        self.every = every
        self.unit = unit

    def __call__(self, step, epoch):
        """Return the value after so many steps and epochs."""
        return self.initial / (1 + self.decay * self._count(step, epoch) / self.every)
