"""A scorer for scikit-learn's searches and cross-validation: minus the mean loss of an estimator."""

from __future__ import annotations

from typing import Any

from sklearn.utils.metadata_routing import MetadataRequest

from ..trust import trusted


@trusted
class MeanLossScorer:
    """Scorer that returns minus the mean loss, ``scorer(estimator, X, y)``.

    For a pipeline it scores the last step, for a search the best estimator.

    Parameters
    ----------
    **requests : bool or str
        Metadata to request, as for `set_score_request`.
    """

    def __init__(self, **requests: bool | str) -> None:
        self._requests = requests

    def __call__(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None, **metadata: Any) -> float:
        """Return minus the mean loss of a fitted estimator."""
        while not hasattr(estimator, "mean_loss"):
            if hasattr(estimator, "best_estimator_"):
                estimator = estimator.best_estimator_
            elif hasattr(estimator, "steps"):
                X = estimator[:-1].transform(X) if len(estimator.steps) > 1 else X
                estimator = estimator[-1]
            else:
                raise TypeError(
                    f"neg_mean_loss scores an estimator of this package, a pipeline that ends in one, or a search over "
                    f"either; {type(estimator).__name__} has no method mean_loss."
                )
        return -float(estimator.mean_loss(X, y, sample_weight, **metadata))

    def set_score_request(self, **requests: bool | str) -> MeanLossScorer:
        """Return a scorer that requests metadata for `mean_loss` under metadata routing.

        Parameters
        ----------
        **requests : bool or str
            ``exposure=True``, or the name under which the metadata is passed.

        Returns
        -------
        scorer : MeanLossScorer
            A new scorer.
        """
        return MeanLossScorer(**{**self._requests, **requests})

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the metadata request of the scorer.

        Returns
        -------
        routing : MetadataRequest
            Request of the method ``score``.
        """
        routing = MetadataRequest(owner=repr(self))
        for name, alias in {"sample_weight": None, **self._requests}.items():
            routing.score.add_request(param=name, alias=alias)
        return routing

    def __repr__(self) -> str:
        listed = ", ".join(f"{name}={alias!r}" for name, alias in self._requests.items())
        return f"neg_mean_loss{f'.set_score_request({listed})' if listed else ''}"


neg_mean_loss = MeanLossScorer()
"""Scorer that returns minus the mean loss: ``GridSearchCV(model, grid, scoring=neg_mean_loss)``."""
