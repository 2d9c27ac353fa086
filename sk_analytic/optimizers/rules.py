"""The rules, one class each: hyperparameters, slots, coefficients, and one formula.

The step ``theta - learning_rate * flow`` is the engine's; a formula gives what flows into it.
"""

import numpy as np

from ..named import Interval
from .base import AMOUNT, UNIT, NamedChain, Rule
from .transforms import DivideByRMS, WeightDecay

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

    def __init__(self, learning_rate=0.01, momentum=0.0, dampening=0.0, nesterov=False):
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov

    @property
    def slots(self):
        """The direction, with momentum only."""
        return {"velocity": 0.0} if self.momentum else {}

    @property
    def formula(self):
        """The plain, the heavy ball's or Nesterov's form."""
        if not self.momentum:
            return self._plain
        return self._nesterov if self.nesterov else self._heavy_ball

    def coefficients(self, now):
        """Return the weights of the last direction and of the gradient."""
        return self.momentum, 1.0 if now.t == 1 else 1.0 - self.dampening

    @staticmethod
    def _plain(g, theta, keep, weight):
        return g

    @staticmethod
    def _heavy_ball(g, theta, velocity, keep, weight):
        velocity = keep * velocity + weight * g
        return velocity, velocity

    @staticmethod
    def _nesterov(g, theta, velocity, keep, weight):
        velocity = keep * velocity + weight * g
        return g + keep * velocity, velocity


class RMSprop(NamedChain):
    r"""Gradient descent on the gradient divided by its root mean square [Hinton2012]_.

    .. math::

        v_t = \rho v_{t-1} + (1 - \rho) g_t^2, \qquad
        b_t = \mu b_{t-1} + \frac{g_t}{\sqrt{v_t} + \epsilon}, \qquad
        \theta_t = \theta_{t-1} - \eta b_t

    It is a `DivideByRMS` before an `SGD`. The reference is ``torch.optim.RMSprop``, whose ``alpha`` is our
    ``rho`` (``alpha`` is the estimators' penalty); Keras and Hinton have 0.9 for it.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        The rate η.
    rho : float or Schedule, default=0.99
        Decay rate ρ of the average.
    epsilon : float or Schedule, default=1e-8
        Added to the root.
    momentum : float or Schedule, default=0.0
        The share μ of the last direction that is kept.
    centered : bool, default=False
        Whether to divide by the root of the variance, see `DivideByRMS`.

    References
    ----------
    .. [Hinton2012] T. Tieleman and G. Hinton, "Lecture 6.5: RMSprop", Coursera, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import RMSprop
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = RMSprop(learning_rate=0.1, rho=0.75)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.8, 1.2])
    """

    parts = DivideByRMS, SGD

    def __init__(self, learning_rate=0.01, rho=0.99, epsilon=1e-8, momentum=0.0, centered=False):
        self.learning_rate = learning_rate
        self.rho = rho
        self.epsilon = epsilon
        self.momentum = momentum
        self.centered = centered


class Adagrad(Rule):
    r"""Divide by the root of the sum of all squares so far, entry by entry [Duchi2011]_.

    .. math::

        s_t = s_{t-1} + g_t^2, \qquad
        \theta_t = \theta_{t-1} - \frac{\eta}{1 + (t - 1)\lambda} \frac{g_t}{\sqrt{s_t} + \epsilon}

    The reference is ``torch.optim.Adagrad``; Keras and TensorFlow start the sum at 0.1.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        The rate η.
    lr_decay : float or Schedule, default=0.0
        The decay λ of the rate, by the number of steps in which the block had a gradient.
    initial_accumulator_value : float, default=0.0
        Start of the sum.
    epsilon : float or Schedule, default=1e-10
        Added to the root.

    References
    ----------
    .. [Duchi2011] J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
       stochastic optimization", JMLR 12, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Adagrad
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Adagrad(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.9, 1.1])
    """

    slots = {"square": "initial_accumulator_value"}
    ranges = Rule.ranges | {"lr_decay": AMOUNT, "initial_accumulator_value": AMOUNT, "epsilon": AMOUNT}

    def __init__(self, learning_rate=0.01, lr_decay=0.0, initial_accumulator_value=0.0, epsilon=1e-10):
        self.learning_rate = learning_rate
        self.lr_decay = lr_decay
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def coefficients(self, now):
        """Return the decay of the rate, as a factor of the denominator, and epsilon times it."""
        decay = 1.0 + (now.t - 1) * self.lr_decay
        return decay, decay * self.epsilon

    @staticmethod
    def formula(g, theta, square, decay, epsilon):
        """Divide by the root of the sum."""
        square = square + g * g
        return g / (decay * np.sqrt(square) + epsilon), square


class Adam(Rule):
    r"""Averages of the gradient and of its square, corrected for their start at zero [Kingma2015]_.

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \theta_t &= \theta_{t-1} - \eta \,\frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    With ``amsgrad`` the largest :math:`v` so far stands in the place of :math:`v_t` [Reddi2018]_. The
    reference is ``torch.optim.Adam``. scikit-learn's MLP adds epsilon to the root of the uncorrected
    :math:`v_t` instead. The default rate is 0.01, ten times what is usual elsewhere: small data sets have
    few steps an epoch.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        The rate η: about the largest change of an entry in a step.
    beta_1, beta_2 : float or Schedule, default=0.9, 0.999
        Decay rates β of the averages.
    epsilon : float or Schedule, default=1e-8
        Added to the root.
    amsgrad : bool, default=False
        Whether the denominator never falls.

    References
    ----------
    .. [Kingma2015] D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    .. [Reddi2018] S. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Adam
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = Adam(learning_rate=0.1)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.9, 1.1])
    """

    ranges = Rule.ranges | {"beta_1": UNIT, "beta_2": UNIT, "epsilon": AMOUNT, "amsgrad": bool}

    def __init__(self, learning_rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-8, amsgrad=False):
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad

    @property
    def slots(self):
        """Both averages, and the largest second one with AMSGrad only."""
        return {"mean": 0.0, "square": 0.0} | ({"largest": 0.0} if self.amsgrad else {})

    @property
    def formula(self):
        """Adam's or AMSGrad's form."""
        return self._amsgrad if self.amsgrad else self._adam

    def coefficients(self, now):
        """Return the weights of new values; the factor of the root, and epsilon, after both corrections."""
        correction_1 = 1.0 - self.beta_1**now.t
        correction_2 = 1.0 - self.beta_2**now.t
        root = correction_1 / correction_2**0.5
        return 1.0 - self.beta_1, self.beta_2, 1.0 - self.beta_2, root, correction_1 * self.epsilon

    @staticmethod
    def _adam(g, theta, mean, square, weight_1, keep_2, weight_2, root, epsilon):
        mean = mean + weight_1 * (g - mean)
        square = keep_2 * square + weight_2 * (g * g)
        return mean / (root * np.sqrt(square) + epsilon), mean, square

    @staticmethod
    def _amsgrad(g, theta, mean, square, largest, weight_1, keep_2, weight_2, root, epsilon):
        mean = mean + weight_1 * (g - mean)
        square = keep_2 * square + weight_2 * (g * g)
        largest = np.maximum(largest, square)
        return mean / (root * np.sqrt(largest) + epsilon), mean, square, largest


class AdamW(NamedChain):
    r"""Adam with decoupled weight decay [Loshchilov2019]_: `Adam`, then `WeightDecay`.

    .. math::

        \theta_t = \theta_{t-1} - \eta \,
            \Big(\frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} + \lambda \theta_{t-1}\Big)

    with :math:`\hat m_t, \hat v_t` the corrected averages of `Adam`. The reference is
    ``torch.optim.AdamW``; ``optax.adamw`` has 1e-4 for the decay.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        The rate η.
    beta_1, beta_2 : float or Schedule, default=0.9, 0.999
        Decay rates of the averages.
    epsilon : float or Schedule, default=1e-8
        Added to the root.
    weight_decay : float or Schedule, default=0.01
        The strength λ.
    amsgrad : bool, default=False
        Whether the denominator never falls.

    References
    ----------
    .. [Loshchilov2019] I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019,
       algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import AdamW
    >>> theta = np.array([1.0, 1.0])
    >>> optimizer = AdamW(learning_rate=0.1, weight_decay=0.5)
    >>> optimizer.update(optimizer.init(theta), theta, np.array([0.01, -100.0]))
    >>> theta.round(3)
    array([0.85, 1.05])
    """

    parts = Adam, WeightDecay

    def __init__(self, learning_rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.01, amsgrad=False):
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.amsgrad = amsgrad
