"""Links that are no rules: they clip, scale, turn, decay or accumulate what flows past them."""

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
    """Return two numbers whose product is a ratio: each is within reach where the ratio is too large or too small."""
    ratio = over / under
    if 1e-30 < ratio < 1e30:
        return 1.0, ratio
    part = inverse_root_power_of_two(under)
    return part, over / (under * part)


class ClipValue(Link):
    r"""Clip every entry of the gradient: :math:`\min(\max(g, -c), c)`.

    As ``torch.nn.utils.clip_grad_value_``.

    Parameters
    ----------
    max_value : float, default=1.0
        The bound c.

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
        """Clip."""
        return np.minimum(np.maximum(g, low), high)


class ClipBlockNorm(Link):
    r"""Shorten the gradient of each block whose norm is too large: :math:`g \min(1, c / \|g\|_2)`.

    As ``optax.clip_by_block_rms``, with the norm in place of the root mean square; ``keras``'s
    ``clipnorm``.

    Parameters
    ----------
    max_norm : float, default=1.0
        The largest norm c.

    See Also
    --------
    ClipNorm : The same by the norm of all of θ's gradient.

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
        """Return the factor, in two parts: 1 for a gradient that is short enough."""
        return in_two(self.max_norm, now.sums) if now.sums > self.max_norm else (1.0, 1.0)

    @staticmethod
    def formula(g: Array, theta: Array, factor: float, rest: float) -> Array:
        """Shorten."""
        return rest * (factor * g)


class ClipNorm(ClipBlockNorm):
    r"""Shorten the gradient if the norm of all of it is too large: :math:`g \min(1, c / \|g\|_2)`.

    The norm is taken over all blocks that pass this link, so the gradient keeps its direction
    [Pascanu2013]_. As ``optax.clip_by_global_norm``; ``torch.nn.utils.clip_grad_norm_`` adds 1e-6 to the
    norm.

    Parameters
    ----------
    max_norm : float, default=1.0
        The largest norm c.

    See Also
    --------
    ClipBlockNorm : The same block by block.

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
    r"""Pull θ to zero: :math:`g + \lambda \theta` flows on.

    Its place decides what it is. Before a rule it is coupled: the gradient of an L2 penalty
    :math:`\frac\lambda2 \|\theta\|^2`, which the rule then scales with the rest. After a rule it is
    decoupled [Loshchilov2019]_: θ shrinks by the factor :math:`1 - \eta \lambda` in each step, η being the
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
        """Add the pull."""
        return g + strength * theta


class DivideByRMS(Link):
    r"""Divide the gradient by the root of the average of its square, entry by entry.

    .. math::

        v_t = \rho v_{t-1} + (1 - \rho) g_t^2, \qquad g_t / (\sqrt{v_t + \epsilon'} + \epsilon)

    Centred, the average :math:`m_t = \rho m_{t-1} + (1 - \rho) g_t` counts too: the root is of
    :math:`v_t - m_t^2`, an estimate of the variance [Graves2013]_. Corrected, both are divided by
    :math:`1 - \rho^t`, as in Adam. It is what `RMSprop` does before the step.

    Parameters
    ----------
    rho : float, default=0.99
        Decay rate ρ of the averages.
    epsilon : float, default=1e-8
        Added to the square root in the denominator, for numerical stability.
    centered : bool, default=False
        Whether to subtract the square of the average.
    epsilon_root : float, default=0.0
        Constant ε' added under the square root.
    corrected : bool, default=False
        Whether the averages are corrected for their start at zero.

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
        """The averages, of which only the centred form needs the second."""
        return {"square": 0.0, "mean": 0.0} if self.centered else {"square": 0.0}

    @property
    def formula(self) -> Callable[..., Array | Arrays]:
        """The plain or the centred form."""
        return self._centered if self.centered else self._plain

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return both weights of an average, of a corrected one if it is that; and what is added."""
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
    r"""Divide the gradient of each block by the root of the average of its squared norm.

    .. math::

        v_t = \rho v_{t-1} + (1 - \rho) \|g_t\|_2^2, \qquad g_t / (\sqrt{v_t} + \epsilon)

    with :math:`v_1 = \|g_1\|_2^2`. It is what `NovoGrad` does first.

    Parameters
    ----------
    rho : float, default=0.25
        Decay rate ρ of the average.
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
        """Return what to multiply by, in two parts; a gradient that has always been zero stays so."""
        keep = 0.0 if now.t == 1 else self.rho
        now.memory["root"] = hypot(keep**0.5 * now.memory["root"], (1.0 - keep) ** 0.5 * now.sums)
        divisor = now.memory["root"] + self.epsilon
        return in_two(1.0, divisor) if divisor else (0.0, 0.0)

    @staticmethod
    def formula(g: Array, theta: Array, factor: float, rest: float) -> Array:
        """Divide."""
        return rest * (factor * g)


class TrustRatio(Link):
    r"""Make what flows as long as the block of θ itself, times a coefficient.

    .. math::

        \eta \, \frac{\|\theta\|_2}{\|u\|_2} \, u

    for what flows, :math:`u`, block by block; where one of the norms is zero, :math:`u` flows on as it is. It
    stands before the momentum in `LARS` and after Adam in `LAMB`. As ``optax.scale_by_trust_ratio``.

    Parameters
    ----------
    trust_coefficient : float, default=1.0
        The coefficient η: a step of rate 1 changes a block by this share of its norm.

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
        """Scale."""
        return rest * (factor * g)


class Sign(Link):
    """Let only the sign of each entry flow on: a step then moves each by the rate, or not at all.

    As ``optax.scale_by_sign``.

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
    r"""Expect the next change of what flows to be as the last one: :math:`u_t + o\,(u_t - u_{t-1})` flows on.

    In games, where each player's gradient turns as the others move, this damps the circling
    [Daskalakis2018]_. As ``optax.scale_by_optimistic_gradient``, whose ``alpha`` is a factor of the rate;
    o is its ``beta / alpha``. In the first step nothing is expected.

    Parameters
    ----------
    optimism : float, default=1.0
        The strength o.

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
        """Return the weights of what flows and of what flowed before."""
        optimism = 0.0 if now.t == 1 else self.optimism
        return 1.0 + optimism, optimism

    @staticmethod
    def formula(g: Array, theta: Array, previous: Array, ahead: float, back: float) -> Arrays:
        """Extrapolate."""
        return ahead * g - back * previous, g


class SignDecay(Link):
    r"""Pull every entry of θ to zero by the same strength: :math:`g + \lambda \operatorname{sign} \theta` flows on.

    Its place decides what it is, as for `WeightDecay`. Before a rule it is coupled: the gradient of an L1 penalty
    :math:`\lambda \|\theta\|_1`, which the rule then scales with the rest. After a rule it is decoupled: each
    entry moves by :math:`\eta \lambda` in each step, η being the rule's learning rate. It does not stop at zero:
    a small entry ends within :math:`\eta \lambda` of it; zeros are what ``"ftrl"`` gives. As ``SignDecay`` of
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
        """Add the pull."""
        return g + strength * np.sign(theta)


class Maximize(Link):
    r"""Climb instead of descending: :math:`-g` flows on.

    It stands first, so that it turns the gradient alone: decay, coupled or not, then still pulls θ to zero, as
    with ``maximize=True`` in ``torch.optim``. It is meant for loops of your own. The estimators minimise: where an
    objective is to be maximised, such as a likelihood, give them its negative, with the negative gradient.

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
        """Turn round."""
        return -g


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

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the weights of the mean so far and of one more gradient."""
        share = 1.0 / (now.memory["held"] + 1.0)
        now.memory["held"] = 0.0 if self.passes(now.t) else now.memory["held"] + 1.0
        return 1.0 - share, share

    @staticmethod
    def formula(g: Array, theta: Array, mean: Array, keep: float, share: float) -> Arrays:
        """Take one more gradient into the mean."""
        mean = keep * mean + share * g
        return mean, mean
