"""Links that average θ along its way.

They stand after the rule and leave its steps alone, or pull them together; each has a slot that predicts in θ's
stead.
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
    r"""Every k steps, go back to a point between where θ is and where it was k steps ago [Zhang2019]_.

    .. math::

        \phi_t = \phi_{t-1} + \alpha (\theta_{t,k} - \phi_{t-1}), \qquad \theta_{t+1,0} = \phi_t

    The slow weights :math:`\phi` predict, as in the paper: where θ started, until the first k steps are done. The
    rule takes k steps from them and keeps what it remembers. As ``optax.lookahead``.

    Parameters
    ----------
    steps : int, default=5
        Steps k of the rule.
    slow_rate : float, default=0.5
        The share α of the way that is kept.

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
        """Return the share of the way that the slow weights go; whether θ goes on, or goes back to them."""
        meets = now.t % self.steps == 0
        return (self.slow_rate, 0.0, 1.0) if meets else (0.0, 1.0, 0.0)

    @staticmethod
    def formula(flow: Array, theta: Array, slow: Array, share: float, goes_on: float, goes_back: float) -> Arrays:
        """Move the slow weights, and θ to them."""
        slow = slow + share * (flow - slow)
        return goes_on * flow + goes_back * slow, slow


class PolyakAverage(Link):
    r"""The mean of θ over all steps predicts, while training goes on from θ [Polyak1992]_.

    .. math::

        \bar\theta_t = \frac{1}{t - t_0} \sum_{i = t_0 + 1}^t \theta_i

    and :math:`\bar\theta_t = \theta_t` until step :math:`t_0`. A rate that stays, or falls slowly, goes with it. As
    ``torch.optim.swa_utils.AveragedModel``, updated after each step.

    Parameters
    ----------
    start : float, default=0
        Steps :math:`t_0` before the average begins.

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
        """Take one more θ into the average."""
        return flow, keep * average + weight * flow


class ExponentialAverage(PolyakAverage):
    r"""An average of θ that forgets predicts, while training goes on from θ.

    .. math::

        \bar\theta_t = \frac{1 - \beta}{1 - \beta^t} \sum_{i = 1}^t \beta^{t - i} \theta_i

    It looks back over some :math:`1 / (1 - \beta)` steps; the denominator corrects for the start, when there are
    fewer. As ``optax.ema`` of θ.

    Parameters
    ----------
    decay : float, default=0.999
        The factor β by which the weight of each θ falls in a step.

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
    r"""Average θ instead of letting the rate fall [Defazio2024]_.

    .. math::

        z_t = z_{t-1} - \gamma_t u_t, \qquad
        x_t = (1 - c_t)\, x_{t-1} + c_t z_t, \qquad
        \theta_t = (1 - \beta)\, z_t + \beta x_t

    with :math:`u_t` what the rule before it lets flow at :math:`\theta_{t-1}` (the paper's y) and :math:`\gamma_t`
    its rate; :math:`c_t = w_t / \sum_{i \le t} w_i` with :math:`w_t = (\max_{i \le t} \gamma_i)^p`. The average x
    is what predicts. The rule has no momentum of its own: β takes its place. The rate should not fall; a
    warm-up does good. As ``optax.contrib.schedule_free``, which takes the rate of a schedule for
    :math:`w_t` one step ahead of that for :math:`z_t`.

    Parameters
    ----------
    beta : float, default=0.9
        Where the gradient is asked for, between z at 0 and x at 1.
    weight_power : float, default=2.0
        The power p of the rate in the weights.

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
        """Return the rate, the weights of the average, and those of the place between."""
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
        """Step, average, and go between."""
        fast = fast - rate * g
        average = keep * average + weight * fast
        return beside * fast + beta * average, fast, average
