"""Diagrams of a chain of links, of training in chunks, and of training on a cluster."""

from matplotlib import pyplot as plt
from way_of_data import arrow, frame
from way_of_data import box as drawn


def canvas(width, height, scale=0.76):
    """Axes without a frame, in the units of boxes."""
    _, axes = plt.subplots(figsize=(width * scale, height * scale), layout="constrained")
    axes.set(xlim=(-0.05, width + 0.05), ylim=(-0.05, height + 0.05), aspect="equal")
    axes.set_axis_off()
    return axes


def box(axes, left, bottom, width, title, text, *, yours=False, height=1.25):
    """Draw a box of some size."""
    drawn(axes, left, bottom, title, text, yours=yours, width=width, height=height, size=9)


def links():
    """Draw the chain of the page: what passes from link to link."""
    axes = canvas(11.0, 4.2)
    frame(axes, 0.0, 2.25, 8.1, 1.95, "the gradient, then the direction")
    box(axes, 0.2, 2.4, 1.7, "ClipNorm", "clips\nthe gradient")
    box(axes, 2.2, 2.4, 1.7, "WeightDecay", "adds a penalty's\ngradient")
    box(axes, 4.2, 2.4, 1.7, "Adam", "the rule: makes\na direction", yours=True)
    box(axes, 6.2, 2.4, 1.7, "WeightDecay", "adds a decay\nto the direction")
    box(axes, 9.0, 2.4, 1.9, "Step", "θ minus learning\nrate × direction")
    box(axes, 9.0, 0.2, 1.9, "Exponential\nAverage", "")
    axes.texts[-2].set(y=0.82, va="center")
    box(axes, 6.0, 0.2, 2.1, "You get", "predictions by the\naverage of θ")
    for left, right in ((1.9, 2.2), (3.9, 4.2), (5.9, 6.2), (7.9, 9.0)):
        arrow(axes, (left, 3.02), (right, 3.02))
    arrow(axes, (9.95, 2.4), (9.95, 1.45))
    axes.text(9.8, 1.92, "new θ", fontsize=9, ha="right", va="center")
    arrow(axes, (9.0, 0.82), (8.1, 0.82))


def chunks():
    """Draw how chunks are read."""
    axes = canvas(10.9, 3.5)
    frame(axes, 0.0, 0.0, 2.6, 3.5, "on disk")
    for number in range(4):
        box(axes, 0.2, 2.4 - 0.75 * number, 2.2, f"chunk {number}", "", height=0.62)
        axes.texts[-2].set(y=2.71 - 0.75 * number)
    frame(axes, 3.5, 0.0, 7.4, 3.5, "in memory")
    box(axes, 3.7, 1.0, 2.0, "One chunk", "is loaded, and\nits samples are\nshuffled", height=1.5)
    box(axes, 6.2, 1.0, 2.0, "Minibatches", "of this chunk, one\nafter another", height=1.5)
    box(axes, 8.7, 1.0, 2.0, "Your model", "loss and gradient,\nthen an update", yours=True, height=1.5)
    arrow(axes, (2.6, 1.75), (3.7, 1.75))
    axes.text(3.05, 1.9, "one at\na time", fontsize=9, ha="center")
    arrow(axes, (5.7, 1.75), (6.2, 1.75))
    arrow(axes, (8.2, 1.75), (8.7, 1.75))
    arrow(axes, (9.7, 1.0), (9.7, 0.45), (4.7, 0.45), (4.7, 1.0))
    axes.text(7.2, 0.6, "next chunk", fontsize=9, ha="center")


def cluster():
    """Draw what passes between your process and the workers."""
    axes = canvas(10.9, 3.9)
    frame(axes, 0.0, 0.0, 3.4, 3.9, "your process")
    box(axes, 0.2, 2.1, 3.0, "Parameters", "of each step; callbacks,\nearly stopping")
    box(axes, 0.2, 0.3, 3.0, "Optimizer", "takes the step")
    arrow(axes, (1.7, 1.55), (1.7, 2.1))
    frame(axes, 5.8, 0.0, 5.1, 3.9, "workers, which hold the chunks")
    for number, bottom in enumerate((2.1, 0.3)):
        box(axes, 6.0, bottom, 2.1, f"worker {number + 1}", f"chunks {2 * number}, {2 * number + 1}")
        box(axes, 8.6, bottom, 2.1, "Your model", "loss and gradient\nof these chunks", yours=True)
        arrow(axes, (8.1, bottom + 0.62), (8.6, bottom + 0.62))
    arrow(axes, (3.2, 2.95), (5.8, 2.95))
    axes.text(4.55, 3.05, "θ", fontsize=10, ha="center")
    arrow(axes, (5.8, 0.92), (3.2, 0.92))
    axes.text(4.6, 1.05, "sum of losses\nand gradients", fontsize=9, ha="center")
