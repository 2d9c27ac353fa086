"""Links that are no rules: they clip, scale or decay what flows past them."""

import numpy as np

from ..named import Interval
from .base import AMOUNT, UNIT, Link

POSITIVE = Interval(0, np.inf, closed="neither")


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

    def __init__(self, max_value=1.0):
        self.max_value = max_value

    def coefficients(self, now):
        """Return the bounds."""
        return -self.max_value, self.max_value

    @staticmethod
    def formula(g, theta, low, high):
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

    ranges = {"max_norm": POSITIVE}

    def __init__(self, max_norm=1.0):
        self.max_norm = max_norm

    @staticmethod
    def measures(g, theta):
        """Measure the square of the norm."""
        return g * g

    def coefficients(self, now):
        """Return the factor: 1 for a gradient that is short enough."""
        norm = now.sums**0.5
        return (self.max_norm / norm if norm > self.max_norm else 1.0,)

    @staticmethod
    def formula(g, theta, factor):
        """Shorten."""
        return factor * g


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
        The strength λ.

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

    def __init__(self, weight_decay=0.01):
        self.weight_decay = weight_decay

    def coefficients(self, now):
        """Return the strength."""
        return (self.weight_decay,)

    @staticmethod
    def formula(g, theta, strength):
        """Add the pull."""
        return g + strength * theta


class DivideByRMS(Link):
    r"""Divide the gradient by the root of the average of its square, entry by entry.

    .. math::

        v_t = \rho v_{t-1} + (1 - \rho) g_t^2, \qquad g_t / (\sqrt{v_t} + \epsilon)

    Centred, the average :math:`m_t = \rho m_{t-1} + (1 - \rho) g_t` counts too: the root is of
    :math:`v_t - m_t^2`, an estimate of the variance [Graves2013]_. It is what `RMSprop` does before the step.

    Parameters
    ----------
    rho : float, default=0.99
        Decay rate ρ of the averages.
    epsilon : float, default=1e-8
        Added to the root.
    centered : bool, default=False
        Whether to subtract the square of the average.

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

    ranges = {"rho": UNIT, "epsilon": AMOUNT, "centered": bool}

    def __init__(self, rho=0.99, epsilon=1e-8, centered=False):
        self.rho = rho
        self.epsilon = epsilon
        self.centered = centered

    @property
    def slots(self):
        """The averages, of which only the centred form needs the second."""
        return {"square": 0.0, "mean": 0.0} if self.centered else {"square": 0.0}

    @property
    def formula(self):
        """The plain or the centred form."""
        return self._centered if self.centered else self._plain

    def coefficients(self, now):
        """Return both weights of an average, and epsilon."""
        return self.rho, 1 - self.rho, self.epsilon

    @staticmethod
    def _plain(g, theta, square, keep, weight, epsilon):
        square = keep * square + weight * (g * g)
        return g / (np.sqrt(square) + epsilon), square

    @staticmethod
    def _centered(g, theta, square, mean, keep, weight, epsilon):
        square = keep * square + weight * (g * g)
        mean = keep * mean + weight * g
        return g / (np.sqrt(square - mean * mean) + epsilon), square, mean
