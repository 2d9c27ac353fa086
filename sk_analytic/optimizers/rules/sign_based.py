"""Rules that use only the sign of each entry, so that the step size does not depend on the gradient's size."""

from __future__ import annotations

import numpy as np

from ...typing import Array, Arrays, Number
from ...validation import Interval
from ..base import POSITIVE, UNIT, Rule
from ..chains import NamedChain
from ..state import StepInfo
from ..transforms import Sign
from .momentum import SGD


class Signum(NamedChain):
    r"""Signum: move each entry by the learning rate against the sign of the momentum [Bernstein2018]_.

    .. math::

        m_t = \beta m_{t-1} + (1 - \beta) g_t, \qquad \theta_t = \theta_{t-1} - \eta \operatorname{sign}(m_t)

    Composed of `SGD`, whose direction is :math:`m_t` up to a factor, and `Sign`. Follows
    ``optax.signum``; with ``momentum=0``, ``optax.sign_sgd``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.001
        Learning rate η. optax has no default; a tenth of Adam's is used here, as for `Lion`.
    momentum : float or Schedule, default=0.9
        Momentum β.

    References
    ----------
    .. [Bernstein2018] J. Bernstein, Y. Wang, K. Azizzadenesheli and A. Anandkumar, "signSGD: compressed
       optimisation for non-convex problems", ICML 2018, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Signum
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Signum(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta
    array([0.9, 1.1])
    """

    parts = SGD, Sign
    own_defaults = "learning_rate", "momentum"

    def __init__(self, learning_rate: Number = 0.001, momentum: Number = 0.9) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum


class Lion(Rule):
    r"""Lion: move each entry by the learning rate against the sign of a momentum average [Chen2023]_.

    .. math::

        c_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
        \theta_t = \theta_{t-1} - \eta \operatorname{sign}(c_t), \qquad
        m_t = \beta_2 m_{t-1} + (1 - \beta_2) g_t

    Follows ``optax.lion``, which adds a decoupled weight decay of 0.001. To add it here, chain a `WeightDecay` after
    the rule.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.001
        Learning rate η: a tenth of Adam's, as the paper recommends. Keras and Flux use 0.001 too.
    beta_1 : float or Schedule, default=0.9
        Weight β₁ of the momentum in the direction.
    beta_2 : float or Schedule, default=0.99
        Decay rate β₂ of the momentum.

    References
    ----------
    .. [Chen2023] X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Chain, Lion, WeightDecay
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Chain([Lion(learning_rate=0.1), WeightDecay(0.5)])
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta
    array([0.85, 1.05])
    """

    slots = {"momentum": 0.0}
    ranges = Rule.ranges | {"beta_1": UNIT, "beta_2": UNIT}

    def __init__(self, learning_rate: Number = 0.001, beta_1: Number = 0.9, beta_2: Number = 0.99) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the gradient's share in the direction, and in the momentum."""
        return 1.0 - self.beta_1, 1.0 - self.beta_2

    @staticmethod
    def formula(g: Array, theta: Array, momentum: Array, share_1: float, share_2: float) -> Arrays:
        """Take the sign of the mixture, and update the average."""
        change = g - momentum
        return np.sign(momentum + share_1 * change), momentum + share_2 * change


class Rprop(Rule):
    r"""Rprop: a step size for each entry, which grows until its gradient changes sign [Riedmiller1993]_.

    .. math::

        \Delta_t = \min(\max(\eta^\pm \Delta_{t-1}, \Delta_{\min}), \Delta_{\max}), \qquad
        \theta_t = \theta_{t-1} - \operatorname{sign}(g_t)\, \Delta_t

    with factor :math:`\eta^+` if :math:`g_t g_{t-1} > 0`, :math:`\eta^-` if it is negative, and 1 if it is zero.
    If the gradient changed sign, the entry does not move in this step and :math:`g_t = 0` is stored. Use Rprop with
    full batches, because minibatches change the sign at random. Follows ``torch.optim.Rprop``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Initial step size :math:`\Delta_0`. Later changes, such as a schedule's, have no effect.
    shrink : float or Schedule, default=0.5
        Factor :math:`\eta^-`.
    grow : float or Schedule, default=1.2
        Factor :math:`\eta^+`.
    min_step : float or Schedule, default=1e-6
        The smallest step size.
    max_step : float or Schedule, default=50.0
        The largest step size.

    References
    ----------
    .. [Riedmiller1993] M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation
       learning: the RPROP algorithm", ICNN 1993; without weight backtracking, as in C. Igel and M. Hüsken,
       "Improving the Rprop learning algorithm", NC 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Rprop
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Rprop(learning_rate=0.1)
    >>> state = optimizer.init(theta)
    >>> for _ in range(2):
    ...     optimizer.update(state, theta, np.array([0.01, -100.0]))
    >>> theta
    array([0.78, 1.22])
    """

    gives = "theta"
    slots = {"previous": 0.0, "size": "learning_rate"}
    ranges = Rule.ranges | {
        "shrink": Interval(0, 1, closed="neither"),
        "grow": Interval(1, np.inf),
        "min_step": POSITIVE,
        "max_step": POSITIVE,
    }

    def __init__(
        self,
        learning_rate: Number = 0.01,
        shrink: Number = 0.5,
        grow: Number = 1.2,
        min_step: Number = 1e-6,
        max_step: Number = 50.0,
    ) -> None:
        self.learning_rate = learning_rate
        self.shrink = shrink
        self.grow = grow
        self.min_step = min_step
        self.max_step = max_step

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the three factors, the bounds, and zero."""
        return self.shrink, 1.0, self.grow, self.min_step, self.max_step, 0.0

    @staticmethod
    def formula(
        g: Array,
        theta: Array,
        previous: Array,
        size: Array,
        shrink: float,
        stay: float,
        grow: float,
        low: float,
        high: float,
        zero: float,
    ) -> Arrays:
        """Choose the factors, then step in entries whose gradient did not change sign."""
        agreement = g * previous
        factor = np.where(agreement > zero, grow, np.where(agreement < zero, shrink, stay))
        size = np.minimum(np.maximum(size * factor, low), high)
        g = np.where(agreement < zero, zero, g)
        return theta - np.sign(g) * size, g, size
