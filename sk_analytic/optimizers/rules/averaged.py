"""Rules that predict with an average of θ while training continues from θ itself."""

from __future__ import annotations

from ...typing import Array, Arrays, Number
from ..averages import ScheduleFree
from ..base import AMOUNT, Rule
from ..chains import NamedChain
from ..state import StepInfo
from ..transforms import DivideByRMS, WeightDecay
from .momentum import SGD


class ASGD(Rule):
    r"""ASGD: gradient descent with a decreasing learning rate, averaged for prediction [Polyak1992]_.

    .. math::

        \eta_t = \frac{\eta}{(1 + \lambda \eta\, (t - 1))^\alpha}, \qquad
        \theta_t = (1 - \lambda \eta_t)\, \theta_{t-1} - \eta_t g_t, \qquad
        \bar\theta_t = \bar\theta_{t-1} + \frac{\theta_t - \bar\theta_{t-1}}{\max(1, t - 1 - t_0)}

    Follows ``torch.optim.ASGD``, whose ``alpha`` is called ``power`` here. By default, averaging begins only after a
    million steps. ``predict`` uses the average.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Initial learning rate η.
    lambd : float or Schedule, default=1e-4
        Weight decay coefficient λ, which also sets how fast the learning rate decreases.
    power : float or Schedule, default=0.75
        Power α by which the learning rate decreases.
    t0 : float or Schedule, default=1e6
        Step :math:`t_0` after which averaging begins. Until then, the average equals θ.

    References
    ----------
    .. [Polyak1992] B. Polyak and A. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM
       Journal on Control and Optimization 30, 1992; rates as in L. Bottou, "Large-scale machine learning with
       stochastic gradient descent", COMPSTAT 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import ASGD
    >>> theta = np.array([1.0])
    >>> optimizer = ASGD(learning_rate=0.5, lambd=0.0, t0=0)
    >>> state = optimizer.init(theta)
    >>> for _ in range(3):
    ...     optimizer.update(state, theta, np.sign(theta))
    >>> theta, optimizer.eval_params(state, theta)
    (array([0.]), array([0.]))
    """

    gives = "theta"
    eval_slot = "average"
    slots = {"average": "theta"}
    ranges = Rule.ranges | {"lambd": AMOUNT, "power": AMOUNT, "t0": AMOUNT}

    def __init__(
        self, learning_rate: Number = 0.01, lambd: Number = 1e-4, power: Number = 0.75, t0: Number = 1e6
    ) -> None:
        self.learning_rate = learning_rate
        self.lambd = lambd
        self.power = power
        self.t0 = t0

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the learning rate, the factor that shrinks θ, and both weights of the average."""
        rate = now.rate / (1.0 + self.lambd * now.rate * (now.t - 1)) ** self.power
        weight = 1.0 / max(1.0, now.t - 1 - self.t0)
        return rate, 1.0 - self.lambd * rate, 1.0 - weight, weight

    @staticmethod
    def formula(
        g: Array, theta: Array, average: Array, rate: float, shrink: float, keep: float, weight: float
    ) -> Arrays:
        """Take the step, and update the average."""
        theta = shrink * theta - rate * g
        return theta, keep * average + weight * theta


class ScheduleFreeSGD(NamedChain):
    r"""Schedule-free gradient descent, which averages instead of using momentum or a schedule [Defazio2024]_.

    .. math::

        z_t = z_{t-1} - \gamma g_t, \qquad
        x_t = (1 - c_t)\, x_{t-1} + c_t z_t, \qquad
        y_t = (1 - \beta)\, z_t + \beta x_t

    where :math:`g_t` is the gradient at :math:`y_{t-1}`, which is θ during training, x is used for prediction, and
    :math:`c_t = 1 / t` for a constant learning rate. Composed of `SGD` and `ScheduleFree`; see the latter for details.
    Follows ``optax.contrib.schedule_free_sgd``. For weight decay, chain the same parts with a `WeightDecay` before or
    after `SGD`.

    Parameters
    ----------
    learning_rate : float or Schedule, default=1.0
        Learning rate γ. Choose it larger than the best one for gradient descent.
    beta : float or Schedule, default=0.9
        Interpolation weight of the point at which the gradient is evaluated: z for 0, x for 1.
    weight_power : float or Schedule, default=2.0
        Power of the learning rate in the weights of the average.

    References
    ----------
    .. [Defazio2024] A. Defazio, X. Yang, H. Mehta, K. Mishchenko, A. Khaled and A. Cutkosky, "The road less
       scheduled", NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import ScheduleFreeSGD
    >>> theta = np.array([1.0])
    >>> optimizer = ScheduleFreeSGD(learning_rate=0.5, beta=0.5)
    >>> state = optimizer.init(theta)
    >>> for _ in range(2):
    ...     optimizer.update(state, theta, np.array([1.0]))
    >>> theta, optimizer.eval_params(state, theta)
    (array([0.125]), array([0.25]))
    """

    name = "schedule_free_sgd"
    parts = SGD, ScheduleFree
    own_defaults = ("learning_rate",)

    def __init__(self, learning_rate: Number = 1.0, beta: Number = 0.9, weight_power: Number = 2.0) -> None:
        self.learning_rate = learning_rate
        self.beta = beta
        self.weight_power = weight_power


class ScheduleFreeAdamW(NamedChain):
    r"""Schedule-free AdamW, which averages instead of using momentum or a schedule [Defazio2024]_.

    .. math::

        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad
        z_t = z_{t-1} - \gamma \Big(\frac{g_t}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon} + \lambda y_{t-1}\Big) \\
        x_t &= (1 - c_t)\, x_{t-1} + c_t z_t, \qquad y_t = (1 - \beta_1)\, z_t + \beta_1 x_t

    where :math:`g_t` is the gradient at :math:`y_{t-1}`, which is θ during training, x is used for prediction, and
    :math:`c_t = 1 / t` for a constant learning rate. Composed of `DivideByRMS`, `WeightDecay`, `SGD` and
    `ScheduleFree`; see the last for details. Follows ``optax.contrib.schedule_free_adamw``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate γ.
    beta_1 : float or Schedule, default=0.9
        Interpolation weight of the point at which the gradient is evaluated: z for 0, x for 1.
    beta_2 : float or Schedule, default=0.999
        Decay rate of the running average of squared gradients.
    epsilon : float or Schedule, default=1e-8
        Added to the square root in the denominator, for numerical stability.
    weight_decay : float or Schedule, default=0.0
        Weight decay coefficient λ.
    weight_power : float or Schedule, default=2.0
        Power of the learning rate in the weights of the average.

    References
    ----------
    .. [Defazio2024] A. Defazio, X. Yang, H. Mehta, K. Mishchenko, A. Khaled and A. Cutkosky, "The road less
       scheduled", NeurIPS 2024, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import ScheduleFreeAdamW
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = ScheduleFreeAdamW(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.9, 1.1])
    """

    name = "schedule_free_adamw"
    parts = DivideByRMS, WeightDecay, SGD, ScheduleFree
    settings = {"corrected": True, "rho": "beta_2", "beta": "beta_1"}
    own_defaults = "beta_2", "weight_decay"

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
        weight_decay: Number = 0.0,
        weight_power: Number = 2.0,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.weight_power = weight_power
