"""The picture of what `fit` does with the data, from the arrays that it receives to the parameters that it learns."""

from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch, Patch

YOURS, OURS, EDGE = "#fde3c8", "#dbe9f6", "#33566f"
HEIGHT = 1.25


def box(axes, left, bottom, width, title, text, *, yours=False, height=HEIGHT):
    """Draw a box with a title and a few words."""
    look = {"facecolor": YOURS if yours else OURS, "edgecolor": "#b35806" if yours else EDGE}
    shape = "round,pad=0,rounding_size=0.12"
    axes.add_patch(FancyBboxPatch((left, bottom), width, height, shape, linewidth=2 if yours else 1, **look))
    axes.text(left + width / 2, bottom + height - 0.22, title, ha="center", va="center", fontsize=10.5, weight="bold")
    place = {"ha": "center", "va": "center", "fontsize": 9, "linespacing": 1.2}
    axes.text(left + width / 2, bottom + (height - 0.36) / 2, text, **place)


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
    axes.text(left + 0.15, bottom + height - 0.2, text, fontsize=9, color="0.25", style="italic", va="center")


def draw():
    """Draw the picture."""
    figure, axes = plt.subplots(figsize=(8.2, 6.2), layout="constrained")
    box(axes, 0.2, 6.0, 2.2, "You pass", "X, y\nsample_weight\nother data, by name", yours=True)
    box(axes, 3.0, 6.0, 2.2, "Validate", "shapes, finite numbers\nclasses, weights\nfloat32 stays float32")
    box(axes, 5.8, 6.0, 2.2, "Hold out", "validation samples\nif early_stopping")
    box(axes, 8.6, 6.0, 2.2, "Check", "your gradient, once,\nagainst differences\nof the loss")
    for left in (2.4, 5.2, 8.0):
        arrow(axes, (left, 6.62), (left + 0.6, 6.62))

    frame(axes, 0.0, -0.4, 11.0, 5.95, "each epoch")
    box(axes, 0.2, 3.72, 2.2, "Shuffle", "a new order, by\nrandom_state")
    arrow(axes, (9.7, 6.0), (9.7, 5.72), (1.3, 5.72), (1.3, 4.97))

    frame(axes, 2.8, 1.85, 8.0, 3.5, "each minibatch, or all samples for L-BFGS and other full-batch methods")
    box(axes, 3.0, 3.72, 2.2, "Your model", "forward and gradient,\nvjp, jacobian, or\nloss_and_gradient", yours=True)
    box(axes, 5.8, 3.72, 2.2, "Objective", "mean over the batch\nloss, weights, alpha")
    box(axes, 8.4, 3.72, 2.2, "Transform", "clipping, weight decay,\n... in a chain")
    box(axes, 8.4, 2.05, 2.2, "Optimizer", "Adam, SGD, ...,\nlearning rate,\nschedules")
    box(axes, 5.8, 2.05, 2.2, "Constrain", "bounds, maps, fixed")
    box(axes, 3.0, 2.05, 2.2, "Parameters", "written in place,\nread-only for you")
    arrow(axes, (2.4, 4.35), (3.0, 4.35))
    arrow(axes, (5.2, 4.35), (5.8, 4.35))
    arrow(axes, (8.0, 4.35), (8.4, 4.35))
    arrow(axes, (9.5, 3.72), (9.5, 3.3))
    arrow(axes, (8.4, 2.67), (8.0, 2.67))
    arrow(axes, (5.8, 2.67), (5.2, 2.67))
    arrow(axes, (4.1, 3.3), (4.1, 3.72))

    box(axes, 3.0, 0.2, 2.2, "Score", "loss_curve_\nvalidation_scores_")
    box(axes, 5.8, 0.2, 2.2, "Stop?", "no improvement,\nmax_iter, next phase")
    box(axes, 8.4, 0.2, 2.2, "You get", "params_: the last, an\naverage, or the best", yours=True)
    arrow(axes, (4.1, 2.05), (4.1, 1.45))
    arrow(axes, (5.2, 0.82), (5.8, 0.82))
    arrow(axes, (8.0, 0.82), (8.4, 0.82))
    arrow(axes, (6.9, 0.2), (6.9, -0.12), (1.3, -0.12), (1.3, 3.72))
    axes.text(8.2, 0.95, "yes", fontsize=9, ha="center")
    axes.text(7.0, 0.02, "no", fontsize=9, va="center")

    patches = [Patch(facecolor=YOURS, edgecolor="#b35806", linewidth=2), Patch(facecolor=OURS, edgecolor=EDGE)]
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": 2, "frameon": False, "fontsize": 9}
    axes.legend(patches, ["yours", "what fit does"], **place)
    axes.set(xlim=(-0.05, 11.05), ylim=(-0.45, 7.3), aspect="equal")
    axes.set_axis_off()
