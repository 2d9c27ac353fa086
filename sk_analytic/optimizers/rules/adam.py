"""Adam, and the rules that share its running averages of the gradient and of its square."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...typing import Array, Arrays, Number
from ...validation import Interval
from ..base import AMOUNT, UNIT, Rule
from ..chains import NamedChain
from ..state import StepInfo
from ..transforms import Optimism, TrustRatio, WeightDecay

_RANGES = Rule.ranges | {"beta_1": UNIT, "beta_2": UNIT, "epsilon": AMOUNT}


class Adam(Rule):
    r"""Adam: adaptive estimates of the first and second moments of the gradient [Kingma2015]_.

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \theta_t &= \theta_{t-1} - \eta \,\frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    With ``amsgrad=True``, the largest :math:`v` so far replaces :math:`v_t` [Reddi2018]_. Follows
    ``torch.optim.Adam``. scikit-learn's MLP adds epsilon to the square root of the uncorrected
    :math:`v_t` instead. Other libraries default to a learning rate of 0.001, which undertrains small data sets
    because they have few steps per epoch; the default here is 0.01.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η, which is about the largest change of an entry in one step.
    beta_1 : float or Schedule, default=0.9
        Decay rate :math:`\beta_1` of the running average of gradients.
    beta_2 : float or Schedule, default=0.999
        Decay rate :math:`\beta_2` of the running average of squared gradients.
    epsilon : float or Schedule, default=1e-8
        Added to the square root in the denominator, for numerical stability.
    amsgrad : bool, default=False
        Whether to use the AMSGrad variant, whose denominator never decreases.

    References
    ----------
    .. [Kingma2015] D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    .. [Reddi2018] S. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Adam
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Adam(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.9, 1.1])
    """

    ranges = _RANGES | {"amsgrad": bool}

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
        amsgrad: bool = False,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad

    @property
    def slots(self) -> dict[str, float]:
        """Both averages and, with AMSGrad, the largest second one."""
        return {"mean": 0.0, "square": 0.0} | ({"largest": 0.0} if self.amsgrad else {})

    @property
    def formula(self) -> Callable[..., Arrays]:
        """Formula of Adam or AMSGrad."""
        return self._amsgrad if self.amsgrad else self._adam

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the weights of new values; the factor of the root, and epsilon, after both corrections."""
        beta_1, beta_2 = self.beta_1, self.beta_2
        correction_1 = 1.0 - beta_1**now.t
        correction_2 = 1.0 - beta_2**now.t
        root = correction_1 / correction_2**0.5
        return 1.0 - beta_1, beta_2, 1.0 - beta_2, root, correction_1 * self.epsilon

    @staticmethod
    def _adam(
        g: Array,
        theta: Array,
        mean: Array,
        square: Array,
        weight_1: float,
        keep_2: float,
        weight_2: float,
        root: float,
        epsilon: float,
    ) -> Arrays:
        mean = mean + weight_1 * (g - mean)
        square = keep_2 * square + weight_2 * (g * g)
        return mean / (root * np.sqrt(square) + epsilon), mean, square

    @staticmethod
    def _amsgrad(
        g: Array,
        theta: Array,
        mean: Array,
        square: Array,
        largest: Array,
        weight_1: float,
        keep_2: float,
        weight_2: float,
        root: float,
        epsilon: float,
    ) -> Arrays:
        mean = mean + weight_1 * (g - mean)
        square = keep_2 * square + weight_2 * (g * g)
        largest = np.maximum(largest, square)
        return mean / (root * np.sqrt(largest) + epsilon), mean, square, largest


class AdamW(NamedChain):
    r"""Adam with decoupled weight decay [Loshchilov2019]_: `Adam`, then `WeightDecay`.

    .. math::

        \theta_t = \theta_{t-1} - \eta \,
            \Big(\frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} + \lambda \theta_{t-1}\Big)

    where :math:`\hat m_t, \hat v_t` are the bias-corrected averages of `Adam`. Follows ``torch.optim.AdamW``;
    ``optax.adamw`` defaults to a weight decay of 1e-4.

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
    weight_decay : float or Schedule, default=0.01
        Weight decay coefficient λ.
    amsgrad : bool, default=False
        Whether to use the AMSGrad variant, whose denominator never decreases.

    References
    ----------
    .. [Loshchilov2019] I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019,
       algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import AdamW
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = AdamW(learning_rate=0.1, weight_decay=0.5)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.85, 1.05])
    """

    parts = Adam, WeightDecay

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
        weight_decay: Number = 0.01,
        amsgrad: bool = False,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.amsgrad = amsgrad


class OptimisticAdam(NamedChain):
    r"""Adam that extrapolates its last change [Daskalakis2018]_: `Adam`, then `Optimism`.

    .. math::

        \theta_t = \theta_{t-1} - \eta \, \big(u_t + o\,(u_t - u_{t-1})\big), \qquad
        u_t = \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}

    where :math:`\hat m_t, \hat v_t` are the bias-corrected averages of `Adam`. Follows ``optax.optimistic_adam_v2``
    with ``nesterov=False``, as in the paper. By default, optax uses `NAdam` instead of `Adam`.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η.
    optimism : float or Schedule, default=1.0
        Strength o of the extrapolation.
    beta_1 : float or Schedule, default=0.9
        Decay rate of the running average of gradients.
    beta_2 : float or Schedule, default=0.999
        Decay rate of the running average of squared gradients.
    epsilon : float or Schedule, default=1e-8
        Added to the square root in the denominator, for numerical stability.

    References
    ----------
    .. [Daskalakis2018] C. Daskalakis, A. Ilyas, V. Syrgkanis and H. Zeng, "Training GANs with optimism",
       ICLR 2018, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import OptimisticAdam
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = OptimisticAdam(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.9, 1.1])
    """

    name = "optimistic_adam"
    parts = Adam, Optimism

    def __init__(
        self,
        learning_rate: Number = 0.01,
        optimism: Number = 1.0,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
    ) -> None:
        self.learning_rate = learning_rate
        self.optimism = optimism
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon


class LAMB(NamedChain):
    r"""LAMB: AdamW with the step of each parameter array scaled to the array's norm [You2020]_.

    .. math::

        r_t = \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}, \qquad
        x^l_{t+1} = x^l_t - \eta\, \frac{\|x^l_t\|}{\|r^l_t + \lambda x^l_t\|}\, (r^l_t + \lambda x^l_t)

    for each parameter array l, where :math:`\hat m_t, \hat v_t` are the bias-corrected averages of `Adam`. If a norm is
    zero, the ratio is 1. Composed of `Adam`, `WeightDecay` and `TrustRatio`. Follows ``optax.lamb``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η, which is the change of a parameter array in one step relative to its norm.
    beta_1 : float or Schedule, default=0.9
        Decay rate of the running average of gradients.
    beta_2 : float or Schedule, default=0.999
        Decay rate of the running average of squared gradients.
    epsilon : float or Schedule, default=1e-6
        Added to the square root in the denominator, for numerical stability.
    weight_decay : float or Schedule, default=0.0
        Weight decay coefficient λ.

    References
    ----------
    .. [You2020] Y. You et al., "Large batch optimization for deep learning: training BERT in 76 minutes",
       ICLR 2020, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import LAMB
    >>> theta = {"W": np.array([3.0, 4.0]), "b": np.array([1.0])}
    >>> optimizer = LAMB(learning_rate=0.1)
    >>> optimizer.update(
    ...     optimizer.init(theta), theta, {"W": np.array([0.0, 9.0]), "b": np.array([-1.0])}
    ... )
    >>> theta["W"].round(3), theta["b"].round(3)
    (array([3. , 3.5]), array([1.1]))
    """

    parts = Adam, WeightDecay, TrustRatio
    own_defaults = "epsilon", "weight_decay"

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-6,
        weight_decay: Number = 0.0,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay


class RAdam(Rule):
    r"""Rectified Adam: plain momentum until the second moment has seen enough gradients [Liu2020]_.

    .. math::

        \rho_t &= \rho_\infty - \frac{2 t \beta_2^t}{1 - \beta_2^t}, \qquad \rho_\infty = \frac{2}{1 - \beta_2} - 1 \\
        \theta_t &= \theta_{t-1} - \eta\, \hat m_t \cdot \begin{cases}
            r_t \dfrac{\sqrt{1 - \beta_2^t}}{\sqrt{v_t} + \epsilon} & \text{if } \rho_t > 5 \\ 1 & \text{otherwise}
            \end{cases}, \qquad
        r_t = \sqrt{\frac{(\rho_t - 4)(\rho_t - 2) \rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}}

    where :math:`m_t, v_t` are the running averages of `Adam`. Follows ``torch.optim.RAdam``. optax adds epsilon to the
    square root of the corrected :math:`v_t`.

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
    threshold : float or Schedule, default=5.0
        Value of :math:`\rho_t` above which the denominator is used, at least 4. The paper uses 4.

    References
    ----------
    .. [Liu2020] L. Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020,
       algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import RAdam
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = RAdam(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -10.0]))
    >>> theta
    array([0.999, 2.   ])
    """

    slots = {"mean": 0.0, "square": 0.0}
    ranges = _RANGES | {"threshold": Interval(4, np.inf)}
    formula = staticmethod(Adam._adam)

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
        threshold: Number = 5.0,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.threshold = threshold

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the coefficients of Adam's formula; below the threshold its denominator is the first correction."""
        root, offset = 0.0, 1.0
        correction_2 = 1.0 - self.beta_2**now.t
        limit = 2.0 / (1.0 - self.beta_2) - 1.0
        length = limit - 2.0 * now.t * (1.0 - correction_2) / correction_2
        if length > self.threshold:
            rectified = (length - 4.0) * (length - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * length)
            root = (rectified * correction_2) ** -0.5
            offset = root * self.epsilon
        correction_1 = 1.0 - self.beta_1**now.t
        return 1.0 - self.beta_1, self.beta_2, 1.0 - self.beta_2, correction_1 * root, correction_1 * offset
