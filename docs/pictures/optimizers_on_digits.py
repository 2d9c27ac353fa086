"""The picture of the table of the page "Choose an optimizer": accuracy against seconds."""

from matplotlib import pyplot as plt

# Name: accuracy, seconds, and where the name is written, in points from the mark.
FULL_BATCH = {
    "lbfgs": (0.954, 0.04, (7, -10)),
    "tnc": (0.969, 0.19, (0, 7)),
    "newton-cg": (0.966, 0.36, (0, -13)),
    "trust-ncg": (0.963, 0.96, (0, 7)),
    "slsqp": (0.960, 11, (0, 7)),
    "bfgs": (0.952, 22, (0, -14)),
}
MINIBATCH = {
    "adam and others": (0.964, 0.033, (0, 8)),
    "schedule_free_adamw": (0.949, 0.034, (7, -13)),
    "dog": (0.915, 0.031, (7, -3)),
    "adagrad": (0.908, 0.028, (7, -6)),
    "signum": (0.887, 0.028, (7, -3)),
    "lion": (0.873, 0.031, (7, -3)),
}


def draw():
    """Draw the picture."""
    _, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    groups = {"full-batch method": (FULL_BATCH, "o"), "minibatch optimizer": (MINIBATCH, "^")}
    for label, (group, marker) in groups.items():
        accuracy, seconds, _ = zip(*group.values(), strict=True)
        axes.plot(seconds, accuracy, marker, label=label)
        for name, (height, second, offset) in group.items():
            align = "left" if offset[0] else "center"
            axes.annotate(name, (second, height), offset, textcoords="offset points", ha=align, fontsize=9)
    axes.set(
        xscale="log",
        xticks=[0.1, 1, 10],
        xticklabels=["0.1", "1", "10"],
        xlim=(0.012, 50),
        ylim=(0.86, 0.985),
        xlabel="seconds",
        ylabel="accuracy on held-out samples",
    )
    axes.legend(loc="lower right", frameon=False)
