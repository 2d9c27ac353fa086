"""A whole fit of a network, against MLPRegressor, MLPClassifier, torch, skorch, jax and a bare loop.

All have the same network, start, number of epochs, batch size and Adam. Loops of our own writing see the
same batches too. The gradient check is off: it has a row of its own. With ``loss_and_gradient`` the loss is
the user's, with ``vjp`` it is ours; the peers do the same in both.
"""

import sys
from functools import partial
from itertools import product

import numpy as np

from . import loops, peers
from .figures import Figure
from .models import digits_problem, regression_problem
from .ours import engine_names
from .timing import compare

ROW = "whole_fit"
SIZES = (10_000, 100_000)
BATCHES = (32, 200, 1_000)
SAME_BATCHES = {"float64": 1e-6, "float32": 2e-2}  # how far the final losses may be apart
OWN_ORDER = 0.1  # likewise, where the peer shuffles by itself

PEERS = {
    "sklearn MLP": ((), loops.mlp, OWN_ORDER),
    "bare NumPy loop": ((), loops.bare, None),
    "bare NumPy loop, in place": ((), partial(loops.bare, adam=loops.adam_in_place), None),
    "torch loop": (("torch",), loops.torch_loop, None),
    "torch loop, fused": (("torch",), partial(loops.torch_loop, fused=True), None),
    "skorch": (("torch", "skorch"), loops.skorch_net, OWN_ORDER),
    "jax jit + optax": (("jax", "optax"), loops.jax_loop, None),
}

FORMS = {
    "loss_and_gradient": tuple(PEERS),
    "vjp": ("sklearn MLP", "bare NumPy loop", "bare NumPy loop, in place"),
}

FASTER = {  # times faster, by peer, data and batch
    ("sklearn MLP", "regression"): {32: 5, 200: 3.3, 1_000: 2},
    ("sklearn MLP", "digits"): {32: 3.8, 200: 2.3},
    ("torch loop, fused", "regression"): {32: 9, 200: 4.5},
    ("torch loop, fused", "digits"): {32: 5.5, 200: 2.8},
    ("skorch", "regression"): dict.fromkeys(BATCHES, 18),
    ("skorch", "digits"): dict.fromkeys(BATCHES, 9),
    ("jax jit + optax", "regression"): dict.fromkeys(BATCHES, 1),
    ("jax jit + optax", "digits"): dict.fromkeys(BATCHES, 1),
    ("bare NumPy loop", "regression"): {32: 1.2, 200: 1.2},
    ("bare NumPy loop", "digits"): {32: 1.2, 200: 1.2},
    ("bare NumPy loop, in place", "regression"): {32: 1.2, 200: 1.2},
    ("bare NumPy loop, in place", "digits"): {32: 1.2, 200: 1.2},
}
FASTER_FLOAT32 = {("sklearn MLP", "digits"): {32: 5, 200: 3.3}}


def measure(options):
    """Yield a figure for each data set, dtype, batch size, form of the gradient, engine and peer."""
    for problem, dtype in _problems(options):
        for engine, (form, against) in product(engine_names(options.engines), FORMS.items()):
            fit = loops.ours(problem, engine, form=form)
            reached = problem.loss(fit())
            case = f"{problem.name} n={len(problem.y)} {dtype} batch {problem.batch_size} {form} {engine}"
            for peer in against:
                if options.meets(peer):
                    yield _against(options, problem, dtype, case, fit, reached, peer)


def _against(options, problem, dtype, case, fit, reached, peer):
    needs, make, tolerance = PEERS[peer]
    if needs and peers.find(*needs) is None:
        return Figure(ROW, case, peer, note=peers.why_missing(*needs))
    theirs = make(problem)
    theirs_reached = problem.loss(theirs())
    pair = compare(fit, theirs, **options.pairing)
    return Figure.of(
        ROW,
        case,
        peer,
        pair,
        goal=goal(peer, problem.name, dtype, problem.batch_size),
        difference=abs(theirs_reached / reached - 1),
        tolerance=tolerance or SAME_BATCHES[dtype],
    )


def _problems(options):
    """Yield the problems, with the name of their dtype."""
    for dtype in options.dtypes:
        for batch_size in options.batch_sizes_or(BATCHES, (200,)):
            if options.picks("regression"):
                for n in options.sizes_or(SIZES, (1_000,)):
                    epochs = max(1, min(5, 100_000 // n))
                    yield regression_problem(n, np.dtype(dtype), batch_size=batch_size, epochs=epochs), dtype
            if options.picks("digits"):
                epochs = 2 if options.quick else 20
                yield digits_problem(np.dtype(dtype), batch_size=batch_size, epochs=epochs), dtype


def goal(peer, data, dtype, batch_size):
    """Return what the ratio should not exceed, where that is stated."""
    faster = FASTER.get((peer, data), {}).get(batch_size)
    if dtype == "float32":
        faster = FASTER_FLOAT32.get((peer, data), {}).get(batch_size, faster)
    return None if faster is None else 1 / faster


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
