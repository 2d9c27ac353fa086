"""Adam-like rules with Nesterov momentum."""

from __future__ import annotations

import numpy as np

from ...typing import Array, Arrays, Number
from ..base import AMOUNT, UNIT, Rule
from ..chains import NamedChain
from ..state import StepInfo
from ..transforms import WeightDecay


class NAdam(Rule):
    r"""NAdam: Adam with Nesterov momentum and a momentum warm-up [Dozat2016]_.

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad
        \mu_t = \beta_1 \big(1 - \tfrac12\, 0.96^{\,t \psi}\big) \\
        \hat m_t &= \frac{\mu_{t+1} m_t}{1 - \prod_{i=1}^{t+1} \mu_i} + \frac{(1 - \mu_t) g_t}{1 - \prod_{i=1}^t \mu_i},
        \qquad \theta_t = \theta_{t-1} - \eta \,\frac{\hat m_t}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    Follows ``torch.optim.NAdam``. Keras uses ψ = 1. For a large ψ such as 1e6, :math:`\mu_t` equals
    :math:`\beta_1` from the start, as in ``optax.nadam``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η.
    beta_1 : float or Schedule, default=0.9
        Decay rate of the running average of gradients.
    beta_2 : float or Schedule, default=0.999
        Decay rate of the running average of squared gradients.
    epsilon : float or Schedule, default=1e-8
        Added to the square root in the denominator, for numerical stability.
    momentum_decay : float or Schedule, default=0.004
        Speed ψ of the momentum warm-up.

    References
    ----------
    .. [Dozat2016] T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import NAdam
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = NAdam(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.894, 1.106])
    """

    slots = {"mean": 0.0, "square": 0.0}
    memory = {"product": 1.0}
    ranges = Rule.ranges | {"beta_1": UNIT, "beta_2": UNIT, "epsilon": AMOUNT, "momentum_decay": AMOUNT}

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
        momentum_decay: Number = 0.004,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.momentum_decay = momentum_decay

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the weights of averages, of average and gradient in the step, and the terms of the denominator."""
        momentum, following = (
            self.beta_1 * (1.0 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (now.t, now.t + 1)
        )
        now.memory["product"] = product = now.memory["product"] * momentum
        ahead, share = following / (1.0 - product * following), (1.0 - momentum) / (1.0 - product)
        weights = 1.0 - self.beta_1, self.beta_2, 1.0 - self.beta_2
        return *weights, ahead, share, (1.0 - self.beta_2**now.t) ** -0.5, self.epsilon

    @staticmethod
    def formula(
        g: Array,
        theta: Array,
        mean: Array,
        square: Array,
        weight_1: float,
        keep_2: float,
        weight_2: float,
        ahead: float,
        share: float,
        root: float,
        epsilon: float,
    ) -> Arrays:
        """Mix the average and the gradient, and divide."""
        mean = mean + weight_1 * (g - mean)
        square = keep_2 * square + weight_2 * (g * g)
        return (ahead * mean + share * g) / (root * np.sqrt(square) + epsilon), mean, square


class NAdamW(NamedChain):
    r"""NAdam with decoupled weight decay: `NAdam`, then `WeightDecay`.

    .. math::

        \theta_t = \theta_{t-1} - \eta \,
            \Big(\frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} + \lambda \theta_{t-1}\Big)

    where :math:`\hat m_t, \hat v_t` are those of `NAdam` [Dozat2016]_ and the decay is that of [Loshchilov2019]_.
    Follows ``torch.optim.NAdam`` with ``decoupled_weight_decay=True`` and, for a large ``momentum_decay``,
    ``optax.nadamw``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η.
    beta_1 : float or Schedule, default=0.9
        Decay rate of the running average of gradients.
    beta_2 : float or Schedule, default=0.999
        Decay rate of the running average of squared gradients.
    epsilon : float or Schedule, default=1e-8
        Added to the square root in the denominator, for numerical stability.
    momentum_decay : float or Schedule, default=0.004
        Speed of the momentum warm-up.
    weight_decay : float or Schedule, default=0.01
        Weight decay coefficient λ.

    References
    ----------
    .. [Dozat2016] T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.
    .. [Loshchilov2019] I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import NAdamW
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = NAdamW(learning_rate=0.1, weight_decay=0.5)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.844, 1.056])
    """

    parts = NAdam, WeightDecay

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
        momentum_decay: Number = 0.004,
        weight_decay: Number = 0.01,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.momentum_decay = momentum_decay
        self.weight_decay = weight_decay


class Adan(Rule):
    r"""Adan: running averages of the gradient, its change, and the square of their combination [Xie2024]_.

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2) (g_t - g_{t-1}) \\
        n_t &= \beta_3 n_{t-1} + (1 - \beta_3) \big(g_t + (1 - \beta_2) (g_t - g_{t-1})\big)^2 \\
        \theta_t &= \theta_{t-1} -
            \eta \, \frac{\hat m_t + (1 - \beta_2) \hat v_t}{\sqrt{\hat n_t + \epsilon'} + \epsilon}

    where the hats denote the bias correction by :math:`1 - \beta^t`, and :math:`g_0 = g_1`. Follows ``optax.adan``. The
    paper writes :math:`1 - \beta` for β. Its weight decay, which divides θ, is not part of the rule.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η.
    beta_1 : float or Schedule, default=0.98
        Decay rate of the running average of gradients.
    beta_2 : float or Schedule, default=0.92
        Decay rate of the running average of gradient changes.
    beta_3 : float or Schedule, default=0.99
        Decay rate of the running average of squares.
    epsilon : float or Schedule, default=1e-8
        Added to the square root in the denominator, for numerical stability.
    epsilon_root : float or Schedule, default=1e-8
        Constant ε' added under the square root.

    References
    ----------
    .. [Xie2024] X. Xie, P. Zhou, H. Li, Z. Lin and S. Yan, "Adan: adaptive Nesterov momentum algorithm for faster
       optimizing deep models", TPAMI 2024, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Adan
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Adan(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([1.0, -100.0]))
    >>> theta.round(3)
    array([0.9, 1.1])
    """

    slots = {"mean": 0.0, "change": 0.0, "square": 0.0, "previous": 0.0}
    ranges = NAdam.ranges | {"beta_3": UNIT, "epsilon_root": AMOUNT}

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.98,
        beta_2: Number = 0.92,
        beta_3: Number = 0.99,
        epsilon: Number = 1e-8,
        epsilon_root: Number = 1e-8,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.beta_3 = beta_3
        self.epsilon = epsilon
        self.epsilon_root = epsilon_root

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return whether there is a change, the weights of new values, the factors of averages, and both epsilons."""
        weights = 1.0 - self.beta_1, 1.0 - self.beta_2, 1.0 - self.beta_3
        factor_1, factor_2, factor_3 = (1.0 / (1.0 - beta**now.t) for beta in (self.beta_1, self.beta_2, self.beta_3))
        factors = factor_1, weights[1] * factor_2, factor_3
        any_change = 1.0 if now.t > 1 else 0.0
        return any_change, *weights, *factors, self.epsilon_root, self.epsilon

    @staticmethod
    def formula(
        g: Array,
        theta: Array,
        mean: Array,
        change: Array,
        square: Array,
        previous: Array,
        any_change: float,
        w_1: float,
        w_2: float,
        w_3: float,
        f_1: float,
        f_2: float,
        f_3: float,
        inside: float,
        epsilon: float,
    ) -> Arrays:
        """Update the three averages, and divide."""
        latest = any_change * (g - previous)
        mean = mean + w_1 * (g - mean)
        change = change + w_2 * (latest - change)
        ahead = g + w_2 * latest
        square = square + w_3 * (ahead * ahead - square)
        return (f_1 * mean + f_2 * change) / (np.sqrt(f_3 * square + inside) + epsilon), mean, change, square, g
