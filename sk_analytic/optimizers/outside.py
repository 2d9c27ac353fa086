"""Optimizers of other libraries: how one is recognized, and what it is as a link.

An `OutsideRule` names a maker of such an optimizer and its settings. It is a rule that takes the gradient and gives θ,
so that links which clip may stand before it, and links which average or project after it. Nothing is imported until
one is given.
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
    """Return what stands for an optimizer of another library; anything else as it is.

    Raises
    ------
    TypeError
        For an optimizer that must be given in another way, with the way.
    """
    kind = optimizer if isinstance(optimizer, type) else type(optimizer)
    module = ADOPTED.get(kind.__module__.partition(".")[0])
    return optimizer if module is None else importlib.import_module(module).adopted(optimizer)


class OutsideRule(Link, Optimizer):
    """A rule whose step another library takes: a maker, and the settings that it is called with.

    Attributes
    ----------
    maker : str
        Name of the hyperparameter that is the maker.
    n_given : int
        Arguments of the maker that are no settings; they come first.
    """

    gives = "theta"
    learning_rate = math.nan  # that of a step is its stepper's
    maker: ClassVar[str]
    n_given: ClassVar[int] = 0
    settings: dict[str, Any]

    @property
    def kind(self) -> str:
        """What its state is called."""
        name = getattr(getattr(self, self.maker), "__name__", "")
        return f"{type(self).__name__}({name})" if name else type(self).__name__

    def continues(self, state: Any, kept: Any) -> bool:
        """Whether it can go on with what a state of its kind and blocks remembers.

        Parameters
        ----------
        state : State
            Of θ.
        kept : OutsideState
            Of this link.

        Returns
        -------
        continues : bool
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
        """The settings, with the maker's defaults for the others."""
        return self._default_settings | self.settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get parameters: the maker, and its settings by their names.

        Parameters
        ----------
        deep : bool, default=True
            Whether to list the maker's defaults too, which may be set.

        Returns
        -------
        params : dict
            Parameter names mapped to their values.
        """
        own: dict[str, Any] = super().get_params(deep=False)
        return own | (self.all_settings if deep else self.settings)

    def set_params(self, **params: Any) -> Any:
        """Set the maker, or its settings.

        Parameters
        ----------
        **params : dict
            As `get_params` names them.

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
        """Raise a TypeError for a maker that cannot be called, and for settings that it does not take."""
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
