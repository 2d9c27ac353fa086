"""Pictures, as Display classes in scikit-learn's manner. matplotlib is imported when one is drawn."""

from .gradient_check import GradientCheckDisplay
from .loss_curve import LossCurveDisplay
from .optimizer_path import OptimizerPathDisplay

__all__ = ["GradientCheckDisplay", "LossCurveDisplay", "OptimizerPathDisplay"]
