"""Gradient descent with momentum, plain or scaled by the norm of each block."""

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
    r"""Gradient descent, optionally with momentum [Sutskever2013]_.

    .. math::

        b_1 = g_1, \qquad b_t = \mu b_{t-1} + (1 - \tau) g_t, \qquad \theta_t = \theta_{t-1} - \eta b_t

    With ``nesterov=True``, the step is along :math:`g_t + \mu b_t`. Without momentum, it is along :math:`g_t`. Follows
    ``torch.optim.SGD``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate η.
    momentum : float or Schedule, default=0.0
        Momentum μ.
    dampening : float or Schedule, default=0.0
        Fraction τ of the gradient that is left out of the direction after the first step.
    nesterov : bool, default=False
        Whether to use Nesterov momentum.

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
        """Formula of plain, heavy-ball or Nesterov steps."""
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
    r"""LARS: momentum with the step of each parameter array scaled to the array's norm [You2017]_.

    .. math::

        \lambda^l_t = \eta\, \frac{\|w^l_t\|}{\|g^l_t + \beta w^l_t\|}, \qquad
        v^l_{t+1} = m v^l_t + \lambda^l_t (g^l_t + \beta w^l_t), \qquad
        w^l_{t+1} = w^l_t - \gamma v^l_{t+1}

    for each parameter array l. Composed of `WeightDecay`, `TrustRatio` and `SGD`. Follows ``optax.lars``, which
    multiplies by the learning rate before the momentum. For a constant learning rate, both are equal.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.1
        Learning rate γ; ``optax.lars`` has no default. A parameter array that starts at zero takes its first step at
        this learning rate unscaled, so a large value can do harm.
    momentum : float or Schedule, default=0.9
        Momentum m.
    nesterov : bool, default=False
        Whether to use Nesterov momentum.
    weight_decay : float or Schedule, default=0.0
        Weight decay coefficient β, coupled: the decay is added to the gradient.
    trust_coefficient : float or Schedule, default=0.001
        Trust coefficient η.

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
    r"""NovoGrad: momentum on the gradient of each parameter array divided by its average norm [Ginsburg2019]_.

    .. math::

        v^l_t = \beta_2 v^l_{t-1} + (1 - \beta_2) \|g^l_t\|^2, \qquad
        m^l_t = \beta_1 m^l_{t-1} + \Big(\frac{g^l_t}{\sqrt{v^l_t} + \epsilon} + d\, w^l_t\Big), \qquad
        w^l_{t+1} = w^l_t - \lambda m^l_t

    for each parameter array l, with :math:`v^l_1 = \|g^l_1\|^2`. Composed of `DivideByNorm`, `WeightDecay` and `SGD`.
    Follows ``optax.novograd``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Learning rate λ; ``optax.novograd`` has no default.
    beta_1 : float or Schedule, default=0.9
        Momentum β₁.
    beta_2 : float or Schedule, default=0.25
        Decay rate β₂ of the running average of squared norms.
    epsilon : float or Schedule, default=1e-6
        Added to the square root in the denominator, for numerical stability.
    weight_decay : float or Schedule, default=0.0
        Weight decay coefficient d.

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
