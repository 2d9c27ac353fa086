"""Beside torch: our optimizer in a loop of torch's, against torch's own.

θ and its gradient are tensors that stand ready; what is timed is the step alone. Each side takes the same five steps
first, and must then be at the same θ. The steps on one thread are timed by the processor time of the process, as in
the other rows; those on all threads by the clock on the wall.
"""

import os
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np

from sk_analytic import optimizers

from . import peers
from .figures import Figure
from .ours import engine_names, on_engine
from .timing import compare

ROW = "rules_in_torch"
SIZES = (1_000, 1_000_000)
QUICK = (1_000,)
RATE = 1e-3
STEPS = 5
TOLERANCE = {"float64": 1e-12, "float32": 1e-4}
LARGE, GOAL = 1_000_000, 1.2


class Rule(NamedTuple):
    """The same rule in both libraries: names of classes and their settings; whether torch has a fused form."""

    ours: tuple
    torch: tuple
    fused: bool = True


OURS_THERE = {
    "adam": Rule(("Adam", {}), ("Adam", {})),
    "momentum": Rule(("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.9})),
}


def measure(options):
    """Yield the figures of each comparison."""
    yield from ours_there(options)


def ours_there(options):
    """Our rules in torch against torch's, by rule, engine, dtype, size and number of threads."""
    for name, rule in OURS_THERE.items():
        if not options.picks(name):
            continue
        for engine in engine_names(options.engines):
            for dtype in options.dtypes:
                for size in options.sizes_or(SIZES, QUICK):
                    for n_threads in (1, os.cpu_count()) if size >= LARGE and engine == "numba" else (1,):
                        yield _one(options, name, rule, engine, dtype, size, n_threads)


def _one(options, name, rule, engine, dtype, size, n_threads):
    case = f"our {name} in torch {size} {dtype} {engine} {n_threads} thread{'s' if n_threads > 1 else ''}"
    peer = f"torch.optim.{rule.torch[0]}{' fused' if rule.fused else ''}"
    torch = peers.find("torch")
    if torch is None:
        return Figure(ROW, case, peer, note=peers.why_missing("torch"))
    from sk_analytic.interop.torch import RuleOptimizer

    torch.set_num_threads(n_threads)
    try:
        ours, theirs = (_parameter(torch, size, dtype) for _ in range(2))
        kind, settings = rule.ours
        rule_of_ours = getattr(optimizers, kind)(RATE, **settings)
        stepped = RuleOptimizer([ours], rule_of_ours)
        bare = getattr(torch.optim, rule.torch[0])([theirs], lr=RATE, fused=rule.fused, **rule.torch[1])
        on_engine(engine, stepped.step)()
        bare.step()
        for _ in range(STEPS - 1):
            stepped.step()
            bare.step()
        difference = float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())
        clock = process_time if n_threads == 1 else perf_counter
        pair = compare(stepped.step, bare.step, clock=clock, **options.pairing)
    finally:
        torch.set_num_threads(1)
    goal = GOAL if (name, engine) == ("adam", "numba") and size >= LARGE else None
    return Figure.of(ROW, case, peer, pair, goal=goal, difference=difference, tolerance=TOLERANCE[dtype])


def _parameter(torch, size, dtype):
    rng = np.random.default_rng(0)
    tensor = torch.tensor(rng.normal(size=size).astype(dtype), requires_grad=True)
    tensor.grad = torch.tensor(rng.normal(size=size).astype(dtype))
    return tensor
