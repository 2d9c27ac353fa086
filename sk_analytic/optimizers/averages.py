"""Links that average over steps: of gradients before a step, or of θ along its way.

What follows the gradient's mean takes a step for several gradients. The averages of θ stand after the rule and
leave its steps alone, or pull them together; each has a slot that predicts in θ's stead.
"""

from ..typing import Array, Arrays, Number
from ..validation import Interval
from .base import UNIT, Link
from .state import Now

COUNT = Interval(1, float("inf"), integral=True)
SINCE = Interval(0, float("inf"))
SHARE = Interval(0, 1)


class Accumulate(Link):
    r"""Let the mean of every k gradients flow on, and nothing in between.

    Until then nothing after this link runs or counts: one step for k batches, as if each were k times as large.
    Schedules still count each call of ``update``. A mean begun when training ends waits in the state for the next
    gradient. Each batch counts the same, also one with fewer rows. As ``optax.MultiSteps``.

    Parameters
    ----------
    steps : int, default=2
        Gradients a mean, k. A mean ends where their number so far is a multiple of it.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD, Accumulate, Chain
    >>> theta = np.array([0.0])
    >>> optimizer = Chain([Accumulate(2), SGD(learning_rate=1.0)])
    >>> state = optimizer.init(theta)
    >>> for gradient in [-1.0, -3.0, -5.0]:
    ...     optimizer.update(state, theta, np.array([gradient]))
    ...     print(theta)
    [0.]
    [2.]
    [2.]
    """

    slots = {"mean": 0.0}
    memory = {"held": 0.0}
    ranges = {"steps": COUNT}

    def __init__(self, steps: Number = 2) -> None:
        self.steps = steps

    def passes(self, t: int) -> bool:
        """Whether the mean is complete."""
        return t % self.steps == 0

    def coefficients(self, now: Now) -> tuple[float, ...]:
        """Return the weights of the mean so far and of one more gradient."""
        share = 1.0 / (now.memory["held"] + 1.0)
        now.memory["held"] = 0.0 if self.passes(now.t) else now.memory["held"] + 1.0
        return 1.0 - share, share

    @staticmethod
    def formula(g: Array, theta: Array, mean: Array, keep: float, share: float) -> Arrays:
        """Take one more gradient into the mean."""
        mean = keep * mean + share * g
        return mean, mean


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

    def coefficients(self, now: Now) -> tuple[float, ...]:
        """Return the share of the way that the slow weights go; whether θ goes on, or goes back to them."""
        meets = now.t % self.steps == 0
        return self.slow_rate if meets else 0.0, float(not meets), float(meets)

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

    def coefficients(self, now: Now) -> tuple[float, ...]:
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

    def coefficients(self, now: Now) -> tuple[float, ...]:
        """Return the weights of the average so far and of one more θ."""
        total = self.decay * now.memory["total"] + (1.0 - self.decay)
        now.memory["total"] = total
        return 1.0 - (1.0 - self.decay) / total, (1.0 - self.decay) / total
