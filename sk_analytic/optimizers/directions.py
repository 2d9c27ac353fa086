"""Links that change the direction by a sign: that of θ, which then decays to zero, or that of the whole gradient."""

import numpy as np

from .base import AMOUNT, Link


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
        The strength λ.

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

    def __init__(self, sign_decay=0.001):
        self.sign_decay = sign_decay

    def coefficients(self, now):
        """Return the strength."""
        return (self.sign_decay,)

    @staticmethod
    def formula(g, theta, strength):
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
    def formula(g, theta):
        """Turn round."""
        return -g
