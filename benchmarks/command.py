"""The command: which rows, which sizes; a table, a JSON file and a picture."""

import argparse
import importlib
import pkgutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import benchmarks

from . import peers
from .figures import as_csv, as_json, from_json, table
from .timing import SAMPLE


@dataclass(frozen=True)
class Options:
    """What the command line asks of a row; None stands for the row's own default."""

    sizes: tuple | None = None
    batch_sizes: tuple | None = None
    dtypes: tuple = ("float64", "float32")
    repetitions: int = 15
    limit: float = 20.0
    only: tuple | None = None
    against: tuple | None = None
    engines: tuple | None = None
    quick: bool = False

    def sizes_or(self, default, quick):
        """Return the sizes to run: those asked for, else the default ones."""
        return self.sizes or (quick if self.quick else default)

    def batch_sizes_or(self, default, quick):
        """Return the batch sizes to run."""
        return self.batch_sizes or (quick if self.quick else default)

    def picks(self, name):
        """Whether a case within a row was asked for."""
        return self.only is None or name in self.only

    def meets(self, peer):
        """Whether a peer was asked for: by a word of its name."""
        return self.against is None or any(word in peer for word in self.against)

    @property
    def pairing(self):
        """Arguments of `timing.compare`."""
        return {"repetitions": self.repetitions, "limit": self.limit, "sample": SAMPLE / 10 if self.quick else SAMPLE}


def row_modules():
    """Return the rows by name: the modules of the package that have a function ``measure``."""
    found = {}
    for name in sorted(info.name for info in pkgutil.iter_modules(benchmarks.__path__)):
        if name != "__main__":
            module = importlib.import_module(f"benchmarks.{name}")
            if hasattr(module, "measure"):
                found[name] = module
    return found


def parse(arguments, rows):
    """Return the parsed command line."""
    described = "\n".join(f"  {name:16} {module.__doc__.splitlines()[0]}" for name, module in rows.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time sk_analytic beside what a user would pick instead. Ratios are ours over the peer's.",
        epilog=f"rows:\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help="rows to run; all by default")
    add("--sizes", nargs="+", type=_whole, help="sizes: of θ or of the data, as the row has it (1e5 is understood)")
    add("--batch-sizes", nargs="+", type=_whole, help="batch sizes")
    add("--dtypes", nargs="+", choices=["float64", "float32"], default=["float64", "float32"])
    add("--repetitions", type=int, default=15, help="rounds of a comparison")
    add("--limit", type=float, default=20.0, help="seconds after which a comparison takes no more rounds")
    add("--only", nargs="+", help="cases within a row: a rule, a data set")
    add("--against", nargs="+", help="peers by a word of their name")
    add("--engines", nargs="+", choices=["numpy", "numba"], help="what runs our optimizers, where a row can choose")
    add("--without", nargs="+", choices=peers.PEERS, default=[], help="peers to treat as missing")
    add("--quick", action="store_true", help="small sizes and few repetitions: does it run?")
    add(
        "--output",
        type=Path,
        help="folder for figures.json, .csv and .png, whose other figures are kept; only the table by default",
    )
    parsed = parser.parse_args(arguments)
    unknown = [name for name in parsed.rows if name not in rows]
    if unknown:
        parser.error(f"there is no row {', '.join(unknown)}; there are: {', '.join(rows)}")
    return parsed


def _whole(text):
    number = float(text)
    if number != int(number) or number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size")
    return int(number)


def _options(parsed):
    def kept(values):
        return None if values is None else tuple(values)

    return Options(
        sizes=kept(parsed.sizes),
        batch_sizes=kept(parsed.batch_sizes),
        dtypes=tuple(parsed.dtypes),
        repetitions=min(parsed.repetitions, 3) if parsed.quick else parsed.repetitions,
        limit=0.0 if parsed.quick else parsed.limit,
        only=kept(parsed.only),
        against=kept(parsed.against),
        engines=kept(parsed.engines),
        quick=parsed.quick,
    )


def main(arguments=None):
    """Run rows; print each as it comes, and write them where asked to.

    Parameters
    ----------
    arguments : list of str, default=None
        The command line; by default that of the process.
    """
    rows = row_modules()
    parsed = parse(arguments, rows)
    peers.left_out.update(parsed.without)
    warnings.simplefilter("ignore")  # fits end by their number of epochs on purpose, ours and theirs
    figures = []
    for name in parsed.rows or rows:
        print(f"\n{name}: {rows[name].__doc__.splitlines()[0]}", flush=True)
        found = []
        for figure in rows[name].measure(_options(parsed)):
            found.append(figure)
            print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        print(table(found), flush=True)
        figures += found
        if parsed.output:
            _write(figures, parsed.output)
    disagreeing = [figure for figure in figures if not figure.agrees]
    if disagreeing:
        sys.exit(f"{len(disagreeing)} comparisons are void: the two sides did not reach the same result.")


def _write(figures, folder):
    """Write what there is so far; comparisons that were not run keep the figures they have there."""
    folder.mkdir(parents=True, exist_ok=True)
    as_text = folder / "figures.json"
    if as_text.exists():
        before = {figure.of_what: figure for figure in from_json(as_text.read_text(encoding="utf-8"))}
        found = before | {figure.of_what: figure for figure in figures}
        figures = sorted(found.values(), key=lambda figure: figure.row)
    as_text.write_text(as_json(figures), encoding="utf-8")
    (folder / "figures.csv").write_text(as_csv(figures), encoding="utf-8")
    if peers.find("matplotlib") is None:
        print("No picture: matplotlib is not installed.")
        return
    from .picture import draw

    draw(figures, folder / "figures.png")
