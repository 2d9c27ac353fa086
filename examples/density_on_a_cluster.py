r"""
======================
A density on a cluster
======================

This script fits a mixture of two Gaussians to data that are spread over the workers of a dask cluster. The cluster
consists of two processes on this machine. The script fits the density twice by L-BFGS. During the second fit, it kills
one of the workers. The other worker loads the lost chunks again, and the loss curves of the two fits are identical to
the last bit.

The log-density of a sample is :math:`\log(\pi \, \varphi_1(x) + (1 - \pi) \, \varphi_2(x))`, where
:math:`\pi = 1 / (1 + e^{-a})` and :math:`\varphi_k` is a Gaussian density with mean :math:`m_k` and scale
:math:`e^{s_k}`. Let :math:`r_k` be the share of component :math:`k` in the density at :math:`x`, and
:math:`z_k = (x - m_k) \, e^{-s_k}`. The gradient of the log-density is

.. math::

    \partial_a = r_1 - \pi, \qquad
    \partial_{m_k} = r_k \, z_k \, e^{-s_k}, \qquad
    \partial_{s_k} = r_k \, (z_k^2 - 1).

Run it with ``python density_on_a_cluster.py``; ``--help`` lists the options. It requires the extra ``dask``:
``pip install -e ".[dask]"``.
"""

import argparse
import os
import signal
import threading
import time

import numpy as np
from scipy.special import expit, log_expit

from sk_analytic import AnalyticDensity

# %%
# The model
# ---------
# ``vjp`` returns the log-densities and the pullback, which turns the derivative of the loss with respect to each
# log-density into the gradient. The functions are sent to each worker once.

HALF_LOG_TWO_PI = 0.5 * np.log(2 * np.pi)


def init():
    """Return the starting parameters, with the two means apart."""
    return {"a": 0.0, "m": np.array([-1.0, 1.0]), "s": np.zeros(2)}


def vjp(params, X):
    """Return the log-density of each sample, and the pullback."""
    scale = np.exp(-params["s"])
    z = (X - params["m"]) * scale
    log_shares = np.array([log_expit(params["a"]), log_expit(-params["a"])])
    log_parts = log_shares - HALF_LOG_TWO_PI - params["s"] - 0.5 * z**2
    log_density = np.logaddexp(log_parts[:, 0], log_parts[:, 1])
    r = np.exp(log_parts - log_density[:, None])

    def pullback(d):
        weighted = d[:, None] * r
        return {
            "a": np.sum(d * (r[:, 0] - expit(params["a"]))),
            "m": np.sum(weighted * z * scale, axis=0),
            "s": np.sum(weighted * (z**2 - 1), axis=0),
        }

    return log_density, pullback


# %%
# The data
# --------
# Each worker loads its own chunks. Here, it draws them at random, with the number of the chunk as the seed. In
# practice, it would read them from files that all workers can access.


def load(number, n_rows):
    """Draw a chunk: 3 of 10 samples around -2, the others around 1."""
    rng = np.random.default_rng(number)
    is_first = rng.random(n_rows) < 0.3
    return np.where(
        is_first, rng.normal(-2.0, 0.5, n_rows), rng.normal(1.0, 1.0, n_rows)
    )[:, None]


# %%
# The fits
# --------


def fit(chunks):
    """Return the fitted density, and the duration of the fit in seconds."""
    model = AnalyticDensity(
        vjp=vjp, init=init, optimizer="lbfgs", tol=1e-8, worker_timeout=60.0
    )
    begin = time.perf_counter()
    model.fit_chunks(chunks)
    return model, time.perf_counter() - begin


def kill_after(seconds, client):
    """Start a timer that kills a worker."""
    victim = next(iter(client.run(os.getpid).values()))
    killer = threading.Timer(seconds, os.kill, (victim, signal.SIGKILL))
    killer.start()
    return killer


def main(arguments=None):
    """Fit twice, the second time with a worker killed, and compare."""
    parser = argparse.ArgumentParser(
        description="Fit a density on a cluster, and kill a worker during the fit."
    )
    parser.add_argument(
        "--rows", type=int, default=400_000, help="samples in each of the four chunks"
    )
    parser.add_argument(
        "--output",
        default="density_on_a_cluster.png",
        help="file for the figure of both loss curves; empty for none",
    )
    options = parser.parse_args(arguments)

    import dask
    from dask.distributed import Client

    with Client(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as client:
        chunks = [dask.delayed(load)(number, options.rows) for number in range(4)]
        fit(chunks)  # warm up, so that imports on the workers are not timed
        undisturbed, seconds = fit(chunks)
        killer = kill_after(seconds / 2, client)
        disturbed, longer = fit(chunks)
        killer.join()

    print(f"all workers alive  {seconds:6.2f} s  {undisturbed.n_iter_} iterations")
    print(f"one worker killed  {longer:6.2f} s  {disturbed.n_iter_} iterations")
    same = undisturbed.loss_curve_ == disturbed.loss_curve_
    print(f"loss curves identical to the last bit: {same}")
    params = disturbed.params_
    scales = np.exp(params["s"]).round(3)
    print(
        f"share {expit(params['a']):.3f}, means {params['m'].round(3)}, scales {scales}"
    )
    if options.output:
        draw(
            {"all workers alive": undisturbed, "one worker killed": disturbed},
            options.output,
        )
    return undisturbed, disturbed


def draw(models, path):
    """Save a figure of the two loss curves, one on top of the other."""
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for (label, model), style in zip(
        models.items(), ({"lw": 6, "alpha": 0.3}, {"lw": 1.5, "ls": "--"}), strict=True
    ):
        ax.plot(
            range(1, len(model.loss_curve_) + 1),
            model.loss_curve_,
            label=label,
            **style,
        )
    ax.set(xlabel="iteration", ylabel="negative log-likelihood per sample (nats)")
    ax.legend()
    plt.savefig(path)
    plt.close()


if __name__ == "__main__":
    main()
