"""The picture of the scoreboard: how many times as fast we are, for the comparisons that a user would ask for."""

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

NETWORK = "regression n=10000 float64 batch 32 loss_and_gradient numpy"
DIGITS = "digits n=1797 float64 batch 200 loss_and_gradient numpy"
STEP = "adam numpy float64 8 blocks 1e+04"

# What is asked, against what, and the figure that answers: row, case, peer.
QUESTIONS = (
    ("Fit a network, minibatches", "skorch", "whole_fit", NETWORK, "skorch"),
    ("Fit a network, minibatches", "a torch loop", "whole_fit", NETWORK, "torch loop, fused"),
    ("Fit a network, minibatches", "MLPRegressor", "whole_fit", NETWORK, "sklearn MLP"),
    ("Fit a network, minibatches", "jax.jit and optax", "whole_fit", NETWORK, "jax jit + optax"),
    ("Fit a network, minibatches", "a bare NumPy loop", "whole_fit", NETWORK, "bare NumPy loop"),
    ("Classify digits, minibatches", "MLPClassifier", "whole_fit", DIGITS, "sklearn MLP"),
    (
        "Search a grid of 24 networks",
        "MLPClassifier",
        "grid_search",
        "digits n=1797, 24 candidates, 3 folds, 10 epochs",
        "sklearn MLP",
    ),
    (
        "Logistic regression, L-BFGS",
        "LogisticRegression",
        "linear_models",
        "logistic n=100000 float64, our lbfgs",
        "LogisticRegression",
    ),
    (
        "Linear regression, L-BFGS",
        "LinearRegression",
        "linear_models",
        "linear n=100000 float64, our lbfgs",
        "LinearRegression",
    ),
    ("One step of Adam, 8 arrays", "scikit-learn's Adam", "optimizer_step", STEP, "scikit-learn"),
    ("One step of Adam, 8 arrays", "torch, fused", "optimizer_step", STEP, "torch fused"),
    ("One step of Adam, 8 arrays", "optax under jit", "optimizer_step", STEP, "optax jit"),
    (
        "Adam on 100 rows of a million",
        "torch, sparse",
        "row_gradients",
        "adam float64 100 of 1e+06 rows",
        "torch sparse",
    ),
    ("Stream ten chunks", "fit on all rows", "chunks", "10 chunks of n=100000 float64 batch 200", "fit"),
    ("Fit a curve, 3 parameters", "lmfit", "curve_fit", "lm, jacobian", "lmfit"),
    ("Fit a curve, 3 parameters", "curve_fit", "curve_fit", "lm, jacobian", "scipy curve_fit"),
)
FASTER, SLOWER, GOAL = "#0072b2", "#d55e00", "#222222"
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)


def answers(figures):
    """The questions that figures answer, fastest first: the words, and the figure."""
    by_key = {(figure.row, figure.case, figure.peer): figure for figure in figures if figure.ratio}
    found = [(f"{what}, against {peer}", by_key.get(tuple(key))) for what, peer, *key in QUESTIONS]
    return sorted(((words, figure) for words, figure in found if figure), key=lambda answer: answer[1].ratio)


def draw(figures, path):
    """Draw a bar for each question that figures answer; no picture if they answer none.

    Parameters
    ----------
    figures : list of Figure
    path : Path
        Where to write it.
    """
    bars = answers(figures)
    if not bars:
        return
    drawing, axis = plt.subplots(figsize=(9, 0.36 * len(bars) + 1.2), layout="constrained")
    for height, (_, figure) in enumerate(bars):
        speed = 1 / figure.ratio
        color = FASTER if speed >= 1 else SLOWER
        axis.barh(height, speed - 1, left=1, color=color, height=0.66)
        axis.plot([1 / figure.high, 1 / figure.low], [height, height], color="0.25", lw=1)
        at = {"xycoords": axis.get_yaxis_transform(), "va": "center", "ha": "right", "weight": "bold", "color": color}
        axis.annotate(f"{speed:.2g}×", (1.09, height), **at)
        if figure.goal is not None:
            axis.plot([1 / figure.goal] * 2, [height - 0.45, height + 0.45], color=GOAL, lw=2)
    axis.plot([], [], color=GOAL, lw=2, label="goal")
    axis.plot([], [], color="0.25", lw=1, label="range between the quartiles")
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    axis.axvline(1, color="black", lw=0.8)
    axis.set_xscale("log")
    axis.set_xlim(
        min(0.08, *(0.8 / figure.high for _, figure in bars)), max(25, *(1.1 / figure.low for _, figure in bars))
    )
    axis.xaxis.set_major_locator(FixedLocator(TICKS))
    axis.xaxis.set_major_formatter("{x:g}×")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("times as fast as the other library (right of 1×: sk_analytic is faster)")
    axis.set_yticks(range(len(bars)), [words for words, _ in bars])
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", color="0.9", lw=0.6)
    axis.set_axisbelow(True)
    drawing.savefig(path, dpi=150)
    plt.close(drawing)
