"""How often 95 % intervals of `infer` hold the truth, over 2000 fits of each design; no times.

A design is what draws the rows, the model, and the covariance or the method of the interval. The figure is the share of
the fits whose interval holds the truth, in percent, and should be 93 to 97.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sk_analytic import AnalyticClassifier, AnalyticRegressor, infer

from .figures import Figure

ROW = "coverage"
LEVEL, ALLOWED = 0.95, 0.02
FITS, QUICK = 2000, 40
LINE = {"slope": 0.5, "offset": 1.0}
DECAY = {"height": 2.0, "rate": 1.5, "floor": 0.5}


def line(params, X):
    """Return a straight line."""
    return X[:, 0] * params["slope"] + params["offset"]


def line_jacobian(params, X):
    """Return its derivative."""
    return {"slope": X[:, 0], "offset": np.ones(len(X))}


def decay(params, X):
    """Return an exponential decay to a floor."""
    return params["height"] * np.exp(-params["rate"] * X[:, 0]) + params["floor"]


def decay_jacobian(params, X):
    """Return its derivative."""
    e = np.exp(-params["rate"] * X[:, 0])
    return {"height": e, "rate": -params["height"] * X[:, 0] * e, "floor": np.ones(len(X))}


def of_line(loss="squared_error", estimator=AnalyticRegressor, **settings):
    """Return a model that is a line on the link of a loss."""
    return estimator(
        line, jacobian=line_jacobian, init={"slope": 0.0, "offset": 0.1}, loss=loss, check_gradient=False, **settings
    )


def of_decay(**settings):
    """Return a model of the decay."""
    return AnalyticRegressor(decay, jacobian=decay_jacobian, init=DECAY, check_gradient=False, **settings)


@dataclass(frozen=True)
class Design:
    """Rows, a model and an interval.

    Attributes
    ----------
    words : str
        What is drawn.
    draw : callable
        ``draw(rng) -> X, y, given``; the last is what `infer` gets beside, of which ``sample_weight`` goes to `fit`.
    model : callable
        Makes the estimator.
    settings : dict
        Of `infer`.
    interval : callable
        ``interval(result, rng) -> low, high, truth``.
    share : float
        Of the fits, for what takes long.
    """

    words: str
    draw: Callable
    model: Callable = of_line
    settings: dict | None = None
    interval: Callable = lambda result, rng: (*result.confidence_intervals(LEVEL, parameters="slope")[0], LINE["slope"])
    share: float = 1.0


def rows(rng, n):
    """Return one covariate, and the line of it."""
    X = rng.normal(size=(n, 1))
    return X, line(LINE, X)


def even(rng, n=100):
    """Draw a line with normal noise of one variance."""
    X, mean = rows(rng, n)
    return X, mean + rng.normal(size=n), {}


def uneven(rng, n):
    """Draw a line whose noise grows with the covariate's size."""
    X, mean = rows(rng, n)
    return X, mean + (0.3 + np.abs(X[:, 0])) * rng.normal(size=n), {}


def heavy(rng, n=1500):
    """Draw a line with the noise of a t distribution of 3 degrees of freedom."""
    X, mean = rows(rng, n)
    return X, mean + rng.standard_t(3, size=n), {}


def counts(rng, n=200):
    """Draw Poisson counts."""
    X, mean = rows(rng, n)
    return X, rng.poisson(np.exp(mean)).astype(float), {}


def overdispersed(rng, n=1500):
    """Draw counts of a negative binomial, of variance mu + mu²."""
    X, mean = rows(rng, n)
    return X, rng.poisson(np.exp(mean) * rng.gamma(1.0, size=n)).astype(float), {}


def repeated(rng, n=400):
    """Draw Poisson counts, and sort equal rows into one with a frequency weight."""
    X = rng.integers(-2, 3, size=(n, 1)).astype(float)
    y = rng.poisson(np.exp(line(LINE, X)))
    found, times = np.unique(np.column_stack([X, y]), axis=0, return_counts=True)
    return found[:, :1], found[:, 1], {"sample_weight": times}


def waiting(rng, n=200):
    """Draw gamma variables of shape 2."""
    X, mean = rows(rng, n)
    return X, rng.gamma(2.0, np.exp(mean) / 2), {}


def labels(rng, n=300):
    """Draw labels of a logit."""
    X, mean = rows(rng, n)
    return X, (rng.logistic(size=n) < mean).astype(int), {}


def clusters(rng, n=300, size=5):
    """Draw a line in clusters that share their covariate and a part of the noise."""
    groups = np.repeat(np.arange(n), size)
    X = np.repeat(rng.normal(size=(n, 1)), size, axis=0) + 0.5 * rng.normal(size=(n * size, 1))
    y = line(LINE, X) + np.repeat(rng.normal(size=n), size) + rng.normal(size=n * size)
    return X, y, {"groups": groups}


def precise(rng, n=100):
    """Draw a line whose variances are known up to a factor."""
    X, mean = rows(rng, n)
    weight = rng.uniform(0.2, 5.0, size=n)
    return X, mean + rng.normal(size=n) / np.sqrt(weight), {"sample_weight": weight}


def sampled(rng, n=1500):
    """Draw rows with probabilities that depend on y, and their inverses as weights."""
    X, mean = rows(rng, 4 * n)
    y = mean + rng.normal(size=4 * n)
    chance = np.where(y > 1, 0.4, 0.1)
    chosen = rng.random(4 * n) < chance
    return X[chosen], y[chosen], {"sample_weight": 1 / chance[chosen]}


def curve(rng, n=60, noise=0.1):
    """Draw a decay."""
    X = np.linspace(0, 4, n)[:, None]
    return X, decay(DECAY, X) + noise * rng.normal(size=n), {}


def uneven_curve(rng, n=1500):
    """Draw a decay whose noise falls with it."""
    X = np.linspace(0, 4, n)[:, None]
    mean = decay(DECAY, X)
    return X, mean + 0.2 * mean * rng.normal(size=n), {}


def of_rate(method, **settings):
    """Return the interval of the rate by a method."""

    def interval(result, rng):
        drawn = {"random_state": int(rng.integers(2**31)), **settings} if method == "bootstrap" else settings
        found = result.confidence_intervals(LEVEL, method=method, parameters="rate", **drawn)
        return (*found[0], DECAY["rate"])

    return interval


def of_prediction(kind):
    """Return the interval of a mean or an observation at a fixed row."""

    def interval(result, rng):
        at = np.array([[0.7]])
        found = result.predict(at, interval=kind, level=LEVEL)
        truth = decay(DECAY, at)[0] + (0.1 * rng.normal() if kind == "observation" else 0.0)
        return found.low[0], found.high[0], truth

    return interval


def of_half_life(result, rng):
    """Return the interval of a function by the delta method."""
    found = result.delta(lambda params: np.log(2) / params["rate"])
    half = result._quantile(LEVEL) * found.standard_error
    return found.value - half, found.value + half, np.log(2) / DECAY["rate"]


def by_lbfgs(loss, estimator=AnalyticRegressor, **settings):
    """Return what makes a line under a loss, fitted by L-BFGS."""
    return lambda: of_line(loss, estimator, optimizer="lbfgs", **settings)


DESIGNS = {
    "gauss_newton, line": Design("n=100, normal noise", even),
    "gauss_newton, precision weights": Design("n=100, variances 1/w", precise, settings={"weights": "precision"}),
    "gauss_newton, decay": Design("n=60, noise 5 % of the height", curve, of_decay, interval=of_rate("wald")),
    "hessian, poisson": Design("n=200", counts, by_lbfgs("poisson")),
    "hessian, poisson, frequency weights": Design("n=400 in some 40 rows", repeated, by_lbfgs("poisson")),
    "hessian, gamma, dispersion": Design("n=200, shape 2", waiting, by_lbfgs("gamma")),
    "hessian, logit": Design("n=300", labels, by_lbfgs("log_loss", AnalyticClassifier)),
    "opg, poisson": Design(
        "n=1500", lambda rng: counts(rng, 1500), by_lbfgs("poisson"), settings={"covariance": "opg"}
    ),
    "adam, polished": Design(
        "n=100, normal noise, 20 epochs",
        even,
        lambda: of_line(optimizer="adam", max_iter=20, tol=None, random_state=0),
        settings={"polish": True},
    ),
    "HC0, line": Design("n=1500, uneven noise", lambda rng: uneven(rng, 1500), settings={"covariance": "HC0"}),
    "HC3, line": Design("n=100, uneven noise", lambda rng: uneven(rng, 100), settings={"covariance": "HC3"}),
    "HC0, decay": Design(
        "n=1500, uneven noise", uneven_curve, of_decay, settings={"covariance": "HC0"}, interval=of_rate("wald")
    ),
    "HC0, poisson": Design("n=1500, overdispersed", overdispersed, by_lbfgs("poisson"), settings={"covariance": "HC0"}),
    "HC0, huber": Design("n=1500, t noise of 3 degrees", heavy, by_lbfgs("huber")),
    "HC0, quantile": Design("n=1500, t noise of 3 degrees", heavy, by_lbfgs("quantile")),
    "HC0, sampling weights": Design("n=1100, drawn by y", sampled, settings={"weights": "sampling"}),
    "cluster, line": Design("300 clusters of 5", clusters),
    "delta, half-life": Design("decay, n=60", curve, of_decay, interval=of_half_life),
    "predict, mean": Design("decay, n=60", curve, of_decay, interval=of_prediction("mean")),
    "predict, observation": Design("decay, n=60", curve, of_decay, interval=of_prediction("observation")),
    "profile, decay": Design(
        "n=20, noise 10 % of the height",
        lambda rng: curve(rng, 20, 0.2),
        of_decay,
        interval=of_rate("profile"),
        share=0.5,
    ),
    "bootstrap, decay": Design(
        "n=200, noise 5 % of the height, 199 resamples",
        lambda rng: curve(rng, 200),
        of_decay,
        interval=of_rate("bootstrap", n_resamples=199),
        share=0.1,
    ),
}


def covered(design, rng):
    """Return whether the interval of one fit holds the truth."""
    X, y, given = design.draw(rng)
    model = design.model().fit(X, y, sample_weight=given.get("sample_weight"))
    low, high, truth = design.interval(infer(model, X, y, **given, **(design.settings or {})), rng)
    return low <= truth <= high


def measure(options):
    """Yield a figure for each design."""
    for name, design in DESIGNS.items():
        if not options.picks(name):
            continue
        n = max(QUICK, round((QUICK if options.quick else FITS) * design.share))
        rng = np.random.default_rng(0)
        share = np.mean([covered(design, rng) for _ in range(n)])
        chance = 0.0 if n == FITS else 4 * (LEVEL * (1 - LEVEL) / n) ** 0.5  # of fewer fits
        yield Figure(
            ROW,
            name,
            ours=100 * share,
            peers=100 * LEVEL,
            difference=abs(share - LEVEL),
            tolerance=ALLOWED + chance,
            note=f"{design.words}; {n} fits",
            unit="%",
        )


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
