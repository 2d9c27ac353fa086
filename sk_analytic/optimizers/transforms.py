"""Links without a learning rate, which clip, scale, negate, decay or accumulate the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..typing import Array, Arrays, Number
from ..validation import Interval
from .base import AMOUNT, POSITIVE, UNIT, Link
from .scalars import hypot, inverse_root_power_of_two
from .state import StepInfo

COUNT = Interval(1, float("inf"), integral=True)


def in_two(over: float, under: float) -> tuple[float, float]:
    """Return two numbers whose product is a ratio, each representable even if the ratio is too large or too small."""
    ratio = over / under
    if 1e-30 < ratio < 1e30:
        return 1.0, ratio
    part = inverse_root_power_of_two(under)
    return part, over / (under * part)


class ClipValue(Link):
    r"""Clip every entry of the gradient: :math:`\min(\max(g, -c), c)`.

    Like ``torch.nn.utils.clip_grad_value_``.

    Parameters
    ----------
    max_value : float, default=1.0
        Bound c.

    Examples
    --------
    >>> from sk_analytic.optimizers import SGD, Chain, ClipValue
    >>> Chain([ClipValue(0.5), SGD()])
    Chain(links=[ClipValue(max_value=0.5), SGD()])
    """

    ranges = {"max_value": POSITIVE}

    def __init__(self, max_value: Number = 1.0) -> None:
        self.max_value = max_value

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the bounds."""
        return -self.max_value, self.max_value

    @staticmethod
    def formula(g: Array, theta: Array, low: float, high: float) -> Array:
        """Clip each entry."""
        return np.minimum(np.maximum(g, low), high)


class ClipBlockNorm(Link):
    r"""Clip the gradient norm of each parameter array: :math:`g \min(1, c / \|g\|_2)`.

    Like ``optax.clip_by_block_rms`` with the norm instead of the root mean square, and like Keras'
    ``clipnorm``.

    Parameters
    ----------
    max_norm : float, default=1.0
        The largest norm c.

    See Also
    --------
    ClipNorm : Clip the norm of the gradient of all parameter arrays together.

    Examples
    --------
    >>> from sk_analytic.optimizers import SGD, Chain, ClipBlockNorm
    >>> Chain([ClipBlockNorm(5.0), SGD()])
    Chain(links=[ClipBlockNorm(max_norm=5.0), SGD()])
    """

    accepts_sparse_grads = True
    norms = True
    ranges = {"max_norm": POSITIVE}

    def __init__(self, max_norm: Number = 1.0) -> None:
        self.max_norm = max_norm

    @staticmethod
    def measures(g: Array, theta: Array) -> Array:
        """Measure the norm."""
        return g

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the factor, in two parts; 1 if the norm is small enough."""
        return in_two(self.max_norm, now.sums) if now.sums > self.max_norm else (1.0, 1.0)

    @staticmethod
    def formula(g: Array, theta: Array, factor: float, rest: float) -> Array:
        """Scale the gradient to the largest norm, if its norm is larger."""
        return rest * (factor * g)


class ClipNorm(ClipBlockNorm):
    r"""Clip the norm of the whole gradient: :math:`g \min(1, c / \|g\|_2)`.

    The norm is taken over all parameter arrays together, so the gradient keeps its direction
    [Pascanu2013]_. Like ``optax.clip_by_global_norm``; ``torch.nn.utils.clip_grad_norm_`` adds 1e-6 to the
    norm.

    Parameters
    ----------
    max_norm : float, default=1.0
        The largest norm c.

    See Also
    --------
    ClipBlockNorm : Clip the norm of each parameter array separately.

    References
    ----------
    .. [Pascanu2013] R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural
       networks", ICML 2013, algorithm 1.

    Examples
    --------
    >>> from sk_analytic.optimizers import Adam, Chain, ClipNorm
    >>> Chain([ClipNorm(1.0), Adam()])
    Chain(links=[ClipNorm(), Adam()])
    """

    scope = "all"


class WeightDecay(Link):
    r"""Weight decay, coupled or decoupled: output :math:`g + \lambda \theta`.

    The position in the chain decides the kind. Before the rule, it is coupled: the gradient of an L2 penalty
    :math:`\frac\lambda2 \|\theta\|^2`, which the rule scales like the rest of the gradient. After the rule, it is
    decoupled [Loshchilov2019]_: θ shrinks by the factor :math:`1 - \eta \lambda` in each step, where η is the
    rule's learning rate.

    Parameters
    ----------
    weight_decay : float, default=0.01
        Weight decay coefficient λ.

    References
    ----------
    .. [Loshchilov2019] I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD, Chain, WeightDecay
    >>> theta = np.array([1.0])
    >>> optimizer = Chain([SGD(learning_rate=0.1), WeightDecay(0.5)])
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.0]))
    >>> theta
    array([0.95])
    """

    ranges = {"weight_decay": AMOUNT}

    def __init__(self, weight_decay: Number = 0.01) -> None:
        self.weight_decay = weight_decay

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the strength."""
        return (self.weight_decay,)

    @staticmethod
    def formula(g: Array, theta: Array, strength: float) -> Array:
        """Add the decay."""
        return g + strength * theta


class DivideByRMS(Link):
    r"""Divide each entry of the gradient by its running root mean square.

    .. math::

        v_t = \rho v_{t-1} + (1 - \rho) g_t^2, \qquad g_t / (\sqrt{v_t + \epsilon'} + \epsilon)

    If ``centered``, the average :math:`m_t = \rho m_{t-1} + (1 - \rho) g_t` is subtracted: the root is taken of
    :math:`v_t - m_t^2`, an estimate of the variance [Graves2013]_. If ``corrected``, both are divided by
    :math:`1 - \rho^t`, as in Adam. `RMSprop` is this link followed by `SGD`.

    Parameters
    ----------
    rho : float, default=0.99
        Decay rate ρ of the running averages.
    epsilon : float, default=1e-8
        Added to the square root in the denominator, for numerical stability.
    centered : bool, default=False
        Whether to subtract the squared average, so that the root is a standard deviation.
    epsilon_root : float, default=0.0
        Constant ε' added under the square root.
    corrected : bool, default=False
        Whether to correct the averages for their bias towards zero in the first steps.

    References
    ----------
    .. [Graves2013] A. Graves, "Generating sequences with recurrent neural networks", arXiv:1308.0850,
       equations 38 to 40.

    Examples
    --------
    >>> from sk_analytic.optimizers import Chain, DivideByRMS, SGD
    >>> Chain([DivideByRMS(rho=0.9), SGD()])
    Chain(links=[DivideByRMS(rho=0.9), SGD()])
    """

    ranges = {"rho": UNIT, "epsilon": AMOUNT, "centered": bool, "epsilon_root": AMOUNT, "corrected": bool}

    def __init__(
        self,
        rho: Number = 0.99,
        epsilon: Number = 1e-8,
        centered: bool = False,
        epsilon_root: Number = 0.0,
        corrected: bool = False,
    ) -> None:
        self.rho = rho
        self.epsilon = epsilon
        self.centered = centered
        self.epsilon_root = epsilon_root
        self.corrected = corrected

    @property
    def slots(self) -> dict[str, Any]:
        """The averages; only the centered form needs the second."""
        return {"square": 0.0, "mean": 0.0} if self.centered else {"square": 0.0}

    @property
    def formula(self) -> Callable[..., Array | Arrays]:
        """The plain or the centered form."""
        return self._centered if self.centered else self._plain

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return both weights of the averages, corrected if asked for, and both epsilons."""
        keep, weight = self.rho, 1.0 - self.rho
        if self.corrected:
            keep *= (1.0 - self.rho ** (now.t - 1)) / (1.0 - self.rho**now.t)
            weight /= 1.0 - self.rho**now.t
        return keep, weight, self.epsilon_root, self.epsilon

    @staticmethod
    def _plain(
        g: Array, theta: Array, square: Array, keep: float, weight: float, inside: float, epsilon: float
    ) -> Arrays:
        square = keep * square + weight * (g * g)
        return g / (np.sqrt(square + inside) + epsilon), square

    @staticmethod
    def _centered(
        g: Array, theta: Array, square: Array, mean: Array, keep: float, weight: float, inside: float, epsilon: float
    ) -> Arrays:
        square = keep * square + weight * (g * g)
        mean = keep * mean + weight * g
        return g / (np.sqrt(square - mean * mean + inside) + epsilon), square, mean


class DivideByNorm(Link):
    r"""Divide the gradient of each parameter array by the root of its average squared norm.

    .. math::

        v_t = \rho v_{t-1} + (1 - \rho) \|g_t\|_2^2, \qquad g_t / (\sqrt{v_t} + \epsilon)

    with :math:`v_1 = \|g_1\|_2^2`. It is the first link of `NovoGrad`.

    Parameters
    ----------
    rho : float, default=0.25
        Decay rate ρ of the running average.
    epsilon : float, default=1e-6
        Added to the square root in the denominator, for numerical stability.

    Examples
    --------
    >>> from sk_analytic.optimizers import Chain, DivideByNorm, SGD
    >>> Chain([DivideByNorm(), SGD()])
    Chain(links=[DivideByNorm(), SGD()])
    """

    memory = {"root": 0.0}
    norms = True
    accepts_sparse_grads = True
    ranges = {"rho": UNIT, "epsilon": AMOUNT}

    def __init__(self, rho: Number = 0.25, epsilon: Number = 1e-6) -> None:
        self.rho = rho
        self.epsilon = epsilon

    @staticmethod
    def measures(g: Array, theta: Array) -> Array:
        """Measure the norm."""
        return g

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the factor, in two parts; a gradient that has always been zero stays zero."""
        keep = 0.0 if now.t == 1 else self.rho
        now.memory["root"] = hypot(keep**0.5 * now.memory["root"], (1.0 - keep) ** 0.5 * now.sums)
        divisor = now.memory["root"] + self.epsilon
        return in_two(1.0, divisor) if divisor else (0.0, 0.0)

    @staticmethod
    def formula(g: Array, theta: Array, factor: float, rest: float) -> Array:
        """Divide by the root of the average squared norm."""
        return rest * (factor * g)


class TrustRatio(Link):
    r"""Scale the update of each parameter array to the array's own norm, times a coefficient.

    .. math::

        \eta \, \frac{\|\theta\|_2}{\|u\|_2} \, u

    for the update :math:`u` of each parameter array. If one of the norms is zero, :math:`u` is left unchanged. It
    comes before the momentum in `LARS` and after Adam in `LAMB`. Like ``optax.scale_by_trust_ratio``.

    Parameters
    ----------
    trust_coefficient : float, default=1.0
        Coefficient η. A step with learning rate 1 changes a parameter array by this fraction of its norm.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD, Chain, TrustRatio
    >>> theta = np.array([3.0, 4.0])
    >>> optimizer = Chain([TrustRatio(), SGD(learning_rate=0.1)])
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.0, 1e-6]))
    >>> theta
    array([3. , 3.5])
    """

    norms = True
    ranges = {"trust_coefficient": AMOUNT}

    def __init__(self, trust_coefficient: Number = 1.0) -> None:
        self.trust_coefficient = trust_coefficient

    @staticmethod
    def measures(g: Array, theta: Array) -> Arrays:
        """Measure both norms."""
        return theta, g

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the factor, in two parts."""
        size, flow = now.sums
        return in_two(self.trust_coefficient * size, flow) if size and flow else (1.0, 1.0)

    @staticmethod
    def formula(g: Array, theta: Array, factor: float, rest: float) -> Array:
        """Scale by the trust ratio."""
        return rest * (factor * g)


class Sign(Link):
    """Replace each entry by its sign, so that a step moves it by the learning rate or not at all.

    Like ``optax.scale_by_sign``.

    Examples
    --------
    >>> from sk_analytic.optimizers import SGD, Chain, Sign
    >>> Chain([Sign(), SGD(learning_rate=0.001)])
    Chain(links=[Sign(), SGD(learning_rate=0.001)])
    """

    @staticmethod
    def formula(g: Array, theta: Array) -> Array:
        """Take the sign."""
        return np.sign(g)


class Optimism(Link):
    r"""Extrapolate the last change: output :math:`u_t + o\,(u_t - u_{t-1})`.

    In games, each player's gradient rotates as the others move; the extrapolation damps these rotations
    [Daskalakis2018]_. Like ``optax.scale_by_optimistic_gradient``, whose ``alpha`` is a factor of the learning rate;
    o is its ``beta / alpha``. The first step is not extrapolated.

    Parameters
    ----------
    optimism : float, default=1.0
        Strength o of the extrapolation.

    References
    ----------
    .. [Daskalakis2018] C. Daskalakis, A. Ilyas, V. Syrgkanis and H. Zeng, "Training GANs with optimism",
       ICLR 2018.

    Examples
    --------
    >>> from sk_analytic.optimizers import SGD, Chain, Optimism
    >>> Chain([SGD(), Optimism(0.5)])
    Chain(links=[SGD(), Optimism(optimism=0.5)])
    """

    slots = {"previous": 0.0}
    ranges = {"optimism": AMOUNT}

    def __init__(self, optimism: Number = 1.0) -> None:
        self.optimism = optimism

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the weights of the current and the previous input."""
        optimism = 0.0 if now.t == 1 else self.optimism
        return 1.0 + optimism, optimism

    @staticmethod
    def formula(g: Array, theta: Array, previous: Array, ahead: float, back: float) -> Arrays:
        """Extrapolate the last change."""
        return ahead * g - back * previous, g


class SignDecay(Link):
    r"""Decay every entry of θ towards zero by the same amount: output :math:`g + \lambda \operatorname{sign} \theta`.

    As for `WeightDecay`, the position decides the kind. Before the rule, it is coupled: the gradient of an L1 penalty
    :math:`\lambda \|\theta\|_1`, which the rule scales like the rest of the gradient. After the rule, it is decoupled:
    each entry moves by :math:`\eta \lambda` in each step, where η is the rule's learning rate. It does not stop at
    zero: a small entry ends within :math:`\eta \lambda` of it. For exact zeros, use ``"ftrl"``. Like ``SignDecay`` of
    Flux's Optimisers.jl.

    Parameters
    ----------
    sign_decay : float, default=0.001
        Weight decay coefficient λ.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD, Chain, SignDecay
    >>> theta = np.array([1.0, -3.0])
    >>> optimizer = Chain([SGD(learning_rate=0.1), SignDecay(0.5)])
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.0, 0.0]))
    >>> theta
    array([ 0.95, -2.95])
    """

    ranges = {"sign_decay": AMOUNT}

    def __init__(self, sign_decay: Number = 0.001) -> None:
        self.sign_decay = sign_decay

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the strength."""
        return (self.sign_decay,)

    @staticmethod
    def formula(g: Array, theta: Array, strength: float) -> Array:
        """Add the decay."""
        return g + strength * np.sign(theta)


class Maximize(Link):
    r"""Maximize instead of minimize: output :math:`-g`.

    Put it first in the chain, so that it negates the gradient alone and weight decay still pulls θ to zero, as
    with ``maximize=True`` in ``torch.optim``. It is meant for custom training loops. The estimators minimize: to
    maximize an objective such as a likelihood, pass its negative, with the negative gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD, Chain, Maximize
    >>> theta = np.array([1.0])
    >>> optimizer = Chain([Maximize(), SGD(learning_rate=0.1)])
    >>> optimizer.update(optimizer.init(theta), theta, np.array([1.0]))
    >>> theta
    array([1.1])
    """

    @staticmethod
    def formula(g: Array, theta: Array) -> Array:
        """Negate the gradient."""
        return -g


class Accumulate(Link):
    r"""Average every k gradients and take one step with the mean.

    The links after this one run only once in k calls: one step for k batches, as if the batch were k times as large.
    Schedules still count each call of ``update``. A mean that is incomplete when training ends is kept in the state
    for the next gradient. All batches have equal weight, even a smaller last one. Like ``optax.MultiSteps``.

    Parameters
    ----------
    steps : int, default=2
        Number k of gradients per mean. A step is taken whenever the number of gradients so far is a multiple of k.

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

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the weights of the mean so far and of one more gradient."""
        share = 1.0 / (now.memory["held"] + 1.0)
        now.memory["held"] = 0.0 if self.passes(now.t) else now.memory["held"] + 1.0
        return 1.0 - share, share

    @staticmethod
    def formula(g: Array, theta: Array, mean: Array, keep: float, share: float) -> Arrays:
        """Update the mean."""
        mean = keep * mean + share * g
        return mean, mean
