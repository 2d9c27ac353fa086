"""Plots as Display classes, as in scikit-learn. They require matplotlib, which is imported when something is drawn."""

from .fitted_curve import FittedCurveDisplay
from .gradient_check import GradientCheckDisplay
from .intervals import IntervalsDisplay
from .loss_curve import LossCurveDisplay
from .optimizer_path import OptimizerPathDisplay
from .pairs import PairsDisplay
from .profiles import ProfileDisplay

__all__ = [
    "FittedCurveDisplay",
    "GradientCheckDisplay",
    "IntervalsDisplay",
    "LossCurveDisplay",
    "OptimizerPathDisplay",
    "PairsDisplay",
    "ProfileDisplay",
]
