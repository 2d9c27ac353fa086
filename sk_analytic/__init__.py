"""Models with hand-derived gradients as scikit-learn estimators."""

from .estimators import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    neg_mean_loss,
)
from .exceptions import (
    DivergenceError,
    GradientCheckError,
    InferenceWarning,
    ParameterStructureError,
    ReceivedArgumentError,
)
from .gradient_check import Finding, GradientReport, check_gradient
from .inference import Inference, infer
from .losses import get_loss, get_loss_names
from .model.base import Model
from .optimizers import get_optimizer, get_optimizer_names
from .persistence import load_params, save_params, trusted_types
from .search import LearningRateSweep, MultistartFit, find_learning_rate, fit_from_starts, optimizer_grid
from .typing import Grads, Params

__version__ = "0.1.0"

__all__ = [
    "AnalyticClassifier",
    "AnalyticDensity",
    "AnalyticRegressor",
    "AnalyticTransformer",
    "DivergenceError",
    "Finding",
    "GradientCheckError",
    "GradientReport",
    "Grads",
    "Inference",
    "InferenceWarning",
    "LearningRateSweep",
    "Model",
    "MultistartFit",
    "ParameterStructureError",
    "Params",
    "ReceivedArgumentError",
    "check_gradient",
    "find_learning_rate",
    "fit_from_starts",
    "get_loss",
    "get_loss_names",
    "get_optimizer",
    "get_optimizer_names",
    "infer",
    "load_params",
    "neg_mean_loss",
    "optimizer_grid",
    "save_params",
    "trusted_types",
]
