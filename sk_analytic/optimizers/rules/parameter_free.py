"""Rules that set their step size from the distance θ has moved, so that a learning rate of 1 should suffice."""

from __future__ import annotations

import numpy as np

from ...typing import Array, Arrays, Number
from ..base import AMOUNT, POSITIVE, UNIT, Rule
from ..scalars import hypot
from ..state import StepInfo
from ..transforms import in_two


class DoG(Rule):
    r"""DoG: step size from the distance moved over the accumulated gradient norms [Ivgi2023]_.

    .. math::

        \bar r_t = \max\big(r_\epsilon, \max_{i \le t} \|x_i - x_0\|\big), \qquad
        G_t = \sum_{i \le t} \|g_i\|^2, \qquad
        x_{t+1} = x_t - \eta\, \frac{\bar r_t}{\sqrt{G_t + \epsilon}}\, g_t

    with norms over all of θ. Follows ``optax.contrib.dog`` with its "heuristic" first distance or, for
    ``relative=False``, with "distance". The authors recommend predicting with an average of θ.

    Parameters
    ----------
    learning_rate : float or Schedule, default=1.0
        Factor η.
    initial_distance : float or Schedule, default=1e-6
        Initial distance :math:`r_\epsilon`, in units of :math:`1 + \|x_0\|` if ``relative=True``.
    relative : bool, default=True
        Whether ``initial_distance`` is in units of :math:`1 + \|x_0\|`.
    epsilon : float or Schedule, default=1e-8
        Constant added under the square root.

    References
    ----------
    .. [Ivgi2023] M. Ivgi, O. Hinder and Y. Carmon, "DoG is SGD's best friend: a parameter-free dynamic step size
       schedule", ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import DoG
    >>> theta = np.array([3.0, 4.0])
    >>> optimizer = DoG(initial_distance=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.0, 10.0]))
    >>> theta.round(3)
    array([3. , 3.4])
    """

    scope = "all"
    slots = {"start": "theta"}
    memory = {"distance": 0.0, "root": 0.0}
    norms = True
    grows = "distance"
    ranges = Rule.ranges | {"initial_distance": POSITIVE, "relative": bool, "epsilon": AMOUNT}

    def __init__(
        self,
        learning_rate: Number = 1.0,
        initial_distance: Number = 1e-6,
        relative: bool = True,
        epsilon: Number = 1e-8,
    ) -> None:
        self.learning_rate = learning_rate
        self.initial_distance = initial_distance
        self.relative = relative
        self.epsilon = epsilon

    def scales(self, now: StepInfo) -> tuple[float, ...]:
        """Return the factor of the start: 0 in the first step, so that the distance is the norm of θ."""
        return (1.0 if now.t > 1 else 0.0,)

    @staticmethod
    def measures(g: Array, theta: Array, start: Array, from_start: float) -> Arrays:
        """Measure the gradient's norm and the distance."""
        return g, theta - from_start * start

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return distance over gradients, in two parts."""
        norm, away = now.sums
        if now.t == 1:
            away = self.initial_distance * (1.0 + away if self.relative else 1.0)
        now.memory["root"] = hypot(now.memory["root"], norm)
        now.memory["distance"] = max(now.memory["distance"], away)
        size = hypot(now.memory["root"], self.epsilon**0.5)
        return in_two(now.memory["distance"], size) if size else (0.0, 0.0)

    @staticmethod
    def formula(g: Array, theta: Array, start: Array, factor: float, rest: float) -> Arrays:
        """Multiply the gradient by the ratio of distance and accumulated norms."""
        return rest * (factor * g), start


class Prodigy(Rule):
    r"""Prodigy: Adam with the estimated distance to the solution as its learning rate [Mishchenko2024]_.

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1)\, d_t g_t, \qquad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2)\, d_t^2 g_t^2, \qquad
        \gamma_t = \eta\, \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \\
        r_t &= \sqrt{\beta_2}\, r_{t-1} + \gamma_t d_t^2 \langle g_t, x_0 - x_t \rangle, \qquad
        s_t = \sqrt{\beta_2}\, s_{t-1} + \gamma_t d_t^2 g_t, \qquad
        d_{t+1} = \max\Big(d_t, c\,\frac{r_t}{\|s_t\|_1}\Big) \\
        x_{t+1} &= x_t - \gamma_t d_t \Big(\frac{m_t}{\sqrt{v_t} + d_{t+1} \epsilon} + \lambda x_t\Big)

    with sums over all of θ; r and s are stored divided by :math:`d_0`. The weight decay λ is decoupled and scaled by
    :math:`\gamma_t d_t`, so it is part of the rule. Follows ``optax.contrib.prodigy``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=1.0
        Factor η of each step. A schedule that decreases from 1 to 0 helps.
    beta_1 : float or Schedule, default=0.9
        Decay rate of the running average of gradients.
    beta_2 : float or Schedule, default=0.999
        Decay rate of the running average of squared gradients.
    epsilon : float or Schedule, default=1e-8
        Added to the square root in the denominator, multiplied by the distance.
    initial_distance : float, default=1e-6
        Initial estimate :math:`d_0`. A value that is too small is safe.
    distance_factor : float or Schedule, default=1.0
        Factor c of new estimates.
    weight_decay : float or Schedule, default=0.0
        Weight decay coefficient λ.
    safeguard_warmup : bool, default=False
        Whether to leave :math:`\gamma_t` out of s. Set it if the learning rate is warmed up.

    References
    ----------
    .. [Mishchenko2024] K. Mishchenko and A. Defazio, "Prodigy: an expeditiously adaptive parameter-free learner",
       ICML 2024, algorithm 4.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Prodigy
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Prodigy(initial_distance=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.9, 1.1])
    """

    scope = "all"
    slots = {"mean": 0.0, "square": 0.0, "total": 0.0, "start": "theta"}
    memory = {"distance": "initial_distance", "inner": 0.0}
    grows = "distance"
    ranges = Rule.ranges | {"beta_1": UNIT, "beta_2": UNIT, "epsilon": AMOUNT, "weight_decay": AMOUNT}
    ranges |= {"initial_distance": POSITIVE, "distance_factor": AMOUNT, "safeguard_warmup": bool}

    def __init__(
        self,
        learning_rate: Number = 1.0,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
        initial_distance: Number = 1e-6,
        distance_factor: Number = 1.0,
        weight_decay: Number = 0.0,
        safeguard_warmup: bool = False,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.initial_distance = initial_distance
        self.distance_factor = distance_factor
        self.weight_decay = weight_decay
        self.safeguard_warmup = safeguard_warmup

    def _correction(self, now: StepInfo) -> float:
        correction: float = (1.0 - self.beta_2**now.t) ** 0.5 / (1.0 - self.beta_1**now.t)
        return correction

    def scales(self, now: StepInfo) -> tuple[float, ...]:
        """Return both weights in the sum of gradients."""
        weight = now.memory["distance"] ** 2 / self.initial_distance
        return self.beta_2**0.5, weight if self.safeguard_warmup else weight * now.rate * self._correction(now)

    @staticmethod
    def measures(
        g: Array, theta: Array, mean: Array, square: Array, total: Array, start: Array, keep: float, weight: float
    ) -> Arrays:
        """Measure the product of the gradient with the distance from the start, and the new sum."""
        return g * (start - theta), np.abs(keep * total + weight * g)

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return weights of new values in both averages and the sum; the step's factor, epsilon, the decay."""
        keep, weight = self.scales(now)
        distance, correction = now.memory["distance"], self._correction(now)
        product, size = now.sums
        now.memory["inner"] *= keep
        now.memory["inner"] += distance**2 / self.initial_distance * now.rate * correction * product
        estimate = self.distance_factor * now.memory["inner"] / size if size else 0.0
        now.memory["distance"] = max(distance, estimate)
        averages = self.beta_1, (1.0 - self.beta_1) * distance, self.beta_2, (1.0 - self.beta_2) * distance**2
        step = correction * distance
        return *averages, keep, weight, step, now.memory["distance"] * self.epsilon, step * self.weight_decay

    @staticmethod
    def formula(
        g: Array,
        theta: Array,
        mean: Array,
        square: Array,
        total: Array,
        start: Array,
        k_1: float,
        w_1: float,
        k_2: float,
        w_2: float,
        k_3: float,
        w_3: float,
        step: float,
        epsilon: float,
        decay: float,
    ) -> Arrays:
        """Update both averages and the sum, and divide."""
        mean = k_1 * mean + w_1 * g
        square = k_2 * square + w_2 * (g * g)
        flow = step * mean / (np.sqrt(square) + epsilon) + decay * theta
        return flow, mean, square, k_3 * total + w_3 * g, start
