"""Update rules, one class each: hyperparameters, slots, coefficients, and one formula.

A formula returns the direction of the step ``theta - learning_rate * direction``, which the engine takes; if the rule
declares ``gives = "theta"``, it returns the new θ. Each file holds one family; a new class is a complete new rule.
"""

from .adagrad import *  # noqa: F403
from .adam import *  # noqa: F403
from .adam_variants import *  # noqa: F403
from .averaged import *  # noqa: F403
from .momentum import *  # noqa: F403
from .nesterov_adam import *  # noqa: F403
from .parameter_free import *  # noqa: F403
from .sign_based import *  # noqa: F403
