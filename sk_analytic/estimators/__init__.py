"""The scikit-learn shell: four estimators on one base, and a scorer by their loss."""

from .classifier import AnalyticClassifier
from .density import AnalyticDensity
from .loss_scorer import neg_mean_loss
from .regressor import AnalyticRegressor
from .transformer import AnalyticTransformer

__all__ = ["AnalyticClassifier", "AnalyticDensity", "AnalyticRegressor", "AnalyticTransformer", "neg_mean_loss"]
