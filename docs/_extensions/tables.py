"""Tables of the documentation, drawn from the classes: optimizers, losses, faults, and the names of the reference."""

import functools
import inspect
import re
from importlib import import_module
from pathlib import Path

from sk_analytic import get_optimizer, get_optimizer_names
from sk_analytic.gradient_check import Cause
from sk_analytic.losses import get_loss, get_loss_names

DOCS = Path(__file__).parents[1]
GENERATED = DOCS / "generated"


def table(rows, *options, head=True):
    """Lines of a table in reStructuredText, its first row the head if there is one; a cell may have several lines."""
    lines = [".. list-table::", *(["   :header-rows: 1"] if head else []), *options, ""]
    for cells in rows:
        for index, cell in enumerate(cells):
            first, *rest = cell.splitlines()
            lines += [f"   {'* -' if index == 0 else '  -'} {first}", *(f"       {line}".rstrip() for line in rest)]
    return "\n".join(lines) + "\n"


def phrase(cls):
    """What a class is, for a table: the first line of its docstring, without its own name and citations."""
    line = re.sub(r" \[\w+\]_(, section [\d.]+\d)?", "", inspect.getdoc(cls).splitlines()[0])
    line = re.sub(r"(?<!`)`(\w+)`", r":class:`~sk_analytic.optimizers.\1`", re.sub(r"^\w+: ", "", line))
    return f"{line[0].upper()}{line[1:]}"


def table_of_optimizers():
    """The optimizers that have a name, in the groups of the reference."""
    classes = {type(get_optimizer(name)).__name__: name for name in get_optimizer_names()}
    module = import_module("sk_analytic.optimizers")
    parts = []
    for title, names in groups_of(module.__name__):
        rows = [
            (f':class:`"{classes[name]}" <sk_analytic.optimizers.{name}>`', phrase(getattr(module, name)))
            for name in names
            if name in classes
        ]
        if rows:
            parts.append(f".. rubric:: {title}\n\n{table(rows, '   :widths: 26 74', head=False)}")
    return "\n".join(parts)


# Of each loss the formula for a sample, the domain of y, and what is equal in scikit-learn.
LOSSES = {
    "squared_error": (
        r":math:`\frac12 r^2`",
        "any",
        ":class:`~sklearn.linear_model.LinearRegression` and :class:`~sklearn.linear_model.Ridge`, up to scaling",
    ),
    "absolute_error": (
        r":math:`|r|`",
        "any",
        "twice :class:`~sklearn.linear_model.QuantileRegressor` at its default quantile",
    ),
    "huber": (
        r":math:`\frac12 r^2` if :math:`|r| \le \varepsilon`, otherwise"
        r" :math:`\varepsilon |r| - \frac12 \varepsilon^2`",
        "any",
        "half :class:`~sklearn.linear_model.HuberRegressor` with sigma = 1",
    ),
    "quantile": (
        r":math:`-q\,r` if :math:`r \le 0`, otherwise :math:`(1 - q)\,r`",
        "any",
        ":class:`~sklearn.linear_model.QuantileRegressor`",
    ),
    "poisson": (":math:`e^f - y f`", r":math:`y \ge 0`", ":class:`~sklearn.linear_model.PoissonRegressor`"),
    "gamma": (":math:`f + y e^{-f}`", ":math:`y > 0`", ":class:`~sklearn.linear_model.GammaRegressor`"),
    "tweedie": (
        r":math:`\frac{e^{(2-p)f}}{2-p} - y\,\frac{e^{(1-p)f}}{1-p}`",
        r":math:`y \ge 0` if :math:`1 \le p < 2`, :math:`y > 0` if :math:`p \ge 2`, any if :math:`p \le 0`",
        ":class:`~sklearn.linear_model.TweedieRegressor`",
    ),
    "log_loss": (
        r":math:`\log(1 + e^f) - y f`, and the forms below",
        r"classes, or :math:`0 \le y \le 1`",
        ":class:`~sklearn.linear_model.LogisticRegression`",
    ),
    "negative_log_likelihood": (
        ":math:`-f`",
        "no y",
        "minus ``score_samples`` of :class:`~sklearn.neighbors.KernelDensity` and"
        " :class:`~sklearn.mixture.GaussianMixture`",
    ),
}


def table_of_losses():
    """The losses that have a name: class, parameters and link from the classes; those without a formula come last."""
    rows = [("name", "formula", "domain of y", "link", "equal in scikit-learn")]
    for name in sorted(get_loss_names(), key=[*LOSSES, *get_loss_names()].index):
        loss = get_loss(name)
        settings = ", ".join(f"``{setting}={default!r}``" for setting, default in loss.get_params().items())
        heading = f':class:`"{name}" <sk_analytic.losses.{type(loss).__name__}>` {settings}'.strip()
        formula, domain, equal = LOSSES.get(name, ("", "", ""))
        rows.append((heading, formula, domain, loss.link, equal))
    return table(rows, "   :widths: 31 25 13 9 22")


# The faults by what they concern, with the anchor of each group. A fault that no group has is among the last.
FAULTS = {
    ("Sign and scale", "scale"): (
        "sign factor sum_not_mean mean_not_sum fixed_divisor slice_factors rescaled clipped rounded penalty"
    ),
    ("Order and axes", "order"): (
        "transposed wrong_axis reversed shifted permuted blocks_swapped cumulative_sum projected"
    ),
    (
        "Factors and terms of the derivative",
        "factors",
    ): "missing_factor missing_term constant_term data_independent_term parametrization",
    ("Single entries and parameter arrays", "entries"): (
        "one_entry one_row one_column some_entries left_at_zero not_in_loss block_ignored through_block"
    ),
    ("Samples, classes and outputs", "samples"): (
        "rows_left_out class_left_out some_samples sample_factor sample_weight_ignored sample_weight_misused"
        " label_coding output_left_out outputs_swapped"
    ),
    ("Loss and link", "loss"): (
        "other_loss forward_applies_link output_derivative log_forgotten loss_disagrees forward_vjp_disagree"
    ),
    ("Activations", "activations"): "activation_derivative unit_sign",
    ("Recursions", "recursions"): "first_step last_step",
    ("Other data or parameters in loss and gradient", "data"): (
        "other_inputs other_targets feature_scaling stale_parameters constant_gradient"
    ),
    ("Side effects and values that are not finite", "effects"): "hidden_state modified_in_place gradient_not_finite",
    ("Other faults", "other"): "unexplained",
}


def table_of_causes(verdict):
    """The causes of findings with a verdict, from their classes: faults in groups, others by rank."""
    causes = sorted(Cause.table.values(), key=lambda cause: cause.rank)
    rows = {
        cause.identifier: (f"``{cause.identifier}``", cause.meaning) for cause in causes if cause.verdict == verdict
    }

    def drawn(names):
        return table([("cause", "meaning"), *(rows.pop(name) for name in names)], "   :widths: 26 74")

    if verdict != "wrong":
        return drawn(list(rows))
    groups = {heading: names.split() for heading, names in FAULTS.items()}
    listed = {name for names in groups.values() for name in names}
    groups["Other faults", "other"] += [name for name in rows if name not in listed]
    return "\n".join(
        f".. _causes-{anchor}:\n\n{title}\n{'~' * len(title)}\n\n{drawn(names)}"
        for (title, anchor), names in groups.items()
    )


# The groups of a module, by the names in them or by the file that their classes are in.
BY_NAME = {
    "sk_analytic.optimizers": {"Functions": ["get_optimizer", "get_optimizer_names", "use_engine"]},
    "sk_analytic": {
        "Estimators": ["AnalyticRegressor", "AnalyticClassifier", "AnalyticDensity", "AnalyticTransformer"],
        "Models as classes": ["Model", "Params", "Grads"],
        "Gradient check": ["check_gradient", "GradientReport", "Finding"],
        "Inference": ["infer", "Inference"],
        "Learning rates, starts and grids": [
            "find_learning_rate",
            "LearningRateSweep",
            "fit_from_starts",
            "MultistartFit",
            "optimizer_grid",
        ],
        "Optimizers, losses and scores by name": [
            "get_optimizer",
            "get_optimizer_names",
            "get_loss",
            "get_loss_names",
            "neg_mean_loss",
        ],
        "Saving and loading": ["save_params", "load_params", "trusted_types"],
        "Errors and warnings": [
            "DivergenceError",
            "GradientCheckError",
            "InferenceWarning",
            "ParameterStructureError",
            "ReceivedArgumentError",
        ],
    },
    "sk_analytic.losses": {
        "Regression": ["SquaredError", "AbsoluteError", "Huber", "Quantile"],
        "Counts and positive targets": ["Poisson", "Gamma", "Tweedie"],
        "Classification": ["LogLoss"],
        "Densities": ["NegativeLogLikelihood"],
        "Base class and names": ["Loss", "get_loss", "get_loss_names", "LOSSES"],
    },
    "sk_analytic.maps": {
        "Maps": ["Log", "Logit", "Ordered", "Simplex", "Cholesky"],
        "Base classes and names": ["Map", "ElementwiseMap", "get_map", "MAPS"],
    },
    "sk_analytic.search": {
        "Functions": ["find_learning_rate", "fit_from_starts", "optimizer_grid"],
        "Results": ["LearningRateSweep", "MultistartFit"],
    },
    "sk_analytic.callbacks": {"Callbacks": ["Checkpoint", "GradientMonitor", "LearningRateLog"]},
    "sk_analytic.interop.torch": {
        "Train with torch objects": ["TorchModule", "TorchOptimizer"],
        "Use sk_analytic in torch": ["RuleOptimizer", "to_torch", "load_params"],
    },
    "sk_analytic.interop.jax": {
        "Train with optax transformations": ["OptaxOptimizer"],
        "Use sk_analytic in jax and optax": ["as_gradient_transformation", "eval_params", "to_jax"],
    },
    "sk_analytic.plotting": {
        "Training": ["LossCurveDisplay", "OptimizerPathDisplay"],
        "Gradient check": ["GradientCheckDisplay"],
        "Results": ["FittedCurveDisplay", "IntervalsDisplay", "PairsDisplay", "ProfileDisplay"],
    },
}
BY_FILE = {
    "sk_analytic.optimizers": {
        "Gradient descent and momentum": "rules.momentum",
        "Adam and variants": "rules.adam",
        "Adam with another second moment": "rules.adam_variants",
        "Adam with Nesterov momentum": "rules.nesterov_adam",
        "Adagrad and variants": "rules.adagrad",
        "Steps along the sign of the gradient": "rules.sign_based",
        "Without a learning rate to tune": "rules.parameter_free",
        "With parameter averaging": "rules.averaged",
        "Full-batch methods of scipy": "scipy_methods",
        "Optimizers in sequence": "phases",
        "Chains and optimizers per parameter array": "chains",
        "Links: clipping, weight decay, scaling": "transforms",
        "Links: parameter averaging": "averages",
        "Schedules": "schedules",
        "Base classes": "base",
    },
}
# Data, which docs/api.rst documents, with the sentences of the tables.
DATA = {
    "sk_analytic.neg_mean_loss": "Scorer: minus the mean loss of an estimator.",
    "sk_analytic.Params": "Type of model parameters, for annotations.",
    "sk_analytic.Grads": "Type of gradients, for annotations.",
    "sk_analytic.losses.LOSSES": "Classes of the losses, by name.",
    "sk_analytic.maps.MAPS": "Classes of the maps, by name.",
}
# What a reader looks for in each module.
TITLES = {
    "sk_analytic": "Estimators and tools",
    "sk_analytic.losses": "Losses",
    "sk_analytic.maps": "Constraint maps",
    "sk_analytic.optimizers": "Optimizers and schedules",
    "sk_analytic.search": "Search",
    "sk_analytic.callbacks": "Callbacks",
    "sk_analytic.interop.torch": "PyTorch",
    "sk_analytic.interop.jax": "JAX and optax",
    "sk_analytic.plotting": "Plots",
}
OTHERS = "Other names"


def public_modules():
    """The modules that the page of the reference lists."""
    return re.findall(r"^   (sk_analytic[\w.]*)$", (DOCS / "api.rst").read_text(encoding="utf-8"), flags=re.MULTILINE)


def groups_of(module):
    """Title and names of each group of a public module. A name that no group has is among the others."""
    imported = import_module(module)
    files = {f"{module}.{file}": title for title, file in BY_FILE.get(module, {}).items()}
    titles = {name: title for title, names in BY_NAME.get(module, {}).items() for name in names}
    missing = sorted(set(titles) - set(imported.__all__))
    if missing:
        raise ValueError(f"docs/_extensions/tables.py has names that {module} lacks: {', '.join(missing)}")
    groups = {title: [] for title in [*files.values(), *BY_NAME.get(module, {}), OTHERS]}
    for name in [*titles, *(name for name in imported.__all__ if name not in titles)]:
        home = getattr(getattr(imported, name), "__module__", None)
        groups[titles.get(name) or files.get(home, OTHERS)].append(name)
    return [(title, names) for title, names in groups.items() if names]


def canonical(module, name):
    """The full name under which something is documented, if that is not the one in this module."""
    package = import_module("sk_analytic")
    if module != package.__name__ and name in package.__all__:
        return f"sk_analytic.{name}" if getattr(package, name) is getattr(import_module(module), name) else None
    return None


def aliases():
    """The full names that are documented under another, with that other."""
    names = [(module, name) for module in public_modules() for name in import_module(module).__all__]
    return {f"{module}.{name}": canonical(module, name) for module, name in names if canonical(module, name)}


@functools.cache
def public_names():
    """The full names of what the reference documents, by the names that no other module has for something else."""
    found = {}
    for module in public_modules():
        for name in import_module(module).__all__:
            found.setdefault(name, set()).add(canonical(module, name) or f"{module}.{name}")
    return {name: next(iter(full_names)) for name, full_names in found.items() if len(full_names) == 1}


def pages_of(module):
    """The groups of a module with the names that have a page in it, and the full names documented elsewhere."""
    groups = []
    for title, names in groups_of(module):
        own = [name for name in names if f"{module}.{name}" not in DATA and not canonical(module, name)]
        others = [canonical(module, name) for name in names if canonical(module, name)]
        others += [f"{module}.{name}" for name in names if f"{module}.{name}" in DATA]
        groups.append((title, own, others))
    return groups


def overview():
    """The names of every module in their groups, with links and summaries; a module without own names is left out."""
    parts = []
    for module in public_modules():
        groups = pages_of(module)
        if any(own for _, own, _ in groups):
            title = TITLES[module]
            parts.append(f"{title}\n{'-' * len(title)}\n\nModule :mod:`{module}`.\n")
            for group, own, others in groups:
                if len(groups) > 1:
                    parts.append(f"{group}\n{'~' * len(group)}\n")
                names = [*(f"{module}.{name}" for name in own), *others]
                parts.append("\n".join([".. autosummary::", "", *(f"   ~{name}" for name in names), ""]))
    return "\n".join(parts)


def write():
    """Write the tables that pages include."""
    GENERATED.mkdir(exist_ok=True)
    tables = {
        "optimizers": table_of_optimizers(),
        "faults": table_of_causes("wrong"),
        "doubts": table_of_causes("cannot tell"),
        "remarks": table_of_causes("right"),
        "losses": table_of_losses(),
        "modules": overview(),
    }
    for name, text in tables.items():
        (GENERATED / f"{name}.inc").write_text(text, encoding="utf-8")
