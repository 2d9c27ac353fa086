"""Links that average θ over the steps.

They come after the rule and leave its steps unchanged or pull θ back; each has a slot that is used for
prediction in place of θ.
"""

from __future__ import annotations

from ..typing import Array, Arrays, Number
from ..validation import Interval
from .base import AMOUNT, UNIT, Link
from .state import StepInfo

COUNT = Interval(1, float("inf"), integral=True)
SINCE = Interval(0, float("inf"))
SHARE = Interval(0, 1)


class Lookahead(Link):
    r"""Every k steps, interpolate between θ and its value k steps ago [Zhang2019]_.

    .. math::

        \phi_t = \phi_{t-1} + \alpha (\theta_{t,k} - \phi_{t-1}), \qquad \theta_{t+1,0} = \phi_t

    As in the paper, the slow weights :math:`\phi` are used for prediction; they equal the initial θ until the first k
    steps are done. The rule takes k steps from them and keeps its state. Follows ``optax.lookahead``.

    Parameters
    ----------
    steps : int, default=5
        Number k of steps that the rule takes between interpolations.
    slow_rate : float, default=0.5
        Interpolation weight α.

    References
    ----------
    .. [Zhang2019] M. Zhang, J. Lucas, G. Hinton and J. Ba, "Lookahead optimizer: k steps forward, 1 step back",
       NeurIPS 2019, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD, Chain, Lookahead
    >>> theta = np.array([0.0])
    >>> optimizer = Chain([SGD(learning_rate=1.0), Lookahead(steps=3)])
    >>> state = optimizer.init(theta)
    >>> for _ in range(4):
    ...     optimizer.update(state, theta, np.array([-1.0]))
    ...     print(theta, optimizer.eval_params(state, theta))
    [1.] [0.]
    [2.] [0.]
    [1.5] [1.5]
    [2.5] [1.5]
    """

    takes = gives = "theta"
    slots = {"slow": "theta"}
    eval_slot = "slow"
    ranges = {"steps": COUNT, "slow_rate": SHARE}

    def __init__(self, steps: Number = 5, slow_rate: Number = 0.5) -> None:
        self.steps = steps
        self.slow_rate = slow_rate

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the interpolation weight, and whether θ continues or returns to the slow weights."""
        meets = now.t % self.steps == 0
        return (self.slow_rate, 0.0, 1.0) if meets else (0.0, 1.0, 0.0)

    @staticmethod
    def formula(flow: Array, theta: Array, slow: Array, share: float, goes_on: float, goes_back: float) -> Arrays:
        """Update the slow weights, and reset θ to them when they change."""
        slow = slow + share * (flow - slow)
        return goes_on * flow + goes_back * slow, slow


class PolyakAverage(Link):
    r"""Predict with the mean of θ over all steps, while training continues from θ [Polyak1992]_.

    .. math::

        \bar\theta_t = \frac{1}{t - t_0} \sum_{i = t_0 + 1}^t \theta_i

    and :math:`\bar\theta_t = \theta_t` until step :math:`t_0`. Use it with a learning rate that is constant or
    decreases slowly. Like ``torch.optim.swa_utils.AveragedModel``, updated after each step.

    Parameters
    ----------
    start : float, default=0
        Number :math:`t_0` of steps before the average begins.

    References
    ----------
    .. [Polyak1992] B. Polyak and A. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM
       Journal on Control and Optimization 30, 1992.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD, Chain, PolyakAverage
    >>> theta = np.array([0.0])
    >>> optimizer = Chain([SGD(learning_rate=1.0), PolyakAverage()])
    >>> state = optimizer.init(theta)
    >>> for _ in range(3):
    ...     optimizer.update(state, theta, np.array([-1.0]))
    >>> theta, optimizer.eval_params(state, theta)
    (array([3.]), array([2.]))
    """

    takes = gives = "theta"
    slots = {"average": "theta"}
    eval_slot = "average"
    ranges = {"start": SINCE}

    def __init__(self, start: Number = 0) -> None:
        self.start = start

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the weights of the average so far and of one more θ."""
        weight = 1.0 / max(1.0, now.t - self.start)
        return 1.0 - weight, weight

    @staticmethod
    def formula(flow: Array, theta: Array, average: Array, keep: float, weight: float) -> Arrays:
        """Update the average."""
        return flow, keep * average + weight * flow


class ExponentialAverage(PolyakAverage):
    r"""Predict with an exponential moving average of θ, while training continues from θ.

    .. math::

        \bar\theta_t = \frac{1 - \beta}{1 - \beta^t} \sum_{i = 1}^t \beta^{t - i} \theta_i

    It averages over about the last :math:`1 / (1 - \beta)` steps. The denominator corrects for the first steps, when
    there are fewer. Like ``optax.ema`` applied to θ.

    Parameters
    ----------
    decay : float, default=0.999
        Factor β by which the weight of each θ decreases per step.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD, Chain, ExponentialAverage
    >>> theta = np.array([0.0])
    >>> optimizer = Chain([SGD(learning_rate=1.0), ExponentialAverage(decay=0.5)])
    >>> state = optimizer.init(theta)
    >>> for _ in range(2):
    ...     optimizer.update(state, theta, np.array([-1.0]))
    >>> theta, optimizer.eval_params(state, theta).round(3)
    (array([2.]), array([1.667]))
    """

    memory = {"total": 0.0}
    ranges = {"decay": UNIT}

    def __init__(self, decay: Number = 0.999) -> None:
        self.decay = decay

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the weights of the average so far and of one more θ."""
        total = self.decay * now.memory["total"] + (1.0 - self.decay)
        now.memory["total"] = total
        return 1.0 - (1.0 - self.decay) / total, (1.0 - self.decay) / total


class ScheduleFree(Link):
    r"""Average θ instead of decreasing the learning rate [Defazio2024]_.

    .. math::

        z_t = z_{t-1} - \gamma_t u_t, \qquad
        x_t = (1 - c_t)\, x_{t-1} + c_t z_t, \qquad
        \theta_t = (1 - \beta)\, z_t + \beta x_t

    where :math:`u_t` is the direction of the rule before it at :math:`\theta_{t-1}` (the paper's y), :math:`\gamma_t`
    its learning rate, and :math:`c_t = w_t / \sum_{i \le t} w_i` with :math:`w_t = (\max_{i \le t} \gamma_i)^p`. The
    average x is used for prediction. Use a rule without momentum, which β replaces. The learning rate should not
    decrease; a warm-up helps. Follows ``optax.contrib.schedule_free``, which evaluates a schedule for
    :math:`w_t` one step ahead of :math:`z_t`.

    Parameters
    ----------
    beta : float, default=0.9
        Interpolation weight of the point at which the gradient is evaluated: z for 0, x for 1.
    weight_power : float, default=2.0
        Power p of the learning rate in the weights of the average.

    References
    ----------
    .. [Defazio2024] A. Defazio, X. Yang, H. Mehta, K. Mishchenko, A. Khaled and A. Cutkosky, "The road less
       scheduled", NeurIPS 2024.

    Examples
    --------
    >>> from sk_analytic.optimizers import RMSprop, Chain, ScheduleFree
    >>> Chain([RMSprop(), ScheduleFree()])
    Chain(links=[RMSprop(), ScheduleFree()])
    """

    gives = "theta"
    eval_slot = "average"
    slots = {"fast": "theta", "average": "theta"}
    memory = {"largest": 0.0, "total": 0.0}
    ranges = {"beta": Interval(0, 1), "weight_power": AMOUNT}

    def __init__(self, beta: Number = 0.9, weight_power: Number = 2.0) -> None:
        self.beta = beta
        self.weight_power = weight_power

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the learning rate, the weights of the average, and those of the interpolation."""
        now.memory["largest"] = max(now.memory["largest"], now.rate)
        weight = now.memory["largest"] ** self.weight_power
        now.memory["total"] += weight
        share = weight / now.memory["total"] if weight else 0.0
        return now.rate, 1.0 - share, share, 1.0 - self.beta, self.beta

    @staticmethod
    def formula(
        g: Array,
        theta: Array,
        fast: Array,
        average: Array,
        rate: float,
        keep: float,
        weight: float,
        beside: float,
        beta: float,
    ) -> Arrays:
        """Move z, update the average x, and interpolate between them."""
        fast = fast - rate * g
        average = keep * average + weight * fast
        return beside * fast + beta * average, fast, average
