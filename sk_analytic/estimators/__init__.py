"""The scikit-learn shell: four estimators on one base."""

from .classifier import AnalyticClassifier
from .density import AnalyticDensity
from .regressor import AnalyticRegressor
from .transformer import AnalyticTransformer

__all__ = ["AnalyticClassifier", "AnalyticDensity", "AnalyticRegressor", "AnalyticTransformer"]
