r"""
=======================================================
Data larger than memory: fit in chunks and on a cluster
=======================================================

The gradient of a mean is a mean of gradients, so a fit never needs all of its data at
once. ``fit_chunks`` loads one chunk at a time, sums the gradients, and finds the same
parameters as ``fit``, up to rounding. On a cluster, the chunks stay on the workers, and
only parameters and sums are sent between machines.

The model is a zero-inflated Poisson regression, which is not available as a loss by name.
The data are simulated and written to 20 files.
"""

# %%
# The model and its gradient
# --------------------------
# Some counts are zero for a separate reason: a visitor who never buys, a machine that is
# switched off. This happens with probability :math:`\pi = \sigma(a)`. The other counts
# follow a Poisson distribution with mean :math:`\lambda = e^s`, where
# :math:`s = x^\top w + b`. A zero can have either reason, so
#
# .. math::
#     P(0) = \pi + (1 - \pi) e^{-\lambda}, \qquad
#     P(y) = (1 - \pi) \frac{\lambda^y e^{-\lambda}}{y!} \quad (y > 0).
#
# Let :math:`r` be the probability of the separate reason, given the count:
# :math:`r = \pi / P(0)` for a zero, and 0 for any other count. The derivatives of the
# negative log-likelihood :math:`\ell = -\log P(y)` are
#
# .. math::
#     \frac{\partial\ell}{\partial a} = \pi - r, \qquad
#     \frac{\partial\ell}{\partial s} = (1 - r)(\lambda - y).
#
# The second one is that of a Poisson regression, multiplied by the probability that the
# count is from the Poisson distribution.

import tempfile
import tracemalloc
from functools import partial
from pathlib import Path

import dask
import matplotlib.pyplot as plt
import numpy as np
from dask.distributed import Client
from scipy.special import expit, gammaln, log_expit
from sklearn.base import clone

from sk_analytic import AnalyticRegressor, check_gradient


def forward(params, X):
    return X @ params["w"] + params["b"]


def loss_and_gradient(params, X, y):
    a, s = params["a"], forward(params, X)
    rate = np.exp(s)
    log_poisson = log_expit(-a) + y * s - rate - gammaln(y + 1)
    log_zero = np.logaddexp(log_expit(a), log_expit(-a) - rate)
    loss = -np.where(y == 0, log_zero, log_poisson).mean()
    r = np.where(y == 0, np.exp(log_expit(a) - log_zero), 0.0)
    by_score = (1 - r) * (rate - y) / len(y)
    gradient = {
        "w": X.T @ by_score,
        "b": by_score.sum(),
        "a": np.mean(expit(a) - r),
    }
    return loss, gradient


# %%
# Chunks in files
# ---------------
# A chunk is the pair ``(X, y)`` of arguments of ``fit``, or a function that returns it.
# With a list of functions, each chunk is loaded only when it is needed.

n_chunks, n_rows, n_features = 20, 10_000, 10
true = {"w": np.linspace(-0.5, 0.5, n_features), "b": 0.5, "a": -1.0}
folder = tempfile.TemporaryDirectory()


def path(number):
    return Path(folder.name) / f"{number}.npz"


for number in range(n_chunks):
    rng = np.random.default_rng(number)
    X = rng.normal(size=(n_rows, n_features))
    y = rng.poisson(np.exp(forward(true, X))) * (rng.random(n_rows) > expit(true["a"]))
    np.savez(path(number), X=X, y=y)


def load(path):
    with np.load(path) as file:
        return file["X"], file["y"]


model = AnalyticRegressor(
    forward,
    loss_and_gradient=loss_and_gradient,
    init={"w": np.zeros(n_features), "b": 0.0, "a": 0.0},
    optimizer="lbfgs",
    tol=1e-6,
)
report = check_gradient(model, *load(path(0)), random_state=0)
print(report)

# %%
# Fit, and measure the memory
# ---------------------------
# :mod:`tracemalloc` records the peak of what NumPy allocates during each fit.


def peak_memory(fit):
    tracemalloc.start()
    fitted = fit()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return fitted, peak


def in_memory():
    parts = [load(path(number)) for number in range(n_chunks)]
    X, y = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return clone(model).fit(X, y)


def in_chunks():
    chunks = [partial(load, path(number)) for number in range(n_chunks)]
    return clone(model).fit_chunks(chunks)


whole, whole_peak = peak_memory(in_memory)
chunked, chunked_peak = peak_memory(in_chunks)
print(f"in memory: {whole_peak:.0f} MiB, in chunks: {chunked_peak:.0f} MiB")

# %%
# Fit on a cluster
# ----------------
# ``dask.delayed`` turns each chunk into a task. The client here runs two workers in
# this process. To use a cluster, change only the client: ``Client("scheduler:8786")``.
# Each worker loads its chunks once and keeps them. See :doc:`/guide/chunks` and
# :doc:`/guide/cluster`. In ``examples/density_on_a_cluster.py``, a fit continues although
# a worker is killed.

with Client(
    processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0"
) as client:
    delayed = [dask.delayed(load)(path(number)) for number in range(n_chunks)]
    distributed = clone(model).fit_chunks(delayed)

folder.cleanup()

# %%
# Three fits, one result
# ----------------------
# The sums are the same up to rounding, so the loss curves coincide. In chunks, the fit
# takes a fraction of the memory.

_, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
fits = {"in memory": whole, "in chunks": chunked, "on a cluster": distributed}
styles = (
    {"lw": 7, "color": "0.8"},
    {"lw": 3, "color": "C1"},
    {"ls": ":", "color": "k"},
)
for (name, fit), style in zip(fits.items(), styles, strict=True):
    curve = fit.loss_curve_
    left.plot(np.arange(1, len(curve) + 1), curve, label=name, **style)
left.set(xlabel="iteration of L-BFGS", ylabel="negative log-likelihood per sample")
left.legend()
right.bar(["in memory", "in chunks"], [whole_peak, chunked_peak], color=["0.8", "C1"])
right.set(ylabel="peak memory during the fit (MiB)")
plt.show()

# %%
# Chunks on one machine and on a cluster are summed in the same order, so the two fits are
# identical to the last bit:

same = chunked.loss_curve_ == distributed.loss_curve_
difference = max(
    np.abs(chunked.params_[name] - whole.params_[name]).max()
    for name in ("w", "b", "a")
)
print(f"in chunks and on a cluster, identical to the last bit: {same}")
print(f"largest difference from the parameters of the fit in memory: {difference:.1e}")
