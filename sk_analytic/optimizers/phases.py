"""Several optimizers in sequence in one fit: a fast start, then a precise end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, TypeAlias

from ..display import block
from ..hyperparameters import Hyperparameters, unknown_hyperparameter
from ..validation import Interval, check_range
from .base import Optimizer
from .scipy_methods import FullBatch
from .table import optimizer_of

COUNT = Interval(1, float("inf"), integral=True)


Phase: TypeAlias = tuple[Any, int]  # an optimizer object and its number of iterations


class Phases(Hyperparameters):
    """Run several optimizers in sequence, each from the parameters where the last one ended.

    A phase ends after its number of iterations, or earlier if it converges or stops improving. All phases share one
    loss curve. The estimator's ``max_iter`` is not used, and ``partial_fit`` is not available.

    Parameters
    ----------
    phases : list of tuple (optimizer, int)
        A name or an instance, and its maximum number of iterations: epochs for a minibatch rule, iterations
        for a full-batch method. In a grid, a phase is named after its optimizer
        (``optimizer__adam__learning_rate``), with ``-1``, ``-2`` appended if a name occurs twice.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sk_analytic import AnalyticRegressor
    >>> from sk_analytic.optimizers import Phases
    >>> X, y = load_diabetes(return_X_y=True)
    >>> phases = Phases([("adam", 20), ("lbfgs", 200)])
    >>> model = AnalyticRegressor(optimizer=phases, tol=1e-3, random_state=0).fit(X, y)
    >>> bool(model.n_iter_ > 20)
    True
    """

    def __init__(self, phases: Sequence[tuple[str | Optimizer | FullBatch, int]]) -> None:
        self.phases = phases

    def resolved(self) -> list[Phase]:
        """Return the phases as pairs of an optimizer object and its number of iterations.

        Returns
        -------
        phases : list of tuple (optimizer, int)

        Raises
        ------
        TypeError
            If ``phases`` is not a list of pairs, is empty, or contains a `Phases`.
        ValueError
            If the name of an optimizer is unknown.
        """
        return [(optimizer, max_iter) for _, optimizer, max_iter in self._items()]

    def check(self) -> None:
        """Raise an error that names the first invalid phase."""
        for optimizer, max_iter in self.resolved():
            check_range("Phases", "the number of iterations", max_iter, COUNT)
            optimizer.check()

    def _items(self) -> list[tuple[str, Any, int]]:
        """Triples of name, optimizer and number of iterations."""
        if not isinstance(self.phases, list | tuple) or not self.phases:
            raise TypeError(
                f"Phases takes a list of pairs such as [('adam', 50), ('lbfgs', 200)]; got {self.phases!r}."
            )
        for phase in self.phases:
            if not isinstance(phase, list | tuple) or len(phase) != 2:
                raise TypeError(f"A phase is a pair of an optimizer and its number of iterations; got {phase!r}.")
            if isinstance(phase[0], Phases):
                raise TypeError("Phases cannot contain Phases. List the inner phases instead.")
        kinds = [p if isinstance(p, str) else getattr(p, "name", type(p).__name__.lower()) for p, _ in self.phases]
        names = [k if kinds.count(k) == 1 else f"{k}-{1 + kinds[:i].count(k)}" for i, k in enumerate(kinds)]
        return [(n, optimizer_of(p), count) for n, (p, count) in zip(names, self.phases, strict=True)]

    def _sk_visual_block_(self) -> Any:
        # Each in a frame of its own, which alone has the name.
        return block(
            "serial", [(None, block("parallel", [(f"{name}: at most {n}", part)])) for name, part, n in self._items()]
        )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, by default including those of the optimizers.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the optimizers and their parameters.

        Returns
        -------
        params : dict
            Parameter names mapped to their values.
        """
        params = {"phases": self.phases}
        if deep:
            try:
                items = self._items()
            except (TypeError, ValueError):  # for `check` to say
                items = []
            for name, optimizer, _ in items:
                params.update((f"{name}__{key}", value) for key, value in optimizer.get_params().items())
        return params

    def set_params(self, **params: Any) -> Self:
        """Set the phases, or hyperparameters of their optimizers.

        Parameters
        ----------
        **params : dict
            Names as in `get_params`.

        Returns
        -------
        self : Phases
            This object.
        """
        self.phases = params.pop("phases", self.phases)
        for key, value in params.items():
            name, _, rest = key.partition("__")
            items = self._items()
            names = [item[0] for item in items]
            if name not in names or not rest:
                raise ValueError(unknown_hyperparameter("Phases", name, ["phases", *names]))
            at = names.index(name)
            changed = items[at][1].set_params(**{rest: value})
            self.phases = [(changed, count) if i == at else (o, count) for i, (o, count) in enumerate(self.phases)]
        return self


def phases_of(optimizer: Optimizer | FullBatch | Phases, max_iter: int) -> list[Phase]:
    """Return any optimizer as phases: one of ``max_iter`` iterations, unless it is a `Phases`."""
    return optimizer.resolved() if isinstance(optimizer, Phases) else [(optimizer, max_iter)]
