"""Where the time of a step goes: each part of it, as often as in a fit, over a whole step.

What the parts do not add up to is the loop itself, and caches that one part leaves cold for the next.
"""

import math
import sys
from itertools import count, cycle

import numpy as np

from sk_analytic.losses import LogLoss, SquaredError
from sk_analytic.model.callables import Callables
from sk_analytic.objective import Objective
from sk_analytic.optimizers import Adam
from sk_analytic.parameters import Layout, Parameters
from sk_analytic.training.minibatches import steps

from .figures import Figure
from .loop_tax import ready
from .models import digits_problem, problem_of_size, regression_problem
from .ours import engine_names, on_engine, rows_of
from .timing import compare

ROW = "step"
BATCHES = (32, 200)
N_ROWS = 10_000
SIZES = (10, 1_000, 1_000_000)  # of θ, beside the two networks of `whole_fit`
N_STEPS = 200


def measure(options):
    """Yield a figure for each problem, form of the gradient, engine and part of a step."""
    for problem in _problems(options):
        for form in ("loss_and_gradient", "vjp"):
            for engine in engine_names(options.engines):
                if options.picks(problem.name):
                    yield from _parts(options, problem, form, engine)


def _problems(options):
    for dtype in map(np.dtype, options.dtypes):
        for batch_size in options.batch_sizes_or(BATCHES, (32,)):
            yield regression_problem(N_ROWS, dtype, batch_size=batch_size)
            yield digits_problem(dtype, batch_size=batch_size)
            for size in options.sizes_or(SIZES, (10,)):
                yield problem_of_size(size, N_ROWS, dtype, batch_size=batch_size)


def _parts(options, problem, form, engine):
    n_steps = 10 if options.quick else max(5, min(N_STEPS, 10**7 // Layout.of(problem.start).size))
    step = on_engine(engine, lambda: _Step(problem, form))()
    case = f"{problem.name} {step.layout.size} parameters {problem.X.dtype} batch {problem.batch_size} {form} {engine}"
    for name, part in step.parts().items():
        pair = compare(_repeated(part, n_steps), _repeated(step.whole(), n_steps), **options.pairing)
        per_step = pair._replace(ours=pair.ours / n_steps, peer=pair.peer / n_steps)
        yield Figure.of(ROW, f"{case}: {name}", "a step", per_step)


def _repeated(function, n):
    def run():
        for _ in range(n):
            function()

    return run


class _Step:
    """What a fit has made when its first step begins."""

    def __init__(self, problem, form):
        self.problem, self.form = problem, form
        self.layout = Layout.of(problem.start, problem.X.dtype)
        self.theta = Parameters(self.layout, self.layout.flatten(problem.start))
        self.rows = rows_of(problem)
        forms = {form: getattr(problem.model, form)}
        model = Callables(forward=problem.model.forward, forms=forms, columns=("y",), init=problem.start)
        self.objective = Objective(model, LogLoss() if problem.n_classes else SquaredError(), self.layout)
        self.optimizer = Adam(learning_rate=problem.rate)
        self.state = self.optimizer.init(self.theta.vector)

    def whole(self):
        """Return a function that takes the next step."""
        taken = steps(self.objective, self.theta, self.optimizer, self.state, self.rows)
        return lambda: next(taken)

    def parts(self):
        """Return a function for each part of a step."""
        theta, objective = self.theta, self.objective
        batches = cycle(ready(self.rows, self.problem))
        partial = objective.contribution(theta, next(batches))
        grads = self.layout.unflatten([block.copy() for block in self.layout.blocks(partial.gradient)])
        positions = ((epoch, step) for epoch in count() for step in range(self.rows.steps_per_epoch))
        vector, gradient, blocks = theta.vector.copy(), partial.gradient, self.layout.blocks(partial.gradient)
        parts = {
            "the callables": self._callables(batches),
            "drawing and gathering rows": lambda: self.rows.batch(*next(positions)),
            "the callables with their binding, loss and checks": lambda: objective.contribution(theta, next(batches)),
            "reading the gradient": lambda: self.layout.read_gradient(grads, blocks, self.form),
            "is the gradient finite": lambda: math.isfinite(np.vdot(gradient, gradient)),
            "likewise, entry by entry (not done)": lambda: np.isfinite(gradient).all(),
            "the update": lambda: self.optimizer.update(self.state, vector, gradient),
        }
        if self.form == "vjp":
            batch = next(batches)
            prediction = objective.predictions(theta.structure, batch)
            parts["the loss"] = lambda: objective.loss.value_and_derivative(batch.y, prediction)
        return parts

    def _callables(self, batches):
        params, function = self.theta.structure, getattr(self.problem.model, self.form)
        if self.form != "vjp":
            return lambda: function(params, (batch := next(batches)).X, batch.y)
        derivative = np.zeros_like(self.objective.predictions(params, next(batches)))
        return lambda: function(params, next(batches).X)[1](derivative)


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
