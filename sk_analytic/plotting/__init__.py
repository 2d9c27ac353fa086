"""Plots, as Display classes like scikit-learn's. matplotlib is imported only when something is drawn."""

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
