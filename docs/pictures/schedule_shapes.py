"""The picture of the schedules that change, beside each other."""

import numpy as np
from matplotlib import pyplot as plt

from sk_analytic.optimizers import (
    SGD,
    Cosine,
    Exponential,
    InverseSquareRoot,
    InverseTime,
    Joined,
    OneCycle,
    Piecewise,
    Polynomial,
    ReduceOnPlateau,
    Step,
    WarmUp,
)

LENGTH = 100
LOSSES = [1.2 - 0.5 * min(k, 20) / 20 - 0.3 * min(max(k - 50, 0), 10) / 10 for k in range(LENGTH)]
SHAPES = {
    "Exponential": Exponential(1.0, decay=0.5, every=20),
    "InverseTime": InverseTime(1.0, decay=1.0, every=10),
    "Polynomial": Polynomial(1.0, length=80, final=0.1),
    "Step": Step(1.0, every=30, factor=0.5),
    "Piecewise": Piecewise([0.5, 1.0, 0.2], boundaries=[20, 60]),
    "Cosine": Cosine(1.0, length=80),
    "Cosine, restarts": Cosine(1.0, length=15, restarts=True, growth=2),
    "InverseSquareRoot": InverseSquareRoot(1.0, warm_up=15),
    "OneCycle": OneCycle(1.0, length=100),
    "WarmUp": WarmUp(15, then=Cosine(1.0, length=85)),
    "Joined": Joined([0.5, Exponential(1.0, decay=0.9), 0.1], boundaries=[20, 60]),
    "ReduceOnPlateau": ReduceOnPlateau(1.0, factor=0.5),
}


def values(schedule):
    """Return a schedule's values at steps that are epochs too, with the losses above."""
    state = SGD().init(np.zeros(1))
    for k in range(LENGTH):
        state.step = state.epoch = k
        yield schedule.at(state)
        state.loss_curve.append(LOSSES[k])


def draw():
    """Draw the picture."""
    _, panels = plt.subplots(4, 3, figsize=(7.2, 6.6), sharex=True, sharey=True, layout="constrained")
    for axes, (name, schedule) in zip(panels.flat, SHAPES.items(), strict=True):
        if name == "ReduceOnPlateau":
            axes.plot(LOSSES, color="0.6", linewidth=1)
            axes.text(97, LOSSES[-1] + 0.06, "loss", color="0.4", fontsize=10, ha="right")
        axes.step(range(LENGTH), list(values(schedule)), where="post", linewidth=1.8)
        axes.set_title(name, fontsize=11)
        axes.set(xlim=(0, LENGTH - 1), ylim=(0, 1.3), xticks=[0, 50], yticks=[0, 0.5, 1])
        axes.tick_params(labelsize=10)
    for axes in panels[:, 0]:
        axes.set_ylabel("value", fontsize=10.5)
    for axes in panels[-1]:
        axes.set_xlabel("steps or epochs", fontsize=10.5)
