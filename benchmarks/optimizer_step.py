"""A step of an optimizer, against scikit-learn, torch and optax.

θ, gradient and state stand ready; what is timed is the update alone. Each side takes the same five steps
first, and must then be at the same θ.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from sk_analytic import optimizers
from sk_analytic.optimizers import Rule, get_optimizer_names
from sk_analytic.optimizers.engine.trace import as_tuple
from sk_analytic.optimizers.state import StepInfo
from sk_analytic.parameters import Layout

from . import peers
from .figures import Figure
from .ours import engine_names, on_engine
from .timing import Quartiles, compare

ROW = "optimizer_step"
SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
QUICK = (10, 1_000)
AS_TUPLE = "tuple of 8"  # in a loop of the user's own; an estimator has θ in one vector, however many blocks
BLOCKS = {"1 block": 1, "8 blocks": 8, AS_TUPLE: 8}
RATE = 1e-3
STEPS = 5
TOLERANCE = {"float64": 1e-6, "float32": 1e-4}


class Case(NamedTuple):
    """The same rule in each library: a class and what to set, or None where it has none."""

    ours: tuple
    torch: tuple | None = None
    fused: bool = False  # whether torch has a fused form for the CPU
    optax: tuple | None = None
    sklearn: tuple | None = None


RULES = {
    "adam": Case(("Adam", {}), ("Adam", {}), True, ("adam", {}), ("AdamOptimizer", {})),
    "adamw": Case(
        ("AdamW", {"weight_decay": 0.01}),
        ("AdamW", {"weight_decay": 0.01}),
        True,
        ("adamw", {"weight_decay": 0.01}),
    ),
    "momentum": Case(
        ("SGD", {"momentum": 0.9}),
        ("SGD", {"momentum": 0.9}),
        True,
        ("sgd", {"momentum": 0.9}),
        ("SGDOptimizer", {"momentum": 0.9, "nesterov": False}),
    ),
    "rmsprop": Case(
        ("RMSprop", {"rho": 0.99}),
        ("RMSprop", {"alpha": 0.99}),
        False,
        ("rmsprop", {"decay": 0.99, "eps": 1e-8, "eps_in_sqrt": False}),
    ),
    "lion": Case(("Lion", {}), optax=("lion", {"weight_decay": 0.0})),
    "amsgrad": Case(("Adam", {"amsgrad": True}), ("Adam", {"amsgrad": True}), True, ("amsgrad", {})),
}


class Side(NamedTuple):
    """A stepper ready to go: a step, and where θ is."""

    step: Callable
    theta: Callable


def measure(options):
    """Yield a figure for each rule, dtype, number of blocks, size and peer; then one for loading what was compiled."""
    for name, rule in RULES.items():
        if not options.picks(name):
            continue
        if not hasattr(optimizers, rule.ours[0]):
            yield Figure(ROW, name, note=f"left out: there is no {rule.ours[0]} yet; {len(get_optimizer_names())} are")
            continue
        for engine in engine_names(options.engines):
            for dtype in options.dtypes:
                for blocks in BLOCKS:
                    for size in options.sizes_or(SIZES, QUICK):
                        yield from _sides(options, name, rule, engine, dtype, blocks, size)

    if options.picks("load") and "numba" in engine_names(options.engines):
        yield _load(options)


LOAD = """
from time import perf_counter
import numba
import numpy as np
from sk_analytic.optimizers import Adam, use_engine
theta = np.ones(10)
start = perf_counter()
with use_engine("numba"):
    optimizer = Adam()
    optimizer.update(optimizer.init(theta), theta, theta.copy())
print(perf_counter() - start)
"""
LOAD_SECONDS = 0.3


def _load(options):
    """Time the first step of a second process, which finds compiled what the first has left."""
    with tempfile.TemporaryDirectory() as folder:

        def process():
            run = subprocess.run(
                [sys.executable, "-c", LOAD],
                env=os.environ | {"NUMBA_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            return float(run.stdout)

        first = process()
        low, seconds, high = Quartiles.of([process() for _ in range(min(options.repetitions, 5))])
    return Figure(
        ROW,
        "numba, first step of a second process",
        f"{LOAD_SECONDS} s",
        seconds / LOAD_SECONDS,
        low / LOAD_SECONDS,
        high / LOAD_SECONDS,
        ours=seconds,
        peers=LOAD_SECONDS,
        goal=1.0,
        note=f"{first:.2f} s in the first, which compiles; importing numba is left out",
    )


def _sides(options, name, rule, engine, dtype, blocks, size):
    """Yield the comparisons with each peer."""
    theta, g, cuts = _draw(size, dtype, BLOCKS[blocks])
    case = f"{name} {engine} {dtype} {blocks} {size:.0e}"
    for peer, (needs, make) in _peers(rule).items():
        if not options.meets(peer):
            continue
        if needs and peers.find(*needs) is None:
            yield Figure(ROW, case, peer, note=peers.why_missing(*needs))
            continue
        make_ours = _ours_as_tuple if blocks == AS_TUPLE else _ours
        ours, theirs = make_ours(rule, engine, theta, g, cuts), make(rule, theta, g, cuts)
        difference = _difference(ours, theirs, theta)
        pair = compare(ours.step, theirs.step, **options.pairing)
        yield Figure.of(
            ROW,
            case,
            peer,
            pair,
            goal=_goal(name, engine, peer, size, blocks),
            difference=difference,
            tolerance=TOLERANCE[dtype],
        )


def _draw(size, dtype, n_blocks):
    """Return θ, a gradient, and where to cut them into blocks.

    No entry of the gradient is small: scikit-learn adds epsilon in another place.
    """
    rng = np.random.default_rng(0)
    theta = rng.standard_normal(size).astype(dtype)
    g = (rng.choice([-1, 1], size) * rng.uniform(1, 2, size)).astype(dtype)
    return theta, g, np.linspace(0, size, n_blocks + 1).astype(int)[1:-1]


def _difference(ours, theirs, start):
    """Take a few steps on both sides; return how far apart they are, relative to the way gone."""
    for _ in range(STEPS):
        ours.step()
        theirs.step()
    way = np.linalg.norm(ours.theta() - start)
    return float(np.linalg.norm(ours.theta() - theirs.theta()) / way)


def _ours(rule, engine, theta, g, cuts):
    name, settings = rule.ours
    optimizer = getattr(optimizers, name)(learning_rate=RATE, **settings)
    vector = theta.copy()
    layout = Layout.of(tuple(np.split(vector, cuts)), vector.dtype) if len(cuts) else None
    state = on_engine(engine, lambda: optimizer.init(vector, blocks=layout))()
    return Side(lambda: optimizer.update(state, vector, g), lambda: vector)


def _ours_as_tuple(rule, engine, theta, g, cuts):
    name, settings = rule.ours
    optimizer = getattr(optimizers, name)(learning_rate=RATE, **settings)
    blocks, grads = tuple(np.split(theta.copy(), cuts)), tuple(np.split(g, cuts))
    state = on_engine(engine, lambda: optimizer.init(blocks))()
    return Side(lambda: optimizer.update(state, blocks, grads), lambda: np.concatenate(blocks))


def _as_written(rule, theta, g, cuts):
    """Our own formula called as any function of arrays, which makes an array for each of its operations."""
    name, settings = rule.ours
    optimizer = getattr(optimizers, name)(learning_rate=RATE, **settings)
    theta, now = theta.copy(), StepInfo()
    slots = [np.full_like(theta, start) for start in optimizer.slots.values()]

    def step():
        now.t += 1
        flow, *slots[:] = as_tuple(optimizer.formula(g, theta, *slots, *optimizer.coefficients(now)))
        theta[...] = theta - RATE * flow

    return Side(step, lambda: theta)


def _sklearn(rule, theta, g, cuts):
    from sklearn.neural_network import _stochastic_optimizers

    name, settings = rule.sklearn
    blocks, grads = np.split(theta.copy(), cuts), np.split(g, cuts)
    optimizer = getattr(_stochastic_optimizers, name)(blocks, RATE, **settings)
    return Side(lambda: optimizer.update_params(blocks, grads), lambda: np.concatenate(blocks))


def _torch(rule, theta, g, cuts, **form):
    torch = peers.find("torch")
    name, settings = rule.torch
    blocks = [torch.tensor(block, requires_grad=True) for block in np.split(theta, cuts)]
    for block, grad in zip(blocks, np.split(g, cuts), strict=True):
        block.grad = torch.tensor(grad)
    optimizer = getattr(torch.optim, name)(blocks, lr=RATE, **settings, **form)
    return Side(optimizer.step, lambda: np.concatenate([block.detach().numpy() for block in blocks]))


def _optax(rule, theta, g, cuts):
    jax, optax = peers.find("jax", "optax")
    name, settings = rule.optax
    transform = getattr(optax, name)(RATE, **settings)
    blocks = [jax.numpy.array(block) for block in np.split(theta, cuts)]
    grads = [jax.numpy.array(block) for block in np.split(g, cuts)]

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(blocks, state, grads):
        updates, state = transform.update(grads, state, blocks)
        return optax.apply_updates(blocks, updates), state

    now = blocks, transform.init(blocks)

    def step():
        nonlocal now
        now = update(*now, grads)
        jax.block_until_ready(now[0])

    return Side(step, lambda: np.concatenate([np.asarray(block) for block in now[0]]))


def _peers(rule):
    """Return the peers that have the rule: what they need, and their maker."""
    found = {}
    if issubclass(getattr(optimizers, rule.ours[0]), Rule):
        found["our formula, as written"] = (), _as_written
    if rule.sklearn:
        found["scikit-learn"] = (), _sklearn
    if rule.torch:
        found["torch default"] = ("torch",), _torch
        found["torch foreach"] = ("torch",), partial(_torch, foreach=True)
    if rule.fused:
        found["torch fused"] = ("torch",), partial(_torch, fused=True)
    if rule.optax:
        found["optax jit"] = ("jax", "optax"), _optax
    return found


def _goal(name, engine, peer, size, blocks):
    """Return what the ratio should not exceed, where that is stated; of scikit-learn's only for its Adam."""
    if blocks == AS_TUPLE or (peer == "scikit-learn" and name != "adam"):
        return None
    if engine == "numba":
        if peer == "scikit-learn":
            return 0.25
        if peer == "torch fused" and blocks == "1 block":
            return 0.1 if size <= 1_000 else {100_000: 0.5, 10_000_000: 1.0}.get(size)
    elif peer == "scikit-learn":
        return 1.0 if size <= 1_000 or blocks == "8 blocks" else 1.3
    return None


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
