"""A step of an optimizer on some rows of a table, against torch's sparse gradients and against all rows written out.

Each step touches other rows, a hundred of them, some repeatedly; what torch and we make of these is timed too.
"""

import sys
from itertools import cycle
from typing import NamedTuple

import numpy as np

from sk_analytic import optimizers

from . import peers
from .figures import Figure
from .ours import on_engine
from .timing import compare

ROW = "row_gradients"
SIZES = (1_000, 100_000, 1_000_000)
QUICK = (500,)
WIDTH, TOUCHED, BATCHES = 16, 100, 200
RATE = 0.01
STEPS = 5
TOLERANCE = {"float64": 1e-6, "float32": 1e-4}
ALL_ROWS = "all rows written out"
GOAL = 0.05  # of the time with all rows of a large table


class Case(NamedTuple):
    """A rule of ours and of torch; ``is_exact``: rows without a gradient stay as they do with zeros."""

    ours: tuple
    torch: tuple
    is_exact: bool = True


RULES = {
    "sgd": Case(("SGD", {}), ("SGD", {})),
    "adagrad": Case(("Adagrad", {}), ("Adagrad", {})),
    # SparseAdam adds epsilon in another place: it is too small here to be seen.
    "adam": Case(("Adam", {"epsilon": 1e-14}), ("SparseAdam", {"eps": 1e-14}), is_exact=False),
}


def measure(options):
    """Yield a figure for each rule, dtype, size and peer."""
    for name in RULES:
        if options.picks(name):
            for dtype in options.dtypes:
                for size in options.sizes_or(SIZES, QUICK):
                    yield from _against(options, name, dtype, size)


def _against(options, name, dtype, size):
    """Yield the comparisons with each peer."""
    case = f"{name} {dtype} {TOUCHED} of {size:.0e} rows"
    rng = np.random.default_rng(0)
    start = rng.standard_normal((size, WIDTH)).astype(dtype)
    values = rng.standard_normal((BATCHES, TOUCHED, WIDTH)).astype(dtype)
    batches = [(rng.integers(0, size, TOUCHED), each) for each in values]
    for peer, (needs, make) in {"torch sparse": (("torch",), _torch), ALL_ROWS: ((), _all_rows)}.items():
        if not options.meets(peer):
            continue
        if needs and peers.find(*needs) is None:
            yield Figure(ROW, case, peer, note=peers.why_missing(*needs))
            continue
        ours, theirs = (maker(name, start, batches) for maker in (_ours, make))
        same = peer != ALL_ROWS or RULES[name].is_exact
        yield Figure.of(
            ROW,
            case,
            peer,
            difference=_difference(ours, theirs, start) if same else None,
            tolerance=TOLERANCE[dtype] if same else None,
            pair=compare(ours[0], theirs[0], **options.pairing),
            goal=GOAL if peer == ALL_ROWS and size >= 100_000 else None,
        )


def _difference(ours, theirs, start):
    """Take a few steps on both sides; return how far apart they are, relative to the way gone."""
    for _ in range(STEPS):
        ours[0]()
        theirs[0]()
    table, other = ours[1](), theirs[1]()
    return float(np.linalg.norm(table - other) / np.linalg.norm(table - start))


def _ours(name, start, batches):
    """A step, and where the table is."""
    return _stepping(name, start, cycle(batches))


def _all_rows(name, start, batches):
    def written_out():
        whole = np.zeros_like(start)
        for rows, values in cycle(batches):
            whole[...] = 0
            np.add.at(whole, rows, values)
            yield whole

    return _stepping(name, start, written_out())


def _stepping(name, start, gradients):
    theta = {"table": start.copy()}
    rule, settings = RULES[name].ours
    optimizer = getattr(optimizers, rule)(learning_rate=RATE, **settings)
    state = on_engine("numpy", lambda: optimizer.init(theta))()
    return lambda: optimizer.update(state, theta, {"table": next(gradients)}), lambda: theta["table"]


def _torch(name, start, batches):
    torch = peers.find("torch")
    table = torch.tensor(start, requires_grad=True)
    rule, settings = RULES[name].torch
    optimizer = getattr(torch.optim, rule)([table], lr=RATE, **settings)
    tensors = cycle([(torch.from_numpy(rows[None]), torch.from_numpy(values)) for rows, values in batches])

    def step():
        rows, values = next(tensors)
        table.grad = torch.sparse_coo_tensor(rows, values, table.shape, check_invariants=False)
        optimizer.step()

    return step, lambda: table.detach().numpy()


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
