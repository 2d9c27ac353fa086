"""Optimizers of other libraries: how they are recognized, and how they become a link.

An `OutsideRule` holds a callable that creates such an optimizer (the maker), and its settings. It is a rule that takes
the gradient and gives θ, so links that clip can come before it, and links that average or project after it. The other
library is only imported if one of its optimizers is passed.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..hyperparameters import unknown_hyperparameter
from .base import Link, Optimizer
from .schedules import Schedule

ADOPTED = {"optax": "sk_analytic.interop.jax", "torch": "sk_analytic.interop.torch"}
"""By the library that defines the type of an object: the module whose ``adopted`` says what stands for it."""


def adopted(optimizer: Any) -> Any:
    """Return the link for an optimizer of another library; return anything else unchanged.

    Raises
    ------
    TypeError
        If the optimizer must be passed in another way. The message says how.
    """
    kind = optimizer if isinstance(optimizer, type) else type(optimizer)
    module = ADOPTED.get(kind.__module__.partition(".")[0])
    return optimizer if module is None else importlib.import_module(module).adopted(optimizer)


class OutsideRule(Link, Optimizer):
    """Rule whose step is taken by another library, given by a callable and the settings to call it with.

    Attributes
    ----------
    maker : str
        Name of the hyperparameter that holds the callable.
    n_given : int
        Number of leading arguments of the callable that are not settings.
    """

    gives = "theta"
    learning_rate = math.nan  # that of a step is its stepper's
    maker: ClassVar[str]
    n_given: ClassVar[int] = 0
    settings: dict[str, Any]

    @property
    def kind(self) -> str:
        """Name of the optimizer in its state and in messages."""
        name = getattr(getattr(self, self.maker), "__name__", "")
        return f"{type(self).__name__}({name})" if name else type(self).__name__

    def continues(self, state: Any, kept: Any) -> bool:
        """Whether it can continue from an earlier state of the same kind and blocks.

        Parameters
        ----------
        state : State
            State of the optimizer.
        kept : OutsideState
            Earlier state of this link.

        Returns
        -------
        continues : bool
            True unless a subclass finds that the states differ.
        """
        return True

    # Settings are hyperparameters under their own names.

    @property
    def _default_settings(self) -> dict[str, Any]:
        """The settings that the maker takes by name, with its defaults."""
        return defaults_of(getattr(self, self.maker))

    @property
    def _known_settings(self) -> list[str]:
        """The names of what the maker takes, but for what it is given."""
        parameters = [name for name, p in _parameters(getattr(self, self.maker)).items() if p.kind is not p.VAR_KEYWORD]
        return parameters[self.n_given :]

    @property
    def _takes_any(self) -> bool:
        """Whether the maker takes settings of any name."""
        parameters = _parameters(getattr(self, self.maker))
        return not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    @property
    def all_settings(self) -> dict[str, Any]:
        """The settings, with defaults for those that are not given."""
        return self._default_settings | self.settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the callable that creates the optimizer, and its settings by name.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include settings that have their defaults.

        Returns
        -------
        params : dict
            Parameter names mapped to their values.
        """
        own: dict[str, Any] = super().get_params(deep=False)
        return own | (self.all_settings if deep else self.settings)

    def set_params(self, **params: Any) -> Any:
        """Set the callable that creates the optimizer, or its settings.

        Parameters
        ----------
        **params : dict
            Names as in `get_params`.

        Returns
        -------
        self : object
            This object.
        """
        own = super().get_params(deep=False)
        for name, value in params.items():
            if name in own:
                setattr(self, name, value)
        known = {*own, *self._known_settings}
        for name in params:
            if name not in known and not self._takes_any:
                raise ValueError(unknown_hyperparameter(self.kind, name, known))
        self.settings = self.settings | {name: value for name, value in params.items() if name not in own}
        return self

    def check(self) -> None:
        """Raise a TypeError if the callable cannot be called, or does not accept a setting."""
        maker = getattr(self, self.maker)
        if not callable(maker):
            raise TypeError(f"{type(self).__name__}: {self.maker} must be callable; got {maker!r}.")
        for name in self.settings:
            if name not in self._known_settings and not self._takes_any:
                raise TypeError(unknown_hyperparameter(self.kind, name, self._known_settings))


def defaults_of(maker: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments of a function or class that have a default, with it."""
    return {name: p.default for name, p in _parameters(maker).items() if p.default is not p.empty}


def _parameters(maker: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(maker).parameters
    except (TypeError, ValueError):  # of compiled code, or nothing that can be called
        return {}


def resolved(settings: Mapping[str, Any], state: Any) -> dict[str, Any]:
    """Return settings with this step's numbers in the place of schedules of this package."""
    return {name: value.at(state) if isinstance(value, Schedule) else value for name, value in settings.items()}
