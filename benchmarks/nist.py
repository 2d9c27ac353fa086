"""NIST's nonlinear regression problems from both of their starts: how many runs end in the certified parameters.

All sides get the same curve, exact derivative and start, at default settings where a row does not say otherwise. Ours
check the gradient as well.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import scipy.optimize

from sk_analytic import AnalyticRegressor

from . import peers
from .figures import Figure

ROW = "nist"
DIGITS = (6, 8)
TIGHT = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
METHODS = ("trf", "lm", "dogbox")
QUICK = ("DanWood", "Misra1a", "Rat42")


def measure(options):
    """Yield a figure for each of our methods, each peer and each number of digits."""
    nist = _problems()
    names = [name for name in nist.MODELS if options.picks(name) and (not options.quick or name in QUICK)]
    runs = [(nist.read(name), *nist.functions(name), start) for name in names for start in (0, 1)]
    for method in METHODS:
        ours = _digits(lambda *run, method=method: _fit(method, *run), runs)
        for peer, theirs in _peers(method).items():
            if not options.meets(peer):
                continue
            if theirs is None:
                yield Figure(ROW, method, peer, note=peers.why_missing("lmfit"))
                continue
            reached = _digits(theirs, runs)
            for digits in DIGITS:
                yield Figure(
                    ROW,
                    f"{method}, {digits} digits of {len(runs)}",
                    peer,
                    ours=float(np.sum(ours >= digits)),
                    peers=float(np.sum(reached >= digits)),
                    unit="runs",
                )


def _problems():
    """Return the module of the tests that has the problems."""
    path = Path(__file__).parents[1] / "tests" / "nist_problems.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _digits(fit, runs):
    """Return how many digits of the parameters are right after each run, in the worst of them; 0 if it fails."""
    digits = []
    for problem, forward, jacobian, start in runs:
        with np.errstate(all="ignore"):
            try:
                params = fit(problem, forward, jacobian, problem.starts[start].copy())
                error = np.max(np.abs(params / problem.parameters - 1))
            except (ValueError, RuntimeError, FloatingPointError, np.linalg.LinAlgError):
                error = np.inf
        digits.append(-np.log10(error) if 0 < error < 1 else 16.0 if error == 0 else 0.0)
    return np.array(digits)


def _fit(method, problem, forward, jacobian, start):
    model = AnalyticRegressor(forward, jacobian=jacobian, init=start, optimizer=method)
    return model.fit(problem.X, problem.y).params_


def _peers(method):
    """Return who fits by the same method; beside trf, our default, also who fits curves by a default of its own."""

    def least_squares(problem, forward, jacobian, start, **tolerances):
        return scipy.optimize.least_squares(
            lambda b: forward(b, problem.X) - problem.y,
            start,
            jac=lambda b: jacobian(b, problem.X),
            method=method,
            **tolerances,
        ).x

    found = {
        f"scipy least_squares, {method}": least_squares,
        f"scipy least_squares, {method}, tolerances of 1e-15": lambda *run: least_squares(*run, **TIGHT),
    }
    return found | {"scipy curve_fit": _curve_fit, "lmfit": _lmfit()} if method == METHODS[0] else found


def _curve_fit(problem, forward, jacobian, start):
    return scipy.optimize.curve_fit(
        lambda X, *b: forward(np.array(b), X),
        problem.X,
        problem.y,
        p0=start,
        jac=lambda X, *b: jacobian(np.array(b), X),
    )[0]


def _lmfit():
    """Return a fit by lmfit, or None."""
    lmfit = peers.find("lmfit")
    if lmfit is None:
        return None

    def fit(problem, forward, jacobian, start):
        parameters = lmfit.create_params(**{f"b{index}": value for index, value in enumerate(start)})

        def values(params):
            return np.array([params[name].value for name in parameters])

        return values(
            lmfit.minimize(
                lambda params: forward(values(params), problem.X) - problem.y,
                parameters,
                Dfun=lambda params: jacobian(values(params), problem.X),
                col_deriv=False,
            ).params
        )

    return fit


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
