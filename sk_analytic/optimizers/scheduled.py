"""Hyperparameters that may change with the step."""

from __future__ import annotations

from ..hyperparameters import Hyperparameters
from ..validation import check_range
from .schedules import Schedule


class Scheduled(Hyperparameters):
    """Hyperparameters of which each may be a `Schedule`."""

    def check(self) -> None:
        """Raise a ValueError that names the first hyperparameter outside its range."""
        for name in self.get_params(deep=False):
            value = getattr(self, name)
            if isinstance(value, Schedule):
                value.check()
            elif callable(value):
                raise TypeError(
                    f"{type(self).__name__}: {name} is a function, {value!r}. To change it with the step, pass a "
                    "Schedule: one of sk_analytic.optimizers, or a subclass of Schedule with __call__(step, epoch)."
                )
            elif name in self.ranges:
                check_range(type(self).__name__, name, value, self.ranges[name])
