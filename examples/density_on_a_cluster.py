r"""
======================
A density on a cluster
======================

A mixture of two Gaussians along a line is fitted to rows that lie on the workers of a cluster, two processes of this
machine, by L-BFGS over all of them. Then the same fit is begun again, and one of the workers is killed in its midst, as
by a machine that fails. Its chunks are loaded by the other, and the curve of the loss is the same to the last bit.

The log-density of a row is :math:`\log(\pi \, \varphi_1(x) + (1 - \pi) \, \varphi_2(x))`. With
:math:`\pi = 1 / (1 + e^{-a})`, means :math:`m_k` and scales :math:`e^{s_k}`, and with the share
:math:`r_k(x)` of component :math:`k` in the density at :math:`x`, its gradient is

.. math::

    \partial_a = r_1 - \pi, \qquad
    \partial_{m_k} = r_k \, z_k \, e^{-s_k}, \qquad
    \partial_{s_k} = r_k \, (z_k^2 - 1), \qquad z_k = (x - m_k) \, e^{-s_k}.

Run it with ``python density_on_a_cluster.py``; ``--help`` lists its options. It needs ``pip install -e
".[dask]"``.
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
# The adjoint takes the derivative of the loss by each log-density back to the parameters: functions of this file,
# which are sent to the workers once.

HALF_LOG_TWO_PI = 0.5 * np.log(2 * np.pi)


def init():
    """Start with components apart from each other."""
    return {"a": 0.0, "m": np.array([-1.0, 1.0]), "s": np.zeros(2)}


def vjp(params, X):
    """Log-densities of rows, and the way back."""
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
# The rows
# --------
# A chunk is loaded where it is needed. Here that means drawing it, from the seed that is its number; elsewhere it would
# be read from a file that all workers can see.


def load(number, n_rows):
    """Draw a chunk: 3 of 10 rows around -2, the others around 1."""
    rng = np.random.default_rng(number)
    is_first = rng.random(n_rows) < 0.3
    return np.where(
        is_first, rng.normal(-2.0, 0.5, n_rows), rng.normal(1.0, 1.0, n_rows)
    )[:, None]


# %%
# The fits
# --------


def fit(chunks):
    """Fit the density."""
    model = AnalyticDensity(
        vjp=vjp, init=init, optimizer="lbfgs", tol=1e-8, worker_timeout=60.0
    )
    begin = time.perf_counter()
    model.fit_chunks(chunks)
    return model, time.perf_counter() - begin


def kill_after(seconds, client):
    """Kill a worker after some seconds."""
    victim = next(iter(client.run(os.getpid).values()))
    killer = threading.Timer(seconds, os.kill, (victim, signal.SIGKILL))
    killer.start()
    return killer


def main(arguments=None):
    """Fit twice, once undisturbed, and compare."""
    parser = argparse.ArgumentParser(
        description="Fit a density on a cluster, and kill a worker in its midst."
    )
    parser.add_argument(
        "--rows", type=int, default=400_000, help="rows of each of four chunks"
    )
    parser.add_argument(
        "--output",
        default="density_on_a_cluster.png",
        help="picture of both curves; empty for none",
    )
    options = parser.parse_args(arguments)

    import dask
    from dask.distributed import Client

    with Client(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as client:
        chunks = [dask.delayed(load)(number, options.rows) for number in range(4)]
        fit(chunks)  # so that the workers have imported what they need
        undisturbed, seconds = fit(chunks)
        killer = kill_after(seconds / 2, client)
        disturbed, longer = fit(chunks)
        killer.join()

    print(f"undisturbed             {seconds:6.2f} s  {undisturbed.n_iter_} iterations")
    print(f"with a worker killed    {longer:6.2f} s  {disturbed.n_iter_} iterations")
    same = undisturbed.loss_curve_ == disturbed.loss_curve_
    print(f"the curves are the same to the last bit: {same}")
    params = disturbed.params_
    print(
        f"share {expit(params['a']):.3f}, means {params['m'].round(3)}, scales {np.exp(params['s']).round(3)}"
    )
    if options.output:
        draw({"undisturbed": undisturbed, "a worker killed": disturbed}, options.output)
    return undisturbed, disturbed


def draw(models, path):
    """Draw the curves of the loss, one in the other."""
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
    ax.set(xlabel="iteration", ylabel="negative log-likelihood of a row [nats]")
    ax.legend()
    plt.savefig(path)
    plt.close()


if __name__ == "__main__":
    main()
