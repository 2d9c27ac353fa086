"""A cluster: steps, evaluations and deaths of workers, on two processes of this machine, by the clock on the wall.

The workers compute in one thread each. What is compared with takes the same rows: dask-ml, or this process alone.
"""

import os
import signal
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager

import numpy as np

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor

from . import peers
from .figures import Figure
from .timing import compare

ROW = "cluster"
N_WORKERS, N_CHUNKS = 2, 4
LONGEST_STEP = 0.005  # seconds
STEPS_OF_AN_EPOCH, EPOCHS = 40, 10
FASTER_THAN_DASK_ML = 0.1
FASTER_THAN_ONE = 1 / 1.6
LOST = 5.0  # seconds that a dead worker may cost
SEEDS = 20
LONG, SHORT = 10_000, 1_000  # steps
GROWN = 1.05  # of what is allocated in this process
THRESHOLDS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
KEPT = 1 << 29  # bytes that the allocator of a worker does not give back
PART = 10_000  # rows of a chunk that are evaluated at once: what is made of them stays in the cache
EVEN = (1_000, 10_000, 100_000)  # rows


def measure(options):
    """Yield the figures of the cases that were asked for."""
    if peers.find("distributed") is None:
        yield Figure(ROW, "all", note=peers.why_missing("distributed"))
        return
    cases = {
        "step": _steps,
        "dask-ml": _logistic_regression,
        "one process": _network,
        "memory": _memory,
        "break-even": _break_even,
    }
    with _cluster() as client:
        for name, case in cases.items():
            if options.picks(name):
                yield from case(options, client)
    if options.picks("killed"):
        yield from _killed(options)


@contextmanager
def _cluster():
    """Two workers, which keep the memory that they have freed, as the guide advises."""
    import dask
    from distributed import Client, LocalCluster

    kept = {f"distributed.nanny.pre-spawn-environ.{name}": str(KEPT) for name in THRESHOLDS}
    settings = {"n_workers": N_WORKERS, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with dask.config.set(kept), LocalCluster(**settings) as cluster, Client(cluster) as client:
        yield client


def _on_wall(ours, theirs, options, repetitions=5):
    """Pairs by the clock on the wall: the workers are other processes."""
    pairing = {**options.pairing, "repetitions": min(repetitions, options.pairing["repetitions"])}
    return compare(ours, theirs, **pairing, clock=time.perf_counter)


def _on_workers(client, load):
    """Chunks that are loaded on the workers once, and can be loaded again."""
    import dask
    from distributed import wait

    chunks = client.persist([dask.delayed(load, pure=False)(number) for number in range(N_CHUNKS)])
    wait(chunks)
    return chunks


# ---- a step ----


def _of_size(size):
    """A density with the given number of parameters, whose gradient costs nothing, on chunks of `_idle_rows`."""
    return AnalyticDensity(
        forward=lambda params, X: np.zeros(len(X)),
        gradient=lambda params, X: params,
        loss=None,
        init=np.ones(size),
        optimizer="sgd",
        batch_size=1000 * N_CHUNKS // STEPS_OF_AN_EPOCH,
        check_gradient=False,
        tol=None,
        random_state=0,
    )


def _idle_rows(number):
    return np.zeros((1000, 2))


def _steps(options, client):
    """Seconds of a step of trivial work, over what is allowed."""
    chunks = _on_workers(client, _idle_rows)
    more = 1 if options.quick else EPOCHS

    def seconds(size, epochs):
        model = _of_size(size).set_params(max_iter=epochs)
        begin = time.perf_counter()
        model.fit_chunks(chunks)
        return time.perf_counter() - begin

    for size in (10, 10_000):
        rounds = range(3 if options.quick else 7)
        each = [(seconds(size, 1 + more) - seconds(size, 1)) / (more * STEPS_OF_AN_EPOCH) for _ in rounds]
        low, middle, high = np.percentile(each, (25, 50, 75)).tolist()
        yield Figure(
            ROW,
            f"a step, {size} parameters, {N_CHUNKS} chunks",
            "5 ms",
            middle / LONGEST_STEP,
            low / LONGEST_STEP,
            high / LONGEST_STEP,
            ours=middle,
            peers=LONGEST_STEP,
            goal=1.0,
        )


# ---- beside dask-ml ----


def _logistic_regression(options, client):
    """Logistic regression at dask-ml's own defaults, and the coefficients of scikit-learn's."""
    dask_ml = peers.find("dask_ml")
    if dask_ml is None:
        yield Figure(ROW, "logistic regression", "dask-ml", note=peers.why_missing("dask_ml"))
        return
    import dask.array as da
    from dask_ml.linear_model import LogisticRegression as Theirs
    from sklearn.linear_model import LogisticRegression

    n = 2_000 if options.quick else 100_000
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 20))
    y = (X @ rng.normal(size=20) + rng.logistic(size=n)) > 0
    rows, labels = (da.from_array(array, chunks=n // N_CHUNKS).persist() for array in (X, y))
    rows = rows.rechunk({1: -1}).persist()

    def ours(tol=1e-4):
        return AnalyticClassifier(alpha=1 / n, optimizer="lbfgs", tol=tol).fit(rows, labels)

    def theirs():
        return Theirs(solver="lbfgs").fit(rows, labels)

    exact = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-14, max_iter=200).fit(X, y)
    difference = float(np.abs(ours(tol=1e-12).coef_ / exact.coef_ - 1).max())
    yield Figure.of(
        ROW,
        f"logistic regression, n={n} d=20",
        "dask-ml, lbfgs",
        _on_wall(lambda: ours(tol=1e-12), theirs, options, repetitions=3),
        goal=FASTER_THAN_DASK_ML,
        difference=difference,
        tolerance=1e-10,
        note="to scikit-learn's coefficients, largest relative difference",
    )
    yield Figure.of(
        ROW,
        f"logistic regression, n={n} d=20, both at their own tolerance of 1e-4",
        "dask-ml, lbfgs",
        _on_wall(ours, theirs, options, repetitions=3),
    )


# ---- beside this process ----


class _Network:
    """A network of one hidden layer, and its adjoint."""

    def __init__(self, d, n_hidden=32):
        rng = np.random.default_rng(0)
        self.start = {"V": rng.normal(size=(d, n_hidden)) / d**0.5, "c": np.zeros(n_hidden)}
        self.start |= {"w": rng.normal(size=n_hidden) / n_hidden**0.5, "b": 0.0}

    @staticmethod
    def vjp(params, X):
        hidden = np.tanh(X @ params["V"] + params["c"])

        def pullback(d):
            d_hidden = np.outer(d, params["w"]) * (1 - hidden**2)
            return {"V": X.T @ d_hidden, "c": d_hidden.sum(axis=0), "w": hidden.T @ d, "b": d.sum()}

        return hidden @ params["w"] + params["b"], pullback

    def model(self, **settings):
        return AnalyticRegressor(vjp=self.vjp, init=self.start, check_gradient=False, tol=None, **settings)


def _blocks(n, d):
    def load(number):
        rng = np.random.default_rng(number)
        X = rng.normal(size=(n // N_CHUNKS, d))
        return X, np.sin(X[:, 0]) + X[:, 1] * X[:, 2]

    return load


def _network(options, client):
    """Full batches of a network, against `fit_chunks` of the same blocks in this process."""
    n = 8_000 if options.quick else 2_000_000
    load = _blocks(n, 20)
    here, there = [load(number) for number in range(N_CHUNKS)], _on_workers(client, load)
    settings = {"optimizer": "lbfgs", "batch_size": PART, "max_iter": 2 if options.quick else 4}
    model = _Network(20).model(**settings)
    ours, theirs = model.fit_chunks(there).params_, model.fit_chunks(here).params_
    difference = max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)
    X, y = map(np.concatenate, zip(*here, strict=True))
    for peer, alone in {
        "one process, the same blocks": lambda: model.fit_chunks(here),
        "one process, one array": lambda: model.fit(X, y),
    }.items():
        yield Figure.of(
            ROW,
            f"full batches of a network, n={n} d=20, 32 hidden",
            peer,
            _on_wall(lambda: model.fit_chunks(there), alone, options, repetitions=3),
            goal=FASTER_THAN_ONE,
            difference=difference,
            tolerance=0.0,
        )


def _break_even(options, client):
    """From how many rows an evaluation is faster on the cluster."""
    for n in (1_000,) if options.quick else EVEN:
        load = _blocks(n, 20)
        here, there = [load(number) for number in range(N_CHUNKS)], _on_workers(client, load)
        model = _Network(20).model(optimizer="lbfgs", max_iter=2 if n > 10**5 else 20)
        yield Figure.of(
            ROW,
            f"break-even: full batches of a network, n={n}",
            "one process, the same blocks",
            _on_wall(lambda m=model, c=there: m.fit_chunks(c), lambda m=model, c=here: m.fit_chunks(c), options),
        )


# ---- when workers die ----

KILLED = {
    "full batch": {"optimizer": "lbfgs", "max_iter": 30},
    "minibatch": {"optimizer": "adam", "batch_size": 200, "max_iter": 4},
    "early stopping": {"optimizer": "adam", "batch_size": 200, "max_iter": 4, "early_stopping": True},
}


def _killed(options):
    """Seconds that the death of a worker costs, at most, over what is allowed; the bits must be the same."""
    import dask

    load = _blocks(8_000, 5)
    for name, settings in KILLED.items():
        model = AnalyticRegressor(tol=None, random_state=0, **settings)
        lost, differences = [], []
        for seed in range(2 if options.quick else SEEDS):
            with _cluster() as client:
                chunks = [dask.delayed(load, pure=False)(number) for number in range(N_CHUNKS)]
                model.fit_chunks(chunks)  # so that the workers have imported what they need
                undisturbed, expected = _timed(model, chunks)
                rng = np.random.default_rng(seed)
                victim = list(client.run(os.getpid).values())[rng.integers(N_WORKERS)]
                killer = threading.Timer(rng.uniform(0, undisturbed), os.kill, (victim, signal.SIGKILL))
                killer.start()
                disturbed, found = _timed(model, chunks)
                killer.join()
            lost.append(disturbed - undisturbed)
            differences.append(float(np.abs(found - expected).max()))
        yield Figure(
            ROW,
            f"a worker killed, {name}, {len(lost)} seeds",
            "5 s",
            max(lost) / LOST,
            *(float(np.percentile(lost, q)) / LOST for q in (25, 75)),
            ours=max(lost),
            peers=LOST,
            goal=1.0,
            difference=max(differences),
            tolerance=0.0,
        )


def _timed(model, chunks):
    begin = time.perf_counter()
    coef = model.fit_chunks(chunks).coef_
    return time.perf_counter() - begin, coef


def _memory(options, client):
    """What is allocated in this process after many steps, over what is after few; a first fit fills the caches."""
    chunks = _on_workers(client, _idle_rows)

    def peak(n_steps):
        tracemalloc.start()
        _of_size(1000).set_params(max_iter=n_steps // STEPS_OF_AN_EPOCH).fit_chunks(chunks)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = (40, 80) if options.quick else (SHORT, LONG)
    _, theirs, ours = map(peak, (few, few, many))
    ratio, case = ours / theirs, f"memory of this process: {many} steps"
    yield Figure(ROW, case, f"{few} steps", ratio, ratio, ratio, ours=ours, peers=theirs, goal=GROWN, unit="B")


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
