"""Rules that divide each entry by the size of its gradients so far."""

from __future__ import annotations

import numpy as np

from ...typing import Array, Arrays, Number
from ..base import AMOUNT, POSITIVE, UNIT, Rule
from ..chains import NamedChain
from ..state import StepInfo
from ..transforms import DivideByRMS
from .momentum import SGD


class Adagrad(Rule):
    r"""Adagrad: scale each entry by its accumulated squared gradients [Duchi2011]_.

    .. math::

        s_t = s_{t-1} + g_t^2, \qquad
        \theta_t = \theta_{t-1} - \frac{\eta}{1 + (t - 1)\lambda} \frac{g_t}{\sqrt{s_t} + \epsilon}

    Follows ``torch.optim.Adagrad``. Keras and TensorFlow start the sum at 0.1.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η.
    lr_decay : float or Schedule, default=0.0
        Decay λ of the learning rate. Steps in which a parameter array has no gradient are not counted for it.
    initial_accumulator_value : float, default=0.0
        Initial value of the sum.
    epsilon : float or Schedule, default=1e-10
        Added to the square root in the denominator, for numerical stability.

    References
    ----------
    .. [Duchi2011] J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
       stochastic optimization", JMLR 12, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Adagrad
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Adagrad(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.9, 1.1])
    """

    slots = {"square": "initial_accumulator_value"}
    ranges = Rule.ranges | {"lr_decay": AMOUNT, "initial_accumulator_value": AMOUNT, "epsilon": AMOUNT}

    def __init__(
        self,
        learning_rate: Number = 0.01,
        lr_decay: Number = 0.0,
        initial_accumulator_value: Number = 0.0,
        epsilon: Number = 1e-10,
    ) -> None:
        self.learning_rate = learning_rate
        self.lr_decay = lr_decay
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the decay of the learning rate, as a factor of the denominator, and epsilon times it."""
        decay = 1.0 + (now.t - 1) * self.lr_decay
        return decay, decay * self.epsilon

    @staticmethod
    def formula(g: Array, theta: Array, square: Array, decay: float, epsilon: float) -> Arrays:
        """Divide by the root of the sum."""
        square = square + g * g
        return g / (decay * np.sqrt(square) + epsilon), square


class RMSprop(NamedChain):
    r"""RMSprop: divide the gradient by its running root mean square [Hinton2012]_.

    .. math::

        v_t = \rho v_{t-1} + (1 - \rho) g_t^2, \qquad
        b_t = \mu b_{t-1} + \frac{g_t}{\sqrt{v_t + \epsilon'} + \epsilon}, \qquad
        \theta_t = \theta_{t-1} - \eta b_t

    A `DivideByRMS` followed by an `SGD`. Follows ``torch.optim.RMSprop``, whose ``alpha`` is called ``rho``
    here, because ``alpha`` is the estimators' penalty. Keras, optax and Hinton use 0.9 for it. Keras and optax
    add epsilon under the square root.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η.
    rho : float or Schedule, default=0.99
        Decay rate ρ of the running average of squared gradients.
    epsilon : float or Schedule, default=1e-8
        Added to the square root in the denominator, for numerical stability.
    momentum : float or Schedule, default=0.0
        Momentum μ.
    centered : bool, default=False
        Whether to divide by the standard deviation instead; see `DivideByRMS`.
    epsilon_root : float or Schedule, default=0.0
        Constant ε' added under the square root.

    References
    ----------
    .. [Hinton2012] T. Tieleman and G. Hinton, "Lecture 6.5: RMSprop", Coursera, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import RMSprop
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = RMSprop(learning_rate=0.1, rho=0.75)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.8, 1.2])
    """

    parts = DivideByRMS, SGD

    def __init__(
        self,
        learning_rate: Number = 0.01,
        rho: Number = 0.99,
        epsilon: Number = 1e-8,
        momentum: Number = 0.0,
        centered: bool = False,
        epsilon_root: Number = 0.0,
    ) -> None:
        self.learning_rate = learning_rate
        self.rho = rho
        self.epsilon = epsilon
        self.momentum = momentum
        self.centered = centered
        self.epsilon_root = epsilon_root


class Adadelta(Rule):
    r"""Adadelta: scale each entry by the ratio of its average step to its average gradient [Zeiler2012]_.

    .. math::

        E_t[g^2] &= \rho E_{t-1}[g^2] + (1 - \rho) g_t^2, \qquad
        \Delta_t = \frac{\sqrt{E_{t-1}[\Delta^2] + \epsilon}}{\sqrt{E_t[g^2] + \epsilon}}\, g_t \\
        E_t[\Delta^2] &= \rho E_{t-1}[\Delta^2] + (1 - \rho) \Delta_t^2, \qquad
        \theta_t = \theta_{t-1} - \eta \Delta_t

    Epsilon sets the size of the first steps. Follows ``torch.optim.Adadelta``. Keras defaults to a learning
    rate of 0.001 and to ρ = 0.95.

    Parameters
    ----------
    learning_rate : float or Schedule, default=1.0
        Factor η of each step; the paper has no such factor.
    rho : float or Schedule, default=0.9
        Decay rate ρ of both running averages.
    epsilon : float or Schedule, default=1e-6
        Constant added to both averages, under the square roots.

    References
    ----------
    .. [Zeiler2012] M. Zeiler, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Adadelta
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Adadelta(rho=0.75, epsilon=1e-2)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([10.0, -100.0]))
    >>> theta.round(3)
    array([0.8, 1.2])
    """

    slots = {"square": 0.0, "step_square": 0.0}
    ranges = Rule.ranges | {"rho": UNIT, "epsilon": AMOUNT}

    def __init__(self, learning_rate: Number = 1.0, rho: Number = 0.9, epsilon: Number = 1e-6) -> None:
        self.learning_rate = learning_rate
        self.rho = rho
        self.epsilon = epsilon

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return both weights of an average, and epsilon."""
        return self.rho, 1.0 - self.rho, self.epsilon

    @staticmethod
    def formula(
        g: Array, theta: Array, square: Array, step_square: Array, keep: float, weight: float, epsilon: float
    ) -> Arrays:
        """Scale by the ratio of the roots."""
        square = keep * square + weight * (g * g)
        step = np.sqrt(step_square + epsilon) / np.sqrt(square + epsilon) * g
        return step, square, keep * step_square + weight * (step * step)


class FTRL(Rule):
    r"""FTRL-Proximal: Adagrad's learning rates, with penalties that set entries to exactly zero.

    .. math::

        \sigma_t &= \frac{\sqrt{n_{t-1} + g_t^2} - \sqrt{n_{t-1}}}{\alpha}, \qquad
        z_t = z_{t-1} + g_t - \sigma_t w_t, \qquad n_t = n_{t-1} + g_t^2 \\
        w_{t+1} &= \begin{cases} 0 & \text{if } |z_t| \le \lambda_1, \\
            -\Big(\dfrac{\beta + \sqrt{n_t}}{\alpha} + \lambda_2\Big)^{-1}
            \big(z_t - \operatorname{sign}(z_t) \lambda_1\big) & \text{otherwise} \end{cases}

    for each entry w of θ [McMahan2013]_, algorithm 1. The paper starts from w = 0. For any other start,
    β is added to the numerator of :math:`\sigma_1`, so that the first step begins at the initial value.
    No library serves as a reference: Keras' ``Ftrl`` starts n at 0.1, defaults to β = 0, and loses part of the initial
    value.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.1
        Learning rate α.
    beta : float or Schedule, default=1.0
        Constant β that keeps the first steps small. The paper finds 1 good enough in all cases.
    l1 : float or Schedule, default=0.0
        Strength λ₁ of the L1 penalty, relative to the sum of the losses of all steps.
    l2 : float or Schedule, default=0.0
        Strength λ₂ of the L2 penalty, relative to the sum of the losses of all steps.

    References
    ----------
    .. [McMahan2013] H. B. McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import FTRL
    >>> theta = np.zeros(2)
    >>> optimizer = FTRL(learning_rate=0.1, l1=0.5)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.25, -1.5]))
    >>> theta
    array([0.  , 0.04])
    """

    gives = "theta"
    slots = {"total": 0.0, "square": 0.0}
    ranges = Rule.ranges | {"beta": POSITIVE, "l1": AMOUNT, "l2": AMOUNT}

    def __init__(self, learning_rate: Number = 0.1, beta: Number = 1.0, l1: Number = 0.0, l2: Number = 0.0) -> None:
        self.learning_rate = learning_rate
        self.beta = beta
        self.l1 = l1
        self.l2 = l2

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the learning rate and the terms that it multiplies (``total`` is α z), and β for this step."""
        start = self.beta if now.t == 1 else 0.0
        return now.rate, start, -now.rate * self.l1, now.rate * self.l1, self.beta + now.rate * self.l2

    @staticmethod
    def formula(
        g: Array,
        theta: Array,
        total: Array,
        square: Array,
        rate: float,
        start: float,
        low: float,
        high: float,
        offset: float,
    ) -> Arrays:
        """Return the minimizer of the penalized sum of linearized losses."""
        root = np.sqrt(square)
        square = square + g * g
        new_root = np.sqrt(square)
        total = total + rate * g - (new_root - root + start) * theta
        return (np.minimum(np.maximum(total, low), high) - total) / (new_root + offset), total, square
