"""The picture of what `fit` does with the data, from the arrays that it receives to the parameters that it learns."""

from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch, Patch

YOURS, OURS, EDGE = "#fde3c8", "#dbe9f6", "#33566f"
WIDTH, HEIGHT = 2.45, 1.5
LEFTS = 0.2, 3.0, 5.8, 8.6
TEXT = 10.5  # points; the picture is shown in its own size


def box(axes, left, bottom, title, text, *, yours=False, width=WIDTH, height=HEIGHT, size=TEXT):
    """Draw a box with a title and a few words."""
    look = {"facecolor": YOURS if yours else OURS, "edgecolor": "#b35806" if yours else EDGE}
    shape = "round,pad=0,rounding_size=0.12"
    axes.add_patch(FancyBboxPatch((left, bottom), width, height, shape, linewidth=2 if yours else 1, **look))
    place = {"ha": "center", "va": "center"}
    axes.text(left + width / 2, bottom + height - 0.25, title, fontsize=size + 1.5, weight="bold", **place)
    axes.text(left + width / 2, bottom + (height - 0.4) / 2, text, fontsize=size, linespacing=1.2, **place)


def arrow(axes, *points):
    """Draw an arrow along some points."""
    style = {"color": EDGE, "linewidth": 1.4, "solid_joinstyle": "round"}
    axes.plot(*zip(*points, strict=True), **style)
    head = {"arrowstyle": "-|>", "color": EDGE, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", points[-1], points[-2], arrowprops=head)


def frame(axes, left, bottom, width, height, text):
    """Draw a dashed frame around what is repeated, with its name."""
    shape = "round,pad=0,rounding_size=0.15"
    style = {"facecolor": "none", "edgecolor": "0.45", "linestyle": (0, (4, 3))}
    axes.add_patch(FancyBboxPatch((left, bottom), width, height, shape, **style))
    axes.text(left + 0.15, bottom + height - 0.21, text, fontsize=TEXT, color="0.25", style="italic", va="center")


def draw():
    """Draw the picture."""
    figure, axes = plt.subplots(figsize=(8.2, 7.0), layout="constrained")
    first, second, third, fourth = LEFTS
    box(axes, first, 7.1, "You pass", "X, y\nsample_weight\nother data, by name", yours=True)
    box(axes, second, 7.1, "Validate", "shapes and classes,\nfinite numbers,\nfloat32 stays float32")
    box(axes, third, 7.1, "Hold out", "validation samples\nif early_stopping")
    box(axes, fourth, 7.1, "Check", "your gradient, once,\nagainst differences\nof the loss")
    for left in LEFTS[1:]:
        arrow(axes, (left - 2.8 + WIDTH, 7.85), (left, 7.85))

    frame(axes, 0.0, -0.4, 11.3, 7.1, "each epoch")
    box(axes, first, 4.3, "Shuffle", "a new order, by\nrandom_state")
    arrow(axes, (9.825, 7.1), (9.825, 6.88), (1.425, 6.88), (1.425, 5.8))

    frame(axes, 2.8, 2.2, 8.4, 4.05, "each minibatch, or all samples for L-BFGS and other full-batch methods")
    box(axes, second, 4.3, "Your model", "forward and gradient,\nvjp, jacobian, or\nloss_and_gradient", yours=True)
    box(axes, third, 4.3, "Objective", "mean over the batch\nloss, weights, alpha")
    box(axes, fourth, 4.3, "Transform", "clipping,\nweight decay, ...\nin a chain")
    box(axes, fourth, 2.35, "Optimizer", "Adam, SGD, ...,\nlearning rate,\nschedules")
    box(axes, third, 2.35, "Constrain", "bounds, maps, fixed")
    box(axes, second, 2.35, "Parameters", "written in place,\nread-only for you")
    for left in LEFTS[1:]:
        arrow(axes, (left - 2.8 + WIDTH, 5.05), (left, 5.05))
    arrow(axes, (9.825, 4.3), (9.825, 3.85))
    arrow(axes, (8.6, 3.1), (8.25, 3.1))
    arrow(axes, (5.8, 3.1), (5.45, 3.1))
    arrow(axes, (4.225, 3.85), (4.225, 4.3))

    box(axes, second, 0.2, "Score", "loss_curve_\nvalidation_scores_")
    box(axes, third, 0.2, "Stop?", "no improvement,\nmax_iter,\nnext phase", width=2.2)
    box(axes, fourth, 0.2, "You get", "params_: the last, an\naverage, or the best", yours=True)
    arrow(axes, (4.225, 2.35), (4.225, 1.7))
    arrow(axes, (5.45, 0.95), (5.8, 0.95))
    arrow(axes, (8.0, 0.95), (8.6, 0.95))
    arrow(axes, (6.9, 0.2), (6.9, -0.15), (1.425, -0.15), (1.425, 4.3))
    axes.text(8.3, 1.12, "yes", fontsize=TEXT, ha="center")
    axes.text(7.05, 0.0, "no", fontsize=TEXT, va="center")

    patches = [Patch(facecolor=YOURS, edgecolor="#b35806", linewidth=2), Patch(facecolor=OURS, edgecolor=EDGE)]
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": 2, "frameon": False, "fontsize": TEXT}
    axes.legend(patches, ["yours", "what fit does"], **place)
    axes.set(xlim=(-0.05, 11.35), ylim=(-0.45, 8.7), aspect="equal")
    axes.set_axis_off()
