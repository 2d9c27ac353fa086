"""The rules, one class each: hyperparameters, slots, coefficients, and one formula.

The step ``theta - learning_rate * flow`` is the engine's; a formula gives what flows into it, or θ itself
where a rule says so. Each file holds one family; a new rule in any of them needs no other line.
"""

from .adagrad import *  # noqa: F403
from .adam import *  # noqa: F403
from .adam_variants import *  # noqa: F403
from .averaged import *  # noqa: F403
from .momentum import *  # noqa: F403
from .nesterov_adam import *  # noqa: F403
from .parameter_free import *  # noqa: F403
from .sign_based import *  # noqa: F403
