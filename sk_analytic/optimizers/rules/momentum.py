"""Rules along the gradient itself, with momentum or scaled by the norm of a block."""

from __future__ import annotations

from collections.abc import Callable

from ...typing import Array, Arrays, Number
from ...validation import Interval
from ..base import Rule
from ..chains import NamedChain
from ..state import StepInfo
from ..transforms import DivideByNorm, TrustRatio, WeightDecay

SHARE = Interval(0, 1)


class SGD(Rule):
    r"""Gradient descent, with momentum if asked for [Sutskever2013]_.

    .. math::

        b_1 = g_1, \qquad b_t = \mu b_{t-1} + (1 - \tau) g_t, \qquad \theta_t = \theta_{t-1} - \eta b_t

    With ``nesterov`` the step is along :math:`g_t + \mu b_t`; without momentum along :math:`g_t`. The
    reference is ``torch.optim.SGD``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        The rate η.
    momentum : float or Schedule, default=0.0
        The share μ of the last direction that is kept.
    dampening : float or Schedule, default=0.0
        The share τ of the gradient that does not enter the direction, after the first step.
    nesterov : bool, default=False
        Whether to look ahead along the direction.

    References
    ----------
    .. [Sutskever2013] I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization
       and momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = SGD(learning_rate=0.1, momentum=0.9)
    >>> state = optimizer.init(theta)
    >>> for _ in range(2):
    ...     optimizer.update(state, theta, np.array([1.0, 2.0]))
    >>> theta
    array([0.71, 0.42])
    """

    ranges = Rule.ranges | {"momentum": SHARE, "dampening": SHARE, "nesterov": bool}

    def __init__(
        self, learning_rate: Number = 0.01, momentum: Number = 0.0, dampening: Number = 0.0, nesterov: bool = False
    ) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov

    @property
    def slots(self) -> dict[str, float]:
        """The direction, with momentum only."""
        return {"velocity": 0.0} if self.momentum else {}

    @property
    def formula(self) -> Callable[..., Array | Arrays]:
        """The plain, the heavy ball's or Nesterov's form."""
        if not self.momentum:
            return self._plain
        return self._nesterov if self.nesterov else self._heavy_ball

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the weights of the last direction and of the gradient."""
        return self.momentum, 1.0 if now.t == 1 else 1.0 - self.dampening

    @staticmethod
    def _plain(g: Array, theta: Array, keep: float, weight: float) -> Array:
        return g

    @staticmethod
    def _heavy_ball(g: Array, theta: Array, velocity: Array, keep: float, weight: float) -> Arrays:
        velocity = keep * velocity + weight * g
        return velocity, velocity

    @staticmethod
    def _nesterov(g: Array, theta: Array, velocity: Array, keep: float, weight: float) -> Arrays:
        velocity = keep * velocity + weight * g
        return g + keep * velocity, velocity


class LARS(NamedChain):
    r"""Momentum on steps that are as long as the block itself, times a coefficient [You2017]_.

    .. math::

        \lambda^l_t = \eta\, \frac{\|w^l_t\|}{\|g^l_t + \beta w^l_t\|}, \qquad
        v^l_{t+1} = m v^l_t + \lambda^l_t (g^l_t + \beta w^l_t), \qquad
        w^l_{t+1} = w^l_t - \gamma v^l_{t+1}

    for each block l. It is a `WeightDecay`, a `TrustRatio` and an `SGD`. The reference is ``optax.lars``,
    which multiplies by the rate before the momentum; with a constant rate it is the same.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.1
        The rate γ, which ``optax.lars`` leaves open. A block that starts at zero takes its first step at this
        rate alone, so a large one does harm.
    momentum : float or Schedule, default=0.9
        The share m of the last direction that is kept.
    nesterov : bool, default=False
        Whether to look ahead along the direction.
    weight_decay : float or Schedule, default=0.0
        The strength β of the decay, part of the gradient.
    trust_coefficient : float or Schedule, default=0.001
        The coefficient η.

    References
    ----------
    .. [You2017] Y. You, I. Gitman and B. Ginsburg, "Large batch training of convolutional networks",
       arXiv:1708.03888, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import LARS
    >>> theta = {"W": np.array([3.0, 4.0]), "b": np.array([1.0])}
    >>> optimizer = LARS(learning_rate=1.0, trust_coefficient=0.1)
    >>> optimizer.update(
    ...     optimizer.init(theta), theta, {"W": np.array([0.0, 9.0]), "b": np.array([-1.0])}
    ... )
    >>> theta
    {'W': array([3. , 3.5]), 'b': array([1.1])}
    """

    parts = WeightDecay, TrustRatio, SGD
    own_defaults = "learning_rate", "momentum", "weight_decay", "trust_coefficient"

    def __init__(
        self,
        learning_rate: Number = 0.1,
        momentum: Number = 0.9,
        nesterov: bool = False,
        weight_decay: Number = 0.0,
        trust_coefficient: Number = 0.001,
    ) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.trust_coefficient = trust_coefficient


class NovoGrad(NamedChain):
    r"""Momentum on the gradient of each block divided by its average norm [Ginsburg2019]_.

    .. math::

        v^l_t = \beta_2 v^l_{t-1} + (1 - \beta_2) \|g^l_t\|^2, \qquad
        m^l_t = \beta_1 m^l_{t-1} + \Big(\frac{g^l_t}{\sqrt{v^l_t} + \epsilon} + d\, w^l_t\Big), \qquad
        w^l_{t+1} = w^l_t - \lambda m^l_t

    for each block l, with :math:`v^l_1 = \|g^l_1\|^2`. It is a `DivideByNorm`, a `WeightDecay` and an `SGD`.
    The reference is ``optax.novograd``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        The rate λ, which ``optax.novograd`` leaves open.
    beta_1 : float or Schedule, default=0.9
        The share β₁ of the last direction that is kept.
    beta_2 : float or Schedule, default=0.25
        Decay rate β₂ of the average of squared norms.
    epsilon : float or Schedule, default=1e-6
        Added to the root.
    weight_decay : float or Schedule, default=0.0
        The strength d.

    References
    ----------
    .. [Ginsburg2019] B. Ginsburg et al., "Stochastic gradient methods with layer-wise adaptive moments for
       training of deep networks", arXiv:1905.11286, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import NovoGrad
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = NovoGrad(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([3.0, -4.0]))
    >>> theta.round(3)
    array([0.94, 1.08])
    """

    parts = DivideByNorm, WeightDecay, SGD
    settings = {"rho": "beta_2", "momentum": "beta_1"}
    own_defaults = "beta_1", "weight_decay"

    def __init__(
        self,
        learning_rate: Number = 0.01,
        beta_1: Number = 0.9,
        beta_2: Number = 0.25,
        epsilon: Number = 1e-6,
        weight_decay: Number = 0.0,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay
