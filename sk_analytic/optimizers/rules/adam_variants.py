"""Variants of Adam that estimate the spread of the gradient differently."""

from __future__ import annotations

import numpy as np

from ...typing import Array, Arrays, Number
from ..base import AMOUNT, UNIT, Rule
from ..chains import NamedChain
from ..state import StepInfo
from ..transforms import WeightDecay

_RANGES = Rule.ranges | {"beta_1": UNIT, "beta_2": UNIT, "epsilon": AMOUNT}


class Adamax(Rule):
    r"""Adamax: Adam with a decaying maximum instead of the root mean square [Kingma2015]_.

    .. math::

        m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
        u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon), \qquad
        \theta_t = \theta_{t-1} - \frac{\eta}{1 - \beta_1^t} \frac{m_t}{u_t}

    Follows ``torch.optim.Adamax``. The paper has no epsilon.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η, which is about the largest change of an entry in one step.
    beta_1 : float or Schedule, default=0.9
        Decay rate of the running average of gradients.
    beta_2 : float or Schedule, default=0.999
        Decay rate of the maximum.
    epsilon : float or Schedule, default=1e-8
        Constant added to the absolute value of the gradient.

    References
    ----------
    .. [Kingma2015] D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Adamax
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Adamax(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.9, 1.1])
    """

    slots = {"mean": 0.0, "largest": 0.0}
    ranges = _RANGES

    def __init__(
        self, learning_rate: Number = 0.01, beta_1: Number = 0.9, beta_2: Number = 0.999, epsilon: Number = 1e-8
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the weight of a new gradient, the decay of the maximum, epsilon, and the bias correction."""
        return 1.0 - self.beta_1, self.beta_2, self.epsilon, 1.0 - self.beta_1**now.t

    @staticmethod
    def formula(
        g: Array,
        theta: Array,
        mean: Array,
        largest: Array,
        weight: float,
        fading: float,
        epsilon: float,
        correction: float,
    ) -> Arrays:
        """Divide the average by the decaying maximum."""
        mean = mean + weight * (g - mean)
        largest = np.maximum(fading * largest, np.abs(g) + epsilon)
        return mean / (correction * largest), mean, largest


class AdamaxW(NamedChain):
    r"""Adamax with decoupled weight decay: `Adamax`, then `WeightDecay`.

    .. math::

        \theta_t = \theta_{t-1} - \eta \, \Big(\frac{m_t}{(1 - \beta_1^t)\, u_t} + \lambda \theta_{t-1}\Big)

    where :math:`m_t, u_t` are those of `Adamax` [Kingma2015]_ and the decay is that of [Loshchilov2019]_. Follows
    ``optax.adamaxw``, which defaults to a weight decay of 1e-4.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η.
    beta_1 : float or Schedule, default=0.9
        Decay rate of the running average of gradients.
    beta_2 : float or Schedule, default=0.999
        Decay rate of the maximum.
    epsilon : float or Schedule, default=1e-8
        Constant added to the absolute value of the gradient.
    weight_decay : float or Schedule, default=0.01
        Weight decay coefficient λ.

    References
    ----------
    .. [Kingma2015] D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 2.
    .. [Loshchilov2019] I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import AdamaxW
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = AdamaxW(learning_rate=0.1, weight_decay=0.5)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.85, 1.05])
    """

    parts = Adamax, WeightDecay

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
        weight_decay: Number = 0.01,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay


class AdaBelief(Rule):
    r"""AdaBelief: Adam scaled by the deviation of the gradient from its average [Zhuang2020]_.

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
        s_t = \beta_2 s_{t-1} + (1 - \beta_2) (g_t - m_t)^2 + \epsilon' \\
        \theta_t &= \theta_{t-1} - \eta \,\frac{m_t / (1 - \beta_1^t)}{\sqrt{s_t / (1 - \beta_2^t)} + \epsilon}

    Follows ``optax.adabelief``. The paper uses one epsilon in both places.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η.
    beta_1 : float or Schedule, default=0.9
        Decay rate of the running average of gradients.
    beta_2 : float or Schedule, default=0.999
        Decay rate of the running average of squared deviations from it.
    epsilon : float or Schedule, default=1e-16
        Added to the square root in the denominator, for numerical stability.
    epsilon_root : float or Schedule, default=1e-16
        Constant ε' added to :math:`s_t` in each step.

    References
    ----------
    .. [Zhuang2020] J. Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed
       gradients", NeurIPS 2020, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import AdaBelief
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = AdaBelief(learning_rate=0.09)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.9, 1.1])
    """

    slots = {"mean": 0.0, "square": 0.0}
    ranges = _RANGES | {"epsilon_root": AMOUNT}

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-16,
        epsilon_root: Number = 1e-16,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.epsilon_root = epsilon_root

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the weights of both averages, the constant ε', the factor of the root, and the corrected epsilon."""
        correction = 1.0 - self.beta_1**now.t
        root = correction / (1.0 - self.beta_2**now.t) ** 0.5
        weights = 1.0 - self.beta_1, self.beta_2, 1.0 - self.beta_2
        return *weights, self.epsilon_root, root, correction * self.epsilon

    @staticmethod
    def formula(
        g: Array,
        theta: Array,
        mean: Array,
        square: Array,
        weight_1: float,
        keep_2: float,
        weight_2: float,
        inside: float,
        root: float,
        epsilon: float,
    ) -> Arrays:
        """Average the squared deviation from the mean."""
        mean = mean + weight_1 * (g - mean)
        surprise = g - mean
        square = keep_2 * square + weight_2 * (surprise * surprise) + inside
        return mean / (root * np.sqrt(square) + epsilon), mean, square


class Yogi(Rule):
    r"""Yogi: Adam with an additive second-moment update, which decreases slowly [Zaheer2018]_.

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
        v_t = v_{t-1} - (1 - \beta_2) \operatorname{sign}(v_{t-1} - g_t^2)\, g_t^2 \\
        \theta_t &= \theta_{t-1} - \eta \,\frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    Follows ``optax.yogi``, which starts both averages at 1e-6 and corrects both; the paper does not
    correct them.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η.
    beta_1 : float or Schedule, default=0.9
        Decay rate of the running average of gradients.
    beta_2 : float or Schedule, default=0.999
        Decay rate of the running average of squared gradients.
    epsilon : float or Schedule, default=1e-3
        Added to the square root in the denominator, for numerical stability.
    initial_accumulator_value : float, default=1e-6
        Initial value of both averages.

    References
    ----------
    .. [Zaheer2018] M. Zaheer, S. Reddi, D. Sachan, S. Kale and S. Kumar, "Adaptive methods for nonconvex
       optimization", NeurIPS 2018, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Yogi
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Yogi(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([1.0, -100.0]))
    >>> theta.round(3)
    array([0.9, 1.1])
    """

    slots = {"mean": "initial_accumulator_value", "square": "initial_accumulator_value"}
    ranges = _RANGES | {"initial_accumulator_value": AMOUNT}

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-3,
        initial_accumulator_value: Number = 1e-6,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.initial_accumulator_value = initial_accumulator_value

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the weights of new values, the factor of the root, and the corrected epsilon."""
        correction = 1.0 - self.beta_1**now.t
        root = correction / (1.0 - self.beta_2**now.t) ** 0.5
        return 1.0 - self.beta_1, 1.0 - self.beta_2, root, correction * self.epsilon

    @staticmethod
    def formula(
        g: Array,
        theta: Array,
        mean: Array,
        square: Array,
        weight_1: float,
        weight_2: float,
        root: float,
        epsilon: float,
    ) -> Arrays:
        """Move towards the squared gradient by a fraction of it."""
        mean = mean + weight_1 * (g - mean)
        new = g * g
        square = square - weight_2 * (np.sign(square - new) * new)
        return mean / (root * np.sqrt(square) + epsilon), mean, square
