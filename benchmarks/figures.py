"""What a row yields, and how it is shown: a table, a JSON file."""

import csv
import io
import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version

VERSIONS = (
    "numpy",
    "scipy",
    "scikit-learn",
    "numba",
    "torch",
    "skorch",
    "jax",
    "optax",
    "lmfit",
    "distributed",
    "dask-ml",
)


@dataclass
class Figure:
    """One line of the scoreboard.

    Attributes
    ----------
    row : str
        The module it comes from.
    case : str
        What was run: sizes, dtype, batch.
    peer : str
        What it was compared with.
    ratio, low, high : float or None
        Ours over the peer's, its median and quartiles: below 1 we are faster (or smaller).
    ours, peers : float or None
        Seconds a call, or bytes where the row is about memory.
    goal : float or None
        What the ratio should not exceed.
    difference, tolerance : float or None
        By how much the two sides' losses (or parameters) differ, relatively, and what is allowed.
    note : str
        Why there is no ratio, or what to know of it.
    """

    row: str
    case: str
    peer: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    ours: float | None = None
    peers: float | None = None
    goal: float | None = None
    difference: float | None = None
    tolerance: float | None = None
    note: str = ""
    unit: str = field(default="s")

    @classmethod
    def of(cls, row, case, peer, pair, **rest):
        """Return the figure of a `timing.Pair`."""
        low, ratio, high = pair.ratio
        return cls(row, case, peer, ratio, low, high, pair.ours, pair.peer, **rest)

    @property
    def of_what(self):
        """What is compared with what."""
        return self.row, self.case, self.peer

    @property
    def agrees(self):
        """Whether both sides did the same; True where nothing was compared."""
        return self.difference is None or bool(self.difference <= self.tolerance)

    @property
    def verdict(self):
        """``met`` or ``missed``, where there is a goal."""
        if self.goal is None or self.ratio is None:
            return ""
        return "met" if self.ratio <= self.goal else "missed"


COLUMNS = ("case", "against", "ours", "theirs", "ratio", "quartiles", "goal", "", "difference", "note")


def cells(figure):
    """Return a figure as words."""
    f = figure
    return (
        f.case,
        f.peer,
        shown(f.ours, f.unit),
        shown(f.peers, f.unit),
        "" if f.ratio is None else f"{f.ratio:.3g}",
        "" if f.low is None else f"{f.low:.3g}-{f.high:.3g}",
        "" if f.goal is None else f"{f.goal:.3g}",
        f.verdict,
        "" if f.difference is None else f"{f.difference:.1e}{'' if f.agrees else f' > {f.tolerance:g}: DISAGREES'}",
        f.note,
    )


def shown(value, unit):
    """Return seconds or bytes with a fitting prefix."""
    if value is None:
        return ""
    scales = [(1, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")] if unit == "s" else [(1e6, "M"), (1e3, "k"), (1, "")]
    scale, prefix = next((scale for scale in scales if value >= scale[0]), scales[-1])
    return f"{value / scale:.3g} {prefix}{unit}"


def table(figures):
    """Return figures as lines of text with aligned columns."""
    lines = [COLUMNS, *map(cells, figures)]
    used = [i for i, column in enumerate(zip(*lines, strict=True)) if any(column[1:])]
    widths = [max(len(line[i]) for line in lines) for i in used]
    return "\n".join("  ".join(line[i].ljust(w) for i, w in zip(used, widths, strict=True)).rstrip() for line in lines)


def as_json(figures):
    """Return figures, a line each, and the versions they were measured with, as JSON."""
    versions = {name: found for name in VERSIONS if (found := _version(name))}
    about = {"python": platform.python_version(), "processor": platform.machine(), "versions": versions}
    lines = ",\n".join(json.dumps(asdict(figure)) for figure in figures)
    return f'{{"about": {json.dumps(about)},\n"figures": [\n{lines}\n]}}\n'


def from_json(text):
    """Return the figures that `as_json` wrote."""
    return [Figure(**kept) for kept in json.loads(text)["figures"]]


def as_csv(figures):
    """Return the figures that have a goal, as the documentation's table shows them."""
    lines = [("row", "case", "against", "ours", "theirs", "ratio", "quartiles", "goal")]
    lines += [(figure.row, *cells(figure)[:7]) for figure in figures if figure.verdict]
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(lines)
    return written.getvalue()


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
