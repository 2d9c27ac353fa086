"""The picture of schedules with two settings each."""

from matplotlib import pyplot as plt

from sk_analytic.optimizers import Cosine, OneCycle, Polynomial

LENGTH = 100
PAIRS = {
    "Polynomial": {
        "power=1.0": Polynomial(1.0, length=80, final=0.1),
        "power=2.0": Polynomial(1.0, length=80, final=0.1, power=2.0),
    },
    "Cosine": {
        "length=80": Cosine(1.0, length=80),
        "restarts=True": Cosine(1.0, length=15, restarts=True, growth=2),
    },
    "OneCycle": {
        "learning rate": OneCycle(1.0, length=100),
        "momentum": OneCycle(0.85, length=100, initial=0.95, final=0.95),
    },
}


def draw():
    """Draw the picture."""
    _, panels = plt.subplots(1, 3, figsize=(8.4, 3.0), sharex=True, sharey=True, layout="constrained")
    for axes, (name, settings) in zip(panels, PAIRS.items(), strict=True):
        for (label, schedule), style in zip(settings.items(), ("-", "--"), strict=True):
            values = [schedule(step=k, epoch=k) for k in range(LENGTH)]
            axes.step(range(LENGTH), values, style, where="post", label=label)
        axes.set_title(name, fontsize=11, pad=22)
        axes.set(xlim=(0, LENGTH - 1), ylim=(0, 1.08), xlabel="steps or epochs")
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.98), "borderaxespad": 0.2}
        axes.legend(ncols=2, frameon=False, fontsize=9, columnspacing=1.0, handlelength=1.6, **place)
    panels[0].set_ylabel("value")
