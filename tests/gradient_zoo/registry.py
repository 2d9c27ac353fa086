"""The register of planted faults, and what plants one in a model."""

from dataclasses import dataclass

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor

from .patients import Hidden, Nade, Softmax, Survival


@dataclass(frozen=True)
class Fault:
    """A fault and its truth.

    Attributes
    ----------
    name : str
    plant : callable
        ``plant() -> dict`` of arguments of `check_gradient`.
    blocks : set of str
        The blocks that are wrong.
    causes : set of str
        Identifiers that name the fault.
    says : str
        Words that the explanation of some block holds.
    model : str
        The model in which it is planted.
    """

    name: str
    plant: object
    blocks: frozenset
    causes: frozenset
    says: str = ""
    model: str = ""

    @property
    def form(self):
        """The form of the gradient: that of the estimator, or ``"plain"`` functions."""
        estimator = self.plant().get("estimator")
        forms = ("vjp", "jacobian", "loss_and_gradient", "gradient")
        return "plain" if estimator is None else next(f for f in forms if getattr(estimator, f) is not None)

    @property
    def has_weights_or_outputs(self):
        """Whether samples are weighted, or predictions or targets have several columns."""
        given = self.plant()
        if given.get("sample_weight") is not None:
            return True
        y, estimator = given.get("y"), given.get("estimator")
        if estimator is None or estimator.forward is None:
            return y is not None and y.ndim == 2
        return estimator.forward(estimator.init, given["X"]).ndim == 2


FAULTS = {}


def fault(blocks, causes, says="", model=""):
    """Register a planter under its name."""

    def register(plant):
        name = plant.__name__
        assert name not in FAULTS
        whose = model or name.partition("_")[0]
        FAULTS[name] = Fault(name, plant, frozenset(blocks.split()), frozenset(causes.split()), says, whose)
        return plant

    return register


def classifier(model=Softmax, sample_weight=None, **callables):
    """Arguments for a classifier."""
    callables.setdefault("forward", model.forward)
    estimator = AnalyticClassifier(init=model.params, **callables)
    return {"estimator": estimator, "X": model.X, "y": model.y, "sample_weight": sample_weight}


def regressor(model=Hidden, sample_weight=None, **callables):
    """Arguments for a regressor."""
    callables.setdefault("forward", model.forward)
    estimator = AnalyticRegressor(init=model.params, **callables)
    return {"estimator": estimator, "X": model.X, "y": model.y, "sample_weight": sample_weight}


def density(model=Nade, **callables):
    """Arguments for a density."""
    callables.setdefault("forward", model.forward)
    estimator = AnalyticDensity(init=model.params, **callables)
    return {"estimator": estimator, "X": model.X}


def plain(model=Survival, **callables):
    """Arguments for plain functions."""
    return {"loss": model.loss, "params": model.params, "X": model.X, "y": model.y, **callables}


def altered(function, **changes):
    """A gradient with some blocks changed: ``changes[block](its gradient, params)``."""

    def gradient(params, X, y):
        grads = dict(function(params, X, y))
        for block, change in changes.items():
            grads[block] = change(grads[block], params)
        return grads

    return gradient
