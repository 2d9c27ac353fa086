"""Optimizers of torch for the estimators: they update θ in its own memory.

Each block of θ is a tensor on the memory of the block, and its ``grad`` one on that of the gradient. Nothing is copied.
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import torch

from ...equality import is_same
from ...optimizers.outside import OutsideRule, resolved
from ...optimizers.schedules import Schedule
from ...typing import Array
from ...validation import check_range

UNITS = ("step", "epoch")


class TorchOptimizer(OutsideRule):
    """Optimizer that uses a ``torch.optim.Optimizer``.

    It can be used like any update rule, also in `Chain` and `PerBlock`. torch updates the parameters in place, without
    copies.

    Parameters
    ----------
    factory : type or callable
        Class of the optimizer, such as ``torch.optim.Adam``, or a function ``factory(tensors, **settings)`` that
        returns a ``torch.optim.Optimizer`` for a list of tensors, one for each parameter array. An optimizer that
        requires a closure is not supported; use ``"lbfgs"`` instead of ``torch.optim.LBFGS``. The optimizer should not
        write to the gradients.
    schedule : callable, default=None
        ``schedule(optimizer)`` returns a scheduler of ``torch.optim.lr_scheduler``, such as
        ``functools.partial(StepLR, step_size=10)``.
    schedule_unit : {"epoch", "step"}, default="epoch"
        Whether the scheduler steps after each epoch or after each step. After an epoch, ``ReduceLROnPlateau`` receives
        the loss of the epoch or, with early stopping, minus the validation score.
    **settings : dict
        Arguments of the factory by name, such as ``lr``. They are hyperparameters, which a search can set as
        ``optimizer__lr``; a change applies from the next step. Each may be a `Schedule` of this package.

    See Also
    --------
    sk_analytic.optimizers.PerBlock : Use an optimizer for some parameter arrays only, such as ``torch.optim.Muon``,
        which only supports matrices.

    Notes
    -----
    A parameter array without a gradient in a batch has ``grad=None``, so torch does not update it. Sparse gradients are
    converted to dense ones. The state consists of the ``state_dict`` of the optimizer and of the scheduler, as NumPy
    arrays. Anything that an optimizer stores outside its ``state_dict`` is neither saved nor resumed.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sk_analytic import AnalyticRegressor
    >>> from sk_analytic.interop.torch import TorchOptimizer
    >>> X = np.linspace(-1, 1, 20).reshape(-1, 1)
    >>> optimizer = TorchOptimizer(torch.optim.Adam, lr=0.1)
    >>> model = AnalyticRegressor(optimizer=optimizer, max_iter=200, tol=None)
    >>> model = model.fit(X, 2 * X[:, 0] + 1)
    >>> model.predict([[0.5]]).round(2)
    array([2.])
    >>> model.set_params(optimizer__lr=0.05).optimizer
    TorchOptimizer(factory=Adam, lr=0.05)
    """

    maker = "factory"
    n_given = 1
    ranges = {"schedule_unit": UNITS}

    def __init__(
        self,
        factory: Callable[..., Any],
        *,
        schedule: Callable[[Any], Any] | None = None,
        schedule_unit: str = "epoch",
        **settings: Any,
    ) -> None:
        self.factory = factory
        self.schedule = schedule
        self.schedule_unit = schedule_unit
        self.settings = settings

    def check(self) -> None:
        """Raise an error if the factory or the schedule is not callable, or the factory does not accept a setting."""
        if isinstance(self.factory, torch.optim.Optimizer):
            raise TypeError(_advice(self.factory))
        super().check()
        check_range("TorchOptimizer", "schedule_unit", self.schedule_unit, UNITS)
        if self.schedule is not None and not callable(self.schedule):
            raise TypeError(
                "TorchOptimizer: schedule must be a function of the optimizer, such as "
                f"functools.partial(torch.optim.lr_scheduler.StepLR, step_size=10); got {self.schedule!r}."
            )

    def stepper(self, state: Any, theta: Array, blocks: tuple[int, ...], kept: Any) -> TorchStepper:
        """Return the torch optimizer for some blocks of θ, starting from its earlier state if there is one."""
        return TorchStepper(self, state, theta, blocks, kept)


class TorchStepper:
    """An optimizer of torch on some blocks of one θ.

    Parameters
    ----------
    declared : TorchOptimizer
    state : State
        Whose blocks they are, and which tells the epoch.
    theta : ndarray of shape (size,)
    blocks : tuple of int
    kept : dict or None
        What `remembered` returned.
    """

    accepts_sparse_grads = False

    def __init__(
        self, declared: TorchOptimizer, state: Any, theta: Array, blocks: tuple[int, ...], kept: dict[str, Any] | None
    ) -> None:
        self._declared, self._state, self._blocks = declared, state, blocks
        self._given = copy.copy(declared.all_settings), declared.schedule
        self._shown: tuple[Any, Any] = None, None
        self._theta = theta
        self._tensors = {block: tensor.requires_grad_() for block, tensor in self._views(theta).items()}
        self._begin()
        self._epoch = state.epoch
        if kept is not None:
            self._restore(kept)
        self.learning_rate = 0.0

    def _begin(self) -> None:
        """Make the optimizer and its scheduler."""
        declared = self._declared
        settings = resolved(declared.settings, self._state)
        try:
            self._optimizer = declared.factory(list(self._tensors.values()), **settings)
        except Exception as error:
            shapes = ((self._state.names[block], tuple(tensor.shape)) for block, tensor in self._tensors.items())
            error.add_note(
                f"{declared.kind} received the parameters {', '.join(f'{name!r} {shape}' for name, shape in shapes)}. "
                "To train only some of them with it, use PerBlock."
            )
            raise
        if not isinstance(self._optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"{declared.kind}: the factory must return a torch.optim.Optimizer; got {self._optimizer!r}."
            )
        closure = inspect.signature(self._optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise ValueError(
                f"{declared.kind} requires a closure that evaluates the loss within a step, which is not supported. "
                "Use a full-batch method of this package, such as 'lbfgs'."
            )
        self._schedule = None if declared.schedule is None else declared.schedule(self._optimizer)

    def _views(self, vector: Array) -> dict[int, Any]:
        """The blocks of a vector as tensors on its memory."""
        shapes = _shapes_of(self._state)
        return {b: torch.from_numpy(vector[self._state.slices[b]].reshape(shapes[b])) for b in self._blocks}

    def step(self, theta: Array, g: Array, blocks: Collection[int]) -> None:
        """Write a step of these blocks into θ."""
        if theta is not self._theta:
            self._theta = theta
            for block, view in self._views(theta).items():
                self._tensors[block].data = view
        self._show(g, blocks)
        self._follow_epochs()
        groups = self._optimizer.param_groups
        for name, value in self._declared.settings.items():
            if isinstance(value, Schedule):
                for group in groups:
                    group[name] = value.at(self._state)
        self.learning_rate = max(float(group.get("lr", math.nan)) for group in groups)
        self._optimizer.step()
        if self._schedule is not None and self._declared.schedule_unit == "step":
            self._advance()

    def _show(self, g: Array, blocks: Collection[int]) -> None:
        """Let the tensors have their gradients; nothing is to be done while these lie where they did."""
        if not (g.flags.carray and g.dtype == self._theta.dtype):
            g = np.array(g, self._theta.dtype, order="C")
        seen, shown = self._shown
        if g is seen and blocks == shown:
            return
        views = self._views(g)
        for block, tensor in self._tensors.items():
            tensor.grad = views[block] if block in blocks else None
        self._shown = g, dict.fromkeys(blocks)

    def _follow_epochs(self) -> None:
        """Let the scheduler take the epochs that have ended."""
        if self._state.epoch < self._epoch:  # counted anew, in another phase
            self._restart()
        while self._epoch < self._state.epoch:
            self._epoch += 1
            if self._schedule is not None and self._declared.schedule_unit == "epoch":
                self._advance()

    def _restart(self) -> None:
        """Begin the schedule anew; what the optimizer remembers of the entries stays."""
        entries = self._optimizer.state_dict()["state"]
        self._begin()
        self._load({**self._optimizer.state_dict(), "state": entries})
        self._epoch = 0

    def _advance(self) -> None:
        by_loss = isinstance(self._schedule, torch.optim.lr_scheduler.ReduceLROnPlateau)
        curve = self._state.loss_curve
        if by_loss and not curve:
            return
        with warnings.catch_warnings():  # an optimizer that goes on has stepped before, which torch cannot know
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self._schedule.step(*([curve[-1]] if by_loss else []))  # type: ignore[union-attr]

    def remembered(self) -> dict[str, Any]:
        """Return what it remembers now: ``state_dict`` of the optimizer and the scheduler, and the settings."""
        settings, schedule = self._given
        return {
            "optimizer": _in_numpy(self._optimizer.state_dict()),
            "schedule": None if self._schedule is None else _in_numpy(self._schedule.state_dict()),
            "epoch": self._epoch,
            "given": (dict(settings), schedule),
        }

    def _restore(self, kept: dict[str, Any]) -> None:
        """Go on with what was remembered; settings that have changed since then hold, and a new schedule begins."""
        settings, schedule = kept["given"]
        saved = _in_torch(kept["optimizer"])
        if self._state.step == 0 or not is_same(schedule, self._declared.schedule):
            saved["param_groups"] = self._optimizer.state_dict()["param_groups"]
            self._load(saved)
            return
        self._load(saved)
        self._epoch = kept["epoch"]
        if self._schedule is not None:
            self._schedule.load_state_dict(_in_torch(kept["schedule"]))
        changed = {n: v for n, v in self._declared.all_settings.items() if not is_same(v, settings.get(n))}
        for name, value in resolved(changed, self._state).items():
            for group in self._optimizer.param_groups:
                group[name] = value
                if name == "lr" and self._schedule is not None:
                    group["initial_lr"] = value
            if name == "lr" and hasattr(self._schedule, "base_lrs"):
                self._schedule.base_lrs = [value for _ in self._schedule.base_lrs]  # type: ignore[union-attr]

    def _load(self, saved: dict[str, Any]) -> None:
        """Load a ``state_dict``, and leave its tensors the dtype that they had."""
        self._optimizer.load_state_dict(saved)
        tensors = (tensor for group in self._optimizer.param_groups for tensor in group["params"])
        for index, tensor in enumerate(tensors):
            for name, value in saved["state"].get(index, {}).items():
                if isinstance(value, torch.Tensor):
                    self._optimizer.state[tensor][name] = value

    def by_block(self) -> Iterator[tuple[str, tuple[int, ...], Array]]:
        """Yield what it remembers of the entries of each block."""
        for block, tensor in self._tensors.items():
            for name, value in self._optimizer.state.get(tensor, {}).items():
                if isinstance(value, torch.Tensor) and value.is_floating_point() and value.shape == tensor.shape:
                    yield name, (block,), value.detach().numpy()

    def eval_params(self, theta: Array) -> Array:
        """Return θ."""
        return theta

    def coefficients(self, now: Any) -> tuple[float, ...]:
        """There is no formula."""
        return ()


def adopted(optimizer: Any) -> Any:
    """Refuse an optimizer that is bound to tensors, or a class, with the way to give it; return anything else."""
    is_class = isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)
    if is_class or isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(_advice(optimizer))
    return optimizer


def _advice(optimizer: Any) -> str:
    kind = optimizer if isinstance(optimizer, type) else type(optimizer)
    came = "a class" if isinstance(optimizer, type) else "bound to tensors"
    return (
        f"optimizer is torch's {kind.__name__}, {came}, but fit creates the tensors to train. Pass "
        f"sk_analytic.interop.torch.TorchOptimizer(torch.optim.{kind.__name__}, lr=...), which fit calls with them."
    )


def _shapes_of(state: Any) -> list[tuple[int, ...]]:
    """The shape of each block of a state."""
    known = getattr(state.blocks, "shapes", None)
    return [(where.stop - where.start,) for where in state.slices] if known is None else list(known)


def _in_numpy(value: Any) -> Any:
    """A copy of a state with arrays in the place of tensors."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy().copy() if value.dtype != torch.bfloat16 else value.detach().clone()
    if isinstance(value, dict):
        return {key: _in_numpy(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_in_numpy, value))
    return copy.deepcopy(value)


def _in_torch(value: Any) -> Any:
    """A copy of a state with tensors in the place of arrays."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return {key: _in_torch(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_in_torch, value))
    return copy.deepcopy(value)
