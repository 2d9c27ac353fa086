"""Update rules of this package as a ``torch.optim.Optimizer``.

On the host a step is taken on the memory of the tensors, by the kernels of every other step: the blocks are NumPy's
views of them. What NumPy cannot see, on another device or in half precision, is stepped by torch's own functions,
which repeat the recorded operations of the formulas.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from ...hyperparameters import Hyperparameters
from ...optimizers.driven import driven, step
from ...optimizers.engine.blocks import BlockState, ReplayEngine, ViewEngine
from ...optimizers.engine.trace import copied, where
from ...optimizers.schedules import Schedule
from ...optimizers.state import StepInfo

NAMES = {torch.float32: np.float32, torch.float64: np.float64}
"""Dtypes of torch that the engine has."""


class RuleOptimizer(torch.optim.Optimizer):
    """Update rule or chain of this package as a torch optimizer.

    Like the optimizers of ``torch.optim``, it supports parameter groups, closures, learning rate schedulers and
    ``state_dict``. float32 and float64 parameters on the CPU are updated in place by NumPy, or by numba if it is
    installed; all others are updated by torch.

    Parameters
    ----------
    params : iterable
        Tensors, pairs of a name and a tensor, or dicts that define parameter groups. A group may set ``lr`` and the
        other hyperparameters of the optimizer by the names of its ``get_params``, such as ``beta_1``.
    optimizer : str or Optimizer, default="adam"
        A name from `get_optimizer_names`, or an instance, which is copied.

    Raises
    ------
    TypeError
        If the optimizer is not an update rule or a chain, such as L-BFGS.
    ValueError
        If a schedule counts epochs or depends on the loss, which torch does not report to the optimizer.

    Notes
    -----
    Each group has its own state. A link that measures all parameters, such as `ClipNorm`, therefore measures those of
    one group. `PerBlock` refers to parameters by the names of ``named_parameters()``, if these are passed, and
    otherwise by their positions in the group.

    ``lr`` is the learning rate, which torch's schedulers set. If the learning rate of the optimizer is a `Schedule`,
    ``lr`` shows the value of the last step and must not be set.

    Examples
    --------
    >>> import torch
    >>> from sk_analytic.interop.torch import RuleOptimizer
    >>> from sk_analytic.optimizers import Lion
    >>> weight = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = RuleOptimizer([weight], Lion(learning_rate=0.5))
    >>> (weight**2).sum().backward()
    >>> optimizer.step()
    >>> weight
    tensor([0.5000, 1.5000], requires_grad=True)
    """

    def __init__(self, params: Iterable[Any], optimizer: Any = "adam") -> None:
        self._optimizer = driven(optimizer, "torch")
        self._steppers: dict[int, _Stepper] = {}
        super().__init__(params, self._defaults())

    def _defaults(self) -> dict[str, Any]:
        """Return what a group has beside its parameters: the rate, and each hyperparameter that is a plain value."""
        given = self._optimizer.get_params()
        rates = _rates(self._optimizer)
        plain = {name: value for name, value in given.items() if isinstance(value, bool | int | float | str)}
        numbers = [value for value in rates.values() if not isinstance(value, Schedule)]
        start = numbers[0] if numbers else next(iter(rates.values()))(0, 0)
        return {"lr": float(start)} | {name: value for name, value in plain.items() if name not in rates}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters.

        Parameters
        ----------
        param_group : dict
            ``params``, and the hyperparameters in which the group differs from the defaults.
        """
        super().add_param_group(param_group)
        try:
            for tensor in param_group["params"]:
                if not tensor.is_floating_point():
                    raise TypeError(f"Parameters must be tensors of real floats; got dtype {tensor.dtype}.")
            self._optimizer_of(param_group).check()
        except Exception:
            self.param_groups.pop()
            raise

    def _optimizer_of(self, group: dict[str, Any]) -> Any:
        return copy.deepcopy(self._optimizer).set_params(**self._settings(group))

    def _settings(self, group: dict[str, Any]) -> dict[str, Any]:
        return {name: group[name] for name in self.defaults if name in group and name not in NOT_OURS}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step. Parameters without a gradient are not changed.

        Parameters
        ----------
        closure : callable, default=None
            Function that computes the loss and the gradients again, and returns the loss.

        Returns
        -------
        loss : object
            Return value of the closure; None without a closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            if any(tensor.grad is not None for tensor in group["params"]):
                self._stepper(index, group).step()
        return loss

    def _stepper(self, index: int, group: dict[str, Any]) -> _Stepper:
        settings = self._settings(group)
        stepper = self._steppers.get(index)
        if stepper is None or not stepper.is_of(group):
            if stepper is not None:
                stepper.save(self.state)
            stepper = self._steppers[index] = _Stepper(self._optimizer_of(group), group, self.state)
        elif settings != stepper.settings:
            stepper.optimizer.set_params(**settings)
        stepper.settings = settings
        return stepper

    def eval_params(self) -> list[torch.Tensor]:
        """Return the parameters to predict with: averages if a link keeps them, otherwise the parameters themselves.

        Returns
        -------
        params : list of Tensor
            Copies, in the order of the groups.

        Examples
        --------
        >>> import torch
        >>> from sk_analytic.interop.torch import RuleOptimizer
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = RuleOptimizer([weight], "schedule_free_sgd")
        >>> optimizer.eval_params()
        [tensor([1.])]
        """
        pairs = list(enumerate(self.param_groups))
        return [tensor for index, group in pairs for tensor in self._stepper(index, group).eval_params()]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as a dict for ``load_state_dict``.

        Returns
        -------
        state_dict : dict
            The parameter groups and, for each parameter and link, the number of steps and the numbers and arrays of
            the link.
        """
        self._save()
        kept: dict[str, Any] = super().state_dict()
        return kept

    def _save(self) -> None:
        for stepper in self._steppers.values():
            stepper.save(self.state)

    def __getstate__(self) -> dict[str, Any]:
        self._save()
        return {**super().__getstate__(), "_optimizer": self._optimizer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._steppers = {}  # whose memory is not that of the new state

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._optimizer!r}, {super().__repr__()})"


NOT_OURS = {"lr", "differentiable"}
"""Keys of torch's defaults that are no hyperparameters of ours."""


def _rates(optimizer: Any) -> dict[str, Any]:
    """Return the learning rates of an optimizer by the names under which ``set_params`` knows them."""
    given = optimizer.get_params()
    return {name: value for name, value in given.items() if name.rpartition("__")[2] == "learning_rate"}


class _Box:
    """Holds the rate of a group: one object, whatever its value, so that a new rate is no new hyperparameter."""

    value = 0.0


class _GroupRate(Schedule):
    """The rate that a group of torch has at a step, times a factor."""

    def __init__(self, box: Any, factor: float = 1.0) -> None:
        self.box = box
        self.factor = factor

    def __call__(self, step: int, epoch: int) -> float:
        return float(self.box.value * self.factor)

    def __repr__(self) -> str:
        return "lr of the parameter group"


class _Stepper:
    """Takes the steps of one group, on the memory of its tensors."""

    def __init__(self, optimizer: Hyperparameters | Any, group: dict[str, Any], kept: Any) -> None:
        self.optimizer, self.group, self.settings = optimizer, group, {}  # type: ignore[var-annotated]
        self.tensors = list(group["params"])
        self._rate = _Box()
        self._shown: float | None = None  # the last rate of a schedule, if all rates are schedules
        self._take_rates(optimizer)
        self._layouts = [(tensor.shape, tensor.dtype, tensor.device) for tensor in self.tensors]
        names = group.get("param_names") or [str(position) for position in range(len(self.tensors))]
        self.blocks: _Views | _Tensors = (_Views if _are_seen_by_numpy(self.tensors) else _Tensors)(self.tensors)
        self.state = BlockState(names, self.blocks.engine, self.blocks.dtype)
        self._rate.value = float(group["lr"])
        optimizer._run(self.state, self.blocks.theta())
        self._load(kept)

    def _take_rates(self, optimizer: Any) -> None:
        numbers = {name: rate for name, rate in _rates(optimizer).items() if not isinstance(rate, Schedule)}
        if not numbers:
            self._shown = self.group["lr"]
        first = next(iter(numbers.values()), None)
        for name, rate in numbers.items():
            factor = 1.0 if rate == first else rate / first
            optimizer.set_params(**{name: _GroupRate(self._rate, factor)})

    def is_of(self, group: dict[str, Any]) -> bool:
        """Whether it is of this group, and its tensors are what they were."""
        tensors = group["params"]
        return (
            group is self.group
            and len(tensors) == len(self.tensors)
            and all(
                ours is theirs and (theirs.shape, theirs.dtype, theirs.device) == layout
                for ours, theirs, layout in zip(self.tensors, tensors, self._layouts, strict=True)
            )
        )

    def step(self) -> None:
        """Take a step by the gradients of the tensors."""
        self._rate.value = float(self.group["lr"])
        if self._shown is not None and self._rate.value != self._shown:
            raise ValueError(
                f"lr of a parameter group was set to {self._rate.value}, but the learning rate of {self.optimizer!r} "
                "is a schedule. Do not set lr, or pass a number as the optimizer's learning_rate."
            )
        grads, missing = [], []
        for position, tensor in enumerate(self.tensors):
            grad = tensor.grad
            if grad is None:
                missing.append(position)
            elif grad.layout is not torch.strided:
                raise RuntimeError(
                    f"Parameter {self.state.names[position]!r} has a gradient of layout {grad.layout}; expected a "
                    "dense one. Pass sparse=False to the layer, or convert it: p.grad = p.grad.to_dense()."
                )
            grads.append(None if grad is None else self.blocks.gradient(position, grad.detach()))
        theta = self.blocks.theta()
        step(self.optimizer, self.state, theta, grads, tuple(missing))
        absent = set(missing)
        self.blocks.written(theta, [position for position in range(len(grads)) if position not in absent])
        if self._shown is not None:
            self._shown = self.group["lr"] = next(
                rate for link in self.state.links if link.is_rule for rate in (now.rate for now, _ in link.records)
            )

    def eval_params(self) -> list[torch.Tensor]:
        """Return the parameters that predict, as new tensors."""
        theta = self.blocks.theta()
        answer = self.optimizer._run(self.state, theta).eval_params(theta)
        return [self.blocks.as_tensor(position, values).clone() for position, values in enumerate(answer)]

    def save(self, kept: Any) -> None:
        """Write what links remember of each tensor where torch looks for it."""
        for place, link in enumerate(self.state.links):
            nows = {block: now for now, blocks in link.records for block in blocks}
            for block in sorted(nows):
                now = nows[block]
                slots = {name: self.blocks.as_tensor(block, values[block]) for name, values in link.slots.items()}
                kept[self.tensors[block]][place] = {"step": now.t, "memory": dict(now.memory), "slots": slots}

    def _load(self, kept: Any) -> None:
        """Take over what is kept of each tensor."""
        for place, link in enumerate(self.state.links):
            records = []
            for now, blocks in link.records:
                own = {block: kept.get(self.tensors[block], {}).get(place) for block in blocks}
                alike: dict[Any, tuple[StepInfo, list[int]]] = {}
                for block, one in own.items():
                    key = None if one is None else (one["step"], *one["memory"].values())
                    if key not in alike:
                        alike[key] = now.copy(), []
                        if one is not None:
                            alike[key][0].t, alike[key][0].memory = one["step"], dict(one["memory"])
                    alike[key][1].append(block)
                    for name, tensor in ({} if one is None else one["slots"]).items():
                        self.blocks.fill(block, link.slots[name], tensor)
                latest = max((info for info, _ in alike.values()), key=lambda info: info.t)
                is_shared = len(alike) > 1 and _is_of_all(self.optimizer, self.state, place)
                records += [(latest, blocks)] if is_shared else [(i, tuple(b)) for i, b in alike.values()]
            link.records[:] = records


def _is_of_all(optimizer: Any, state: BlockState, place: int) -> bool:
    placements = [p for p in optimizer.place({name: i for i, name in enumerate(state.names)}) if p.blocks]
    return bool(placements[place].link.scope == "all")


def _are_seen_by_numpy(tensors: list[torch.Tensor]) -> bool:
    """Whether NumPy can look at all of them as vectors of one dtype."""
    first = tensors[0].dtype
    return first in NAMES and all(
        tensor.device.type == "cpu" and tensor.dtype == first and _is_dense(tensor) for tensor in tensors
    )


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether its entries are all that lies between the first and the last of them, once each."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True


def _as_vector(tensor: torch.Tensor) -> np.ndarray:
    """Return NumPy's view of a dense tensor, in the order of memory."""
    flat = tensor.view(-1) if tensor.is_contiguous() else tensor.as_strided((tensor.numel(),), (1,))
    vector: np.ndarray = flat.numpy()
    return vector


class _Views:
    """The blocks as NumPy's views of tensors."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self.tensors = tensors
        self.dtype = NAMES[tensors[0].dtype]
        self.engine = ViewEngine([tensor.numel() for tensor in tensors], self.dtype, torch.get_num_threads())
        self._places: list[Any] = [None] * len(tensors)
        self._vectors: list[Any] = [None] * len(tensors)

    def theta(self) -> list[Any]:
        """Return the views; new ones of tensors that moved in memory."""
        for position, tensor in enumerate(self.tensors):
            place = tensor.data_ptr(), tensor.stride()
            if self._places[position] != place:
                self._vectors[position], self._places[position] = _as_vector(tensor.detach()), place
        return self._vectors

    def gradient(self, position: int, grad: torch.Tensor) -> np.ndarray:
        """Return a gradient as a vector in the order of its parameter."""
        tensor = self.tensors[position]
        if grad.stride() != tensor.stride():
            grad = torch.empty_like(tensor, requires_grad=False).copy_(grad)
        return _as_vector(grad)

    def written(self, theta: list[Any], positions: list[int]) -> None:
        """Tell autograd that the tensors changed, so that it refuses graphs that need the old values."""
        torch.autograd.graph.increment_version([self.tensors[position] for position in positions])

    def as_tensor(self, position: int, values: np.ndarray) -> torch.Tensor:
        """Return a vector as a tensor in the form of a parameter, on the same memory."""
        tensor = self.tensors[position]
        return torch.from_numpy(values).as_strided(tensor.shape, tensor.stride())

    def fill(self, position: int, slot: Any, values: torch.Tensor) -> None:
        """Fill a block of a slot."""
        self.as_tensor(position, slot[position]).copy_(values)


class _Tensors:
    """The blocks as tensors, for torch's own functions."""

    dtype = np.float64

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self.tensors = tensors
        self.engine = ReplayEngine(_Torch(), [tensor.detach() for tensor in tensors])

    def theta(self) -> list[Any]:
        """Return the tensors without their history."""
        return [tensor.detach() for tensor in self.tensors]

    def gradient(self, position: int, grad: torch.Tensor) -> torch.Tensor:
        """Return a gradient in the dtype of its parameter."""
        return grad.to(self.tensors[position].dtype)

    def written(self, theta: list[Any], positions: list[int]) -> None:
        """Write the new values into the tensors."""
        for position in positions:
            self.tensors[position].copy_(theta[position])

    def as_tensor(self, position: int, values: torch.Tensor) -> torch.Tensor:
        """Return values as they are."""
        return values

    def fill(self, position: int, slot: Any, values: torch.Tensor) -> None:
        """Put values in the place of a block of a slot."""
        slot[position] = values.clone()


class _Torch:
    """The functions of torch for recorded calls."""

    def call(self, function: Any, inputs: Any, like: torch.Tensor) -> torch.Tensor:
        """Make one recorded call."""
        if function is copied:
            return inputs[0].to(like.dtype)
        return torch.where(*inputs) if function is where else getattr(torch, function.__name__)(*inputs)

    def coefficient(self, number: float, like: torch.Tensor) -> torch.Tensor:
        """Return a number as a tensor without dimensions."""
        return torch.tensor(number, dtype=like.dtype, device=like.device)

    def measured(self, values: torch.Tensor, norms: bool) -> float:
        """Return the sum or the norm, in single precision at least; the norm scaled, so that nothing overflows."""
        values = values.to(torch.float64 if values.dtype == torch.float64 else torch.float32)
        if not norms:
            return float(values.sum())
        largest = float(values.abs().max()) if values.numel() else 0.0
        if not 0 < largest < np.inf:
            return largest
        return largest * float(torch.linalg.vector_norm(values / largest))

    def full_like(self, array: torch.Tensor, start: Any) -> torch.Tensor:
        """Return a new tensor filled with a number or with another tensor's values."""
        return start.clone() if isinstance(start, torch.Tensor) else torch.full_like(array, start)
