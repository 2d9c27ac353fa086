"""Distinguish several curves on one axes: labels by differing settings, markers, a legend that hides no curve."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..display import shown
from ..equality import is_same
from .figure import POINTS_PER_LETTER

MARKERS = ("", "s", "^", "D", "v", "P", "X", "o")  # for those who see no difference between two colors
DASHES = ("-", "--", ":", "-.")
SMALL = 8.3  # points of a legend's letters
HANDLE, BETWEEN = 3.0, 2.0  # ems of a legend's line and the space beside it, and of the space between columns
LONGEST = 30  # letters of a value in a label
# For each line the label that it would have alone, and its parameters. They are not kept in the line, so that a figure
# can be pickled whatever the parameters are.
_OWN: WeakKeyDictionary[Any, tuple[str, Mapping[str, Any]]] = WeakKeyDictionary()


def name_of(estimator: Any) -> str:
    """Return the label of a fitted estimator: its optimizer, those of its phases, or else its class."""
    history = getattr(getattr(estimator, "_training", None), "history", None)
    optimizers = [optimizer for _, optimizer in getattr(history, "phases", [])]
    return ", ".join(optimizers) or type(estimator).__name__


def params_of(estimator: Any) -> dict[str, Any]:
    """Return the parameters by which an estimator can differ from another one of the same label."""
    params: dict[str, Any] = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    return params


def params_of_inference(result: Any) -> dict[str, Any]:
    """Return what two results of `infer` can differ by."""
    return {"covariance": result.kind} | params_of(result._model)


def tell_apart(ax: Any, line: Any, name: str | None, params: Mapping[str, Any] | None) -> None:
    """Label a new line on axes, and label those of the same name by the parameters in which they differ.

    Parameters
    ----------
    ax : matplotlib Axes
    line : matplotlib Line2D
        The new line, already on the axes.
    name : str or None
        Its label, if no other line has the same.
    params : dict of str to object, or None
        Parameters of its estimator. None if the label was chosen by the user and is kept.
    """
    if params is None or not name:
        return
    _OWN[line] = name, params
    alike = [other for other in ax.lines if other in _OWN and _OWN[other][0] == name]
    if len(alike) < 2:
        return
    settings = [_OWN[other][1] for other in alike]
    keys = _differing([{key: value for key, value in some.items() if key != "optimizer"} for some in settings])
    labels = [_with(name, {key: some[key] for key in keys if key in some}) for some in settings]
    for at, (other, label) in enumerate(zip(alike, labels, strict=True)):
        before = labels[:at].count(label)
        other.set_label(f"{label} #{before + 1}" if labels.count(label) > 1 else label)


def _with(name: str, values: Mapping[str, Any]) -> str:
    written = [f"{key.removeprefix('optimizer__')}={_cut(shown(value))}" for key, value in values.items()]
    return f"{name} ({', '.join(written)})" if written else name


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the parameters that differ, those of the optimizer if there are any; of nested ones the innermost."""
    keys = [
        key
        for key in dict.fromkeys(key for some in settings for key in some)
        if any((key in a) != (key in b) or not is_same(a.get(key), b.get(key)) for a, b in combinations(settings, 2))
    ]
    in_all = [key for key in keys if all(key in some for some in settings)]

    def has_inner(key: str) -> bool:
        is_alike = len({type(some[key]) for some in settings}) == 1
        return is_alike and any(inner.startswith(f"{key}__") for inner in in_all)

    innermost = [key for key in in_all if not has_inner(key)]
    return [key for key in innermost if key.startswith("optimizer__")] or innermost


def shortened(names: Iterable[str], most: int = 2) -> str:
    """Return some names as a list that stays short."""
    names = list(names)
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def legend_above(ax: Any, *, symbols: Sequence[Any] = ()) -> None:
    """Draw the legend of axes above its frame, in as few rows as fit.

    Parameters
    ----------
    ax : matplotlib Axes
    symbols : sequence of matplotlib Line2D
        What the legend explains after the labeled lines of the axes.
    """
    handles, labels = ax.get_legend_handles_labels()
    if not labels and not symbols:
        return
    handles, labels = [*handles, *symbols], [*labels, *(symbol.get_label() for symbol in symbols)]
    width = 72 * ax.get_window_extent().width / ax.figure.dpi
    legend = ax.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns_of(labels, width),
        columnspacing=BETWEEN,
        frameon=False,
        borderaxespad=0.2,
        borderpad=0.2,
        fontsize=SMALL,
    )
    letters = max(20, int(width / (SMALL * POINTS_PER_LETTER) - HANDLE))
    for text in legend.get_texts():
        text.set_text(wrapped(text.get_text(), letters))


def columns_of(labels: Sequence[str], width: float) -> int:
    """Return the least number of columns with which a legend within a width in points has the fewest rows."""
    for columns in range(len(labels), 1, -1):
        ems = [HANDLE + POINTS_PER_LETTER * max(map(len, some)) for some in np.array_split(labels, columns)]
        if SMALL * (sum(ems) + BETWEEN * (columns - 1)) <= width:
            n_rows = -(-len(labels) // columns)
            return -(-len(labels) // n_rows)
    return 1


def wrapped(text: str, letters: int) -> str:
    """Return a label broken into lines of a maximum length, if its words are short enough."""
    return textwrap.fill(text, letters, break_long_words=False, break_on_hyphens=False)
