"""The forms in which an analytic gradient can be given: the arguments, results and requirements of each.

Everything that depends on the form is an attribute or a method of its class; nothing else tests its name.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..data.batch import Batch
from ..typing import Array
from .messages import note, pair
from .per_sample import OUT, mean_over_samples


class Problem(Protocol):
    """What a form asks of the objective that it serves."""

    needs_value: bool
    layout: Any
    model: Any

    def named_loss(self, prediction: Any, batch: Batch) -> tuple[float, Array]:
        """Mean loss by name, and its derivative in the prediction."""

    def read_loss(self, loss: Any, role: str, batch: Batch) -> float:
        """A loss that the user computed, as a mean over the batch."""

    def loss_of(self, params: Any, batch: Batch) -> float | Any:
        """Mean loss of a batch, or None."""

    def predictions(self, params: Any, batch: Batch) -> Array:
        """What `forward` says of a batch."""

    def jacobian_gradient(self, params: Any, batch: Batch, derivative: Array) -> Any:
        """The gradient as the product of a derivative in the prediction and the user's Jacobian."""


class GradientForm:
    """A form in which a gradient can be given.

    Attributes
    ----------
    name : str
        The estimator's parameter.
    receives : tuple of str
        What it may receive by name, besides metadata and model parameters.
    composes_loss : bool
        Whether it is composed with the derivative of a loss by name. Weights then reach it through that derivative, so
        that they would count twice if received too, and there is no reduction of its own.
    gives_value : bool
        Whether the loss of a step comes along with its gradient.
    has_own_loss : bool
        Whether that loss is the user's own.
    is_matrix : bool
        Whether it gives derivatives of each prediction, which are summed afterwards.
    predicts : bool
        Whether it gives the prediction too, and can stand in for `forward`.
    differentiates : str
        What it is the derivative of, for messages.
    """

    name: str
    receives: tuple[str, ...] = ("y", "sample_weight", "rng")
    composes_loss = False
    gives_value = True
    has_own_loss = False
    is_matrix = False
    predicts = False
    differentiates = "the loss"

    def evaluate(self, problem: Any, params: Any, batch: Batch) -> tuple[float | Any, Any]:
        """Return the mean loss of a batch, or None, and its gradient as the user gave it."""
        raise NotImplementedError


class Gradient(GradientForm):
    """``gradient(params, X, y) -> grads``, or of one sample, ``gradient(params, x, y, out)``."""

    name = "gradient"
    receives = ("y", "sample_weight", "rng", OUT)
    gives_value = False

    def evaluate(self, problem: Problem, params: Any, batch: Batch) -> tuple[float | Any, Any]:
        """Return None, or the loss if it is needed, and the gradient."""
        loss, gradient = problem.loss_of(params, batch) if problem.needs_value else None, problem.model.gradient
        if gradient.is_per_sample:
            return loss, mean_over_samples(gradient, problem.layout, params, batch, gives_value=False)[1]
        return loss, gradient.call(params, batch)


class LossAndGradient(GradientForm):
    """``loss_and_gradient(params, X, y) -> (loss, grads)``, or of a sample, ``(params, x, y, out) -> loss``."""

    name = "loss_and_gradient"
    receives = ("y", "sample_weight", "rng", OUT)
    has_own_loss = True

    def evaluate(self, problem: Problem, params: Any, batch: Batch) -> tuple[float, Any]:
        """Return the user's loss and gradient."""
        gradient = problem.model.gradient
        if gradient.is_per_sample:
            return mean_over_samples(gradient, problem.layout, params, batch, gives_value=True)
        loss, grads = pair(gradient.call(params, batch), self.name, "(loss, grads)")
        return problem.read_loss(loss, f"the loss of {self.name}", batch), grads


class Vjp(GradientForm):
    """``vjp(params, X) -> (prediction, pullback)``."""

    name = "vjp"
    receives = ("y", "rng")
    composes_loss = True
    predicts = True
    differentiates = "the predictions"

    def evaluate(self, problem: Problem, params: Any, batch: Batch) -> tuple[float, Any]:
        """Return the loss by name of the prediction, and the pullback of its derivative."""
        vjp = problem.model.gradient
        prediction, pullback = pair(vjp.call(params, batch), self.name, "(prediction, pullback)")
        if not callable(pullback):
            raise TypeError(f"vjp must return (prediction, pullback) with a callable pullback; got {pullback!r}.")
        loss, derivative = problem.named_loss(prediction, batch)
        try:
            grads = pullback(derivative)
        except Exception as error:
            note(error, "the pullback returned by vjp", pullback)
            raise
        if not vjp.watch.is_intact():
            vjp.require_unchanged("The pullback returned by vjp")
        return loss, problem.layout.unwrap(grads) if type(grads) is tuple else grads


class Jacobian(GradientForm):
    """``jacobian(params, X) -> J``, structured like θ."""

    name = "jacobian"
    receives = ("y", "rng")
    composes_loss = True
    is_matrix = True
    differentiates = "forward"

    def evaluate(self, problem: Problem, params: Any, batch: Batch) -> tuple[float, Any]:
        """Return the loss by name of the prediction, and its derivative times the Jacobian."""
        loss, derivative = problem.named_loss(problem.predictions(params, batch), batch)
        return loss, problem.jacobian_gradient(params, batch, derivative)


class Differences(GradientForm):
    """No gradient of the user's: every block that is trained is in ``numerical``."""

    name = "numerical"
    gives_value = False
    is_matrix = True  # predictions can be differenced as well as the loss

    def evaluate(self, problem: Problem, params: Any, batch: Batch) -> tuple[float | Any, Any]:
        """Return None, or the loss if it is needed, and a gradient without leaves."""
        loss = problem.loss_of(params, batch) if problem.needs_value else None
        return loss, problem.layout.unflatten([None] * len(problem.layout.names))


GRADIENT_FORMS: dict[str, GradientForm] = {
    form.name: form for form in (Gradient(), LossAndGradient(), Vjp(), Jacobian())
}
"""By name, in the order in which they are listed."""

DIFFERENCES = Differences()
