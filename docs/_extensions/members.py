"""What the pages of the reference show: the members of a class, and the page of the guide about a name."""

import inspect
import re
from dataclasses import is_dataclass
from importlib import import_module

import tables
from numpydoc.docscrape import NumpyDocString

import sk_analytic
from sk_analytic import losses, maps, optimizers

# Methods of an estimator come in this order, then the others by name, and attributes last.
ORDER = [
    *("fit", "partial_fit", "fit_chunks", "predict", "predict_proba", "predict_log_proba", "decision_function"),
    *("transform", "fit_transform", "inverse_transform", "score_samples", "sample", "score", "mean_loss"),
]
TRAINING = ["init", "update", "eval_params"]
VALUES = [
    "value",
    "derivative",
    "value_and_derivative",
    "inverse_link",
    "best_constant",
    "check_domain",
]
# What a subclass writes, and what others call, of the classes to subclass.
OF_BASES = {
    optimizers.Link: ["coefficients", "scales"],
    optimizers.Rule: ["coefficients", "scales", *TRAINING],
    optimizers.Optimizer: TRAINING,
    optimizers.NamedChain: ["links", *TRAINING],
    optimizers.FullBatch: ["minimize", "options", "stopping_options"],
    losses.Loss: ["formula", *VALUES],
    maps.Map: ["constrain", "unconstrain", "pullback", "tangent", "pull_rows"],
    maps.ElementwiseMap: ["constrain", "unconstrain", "derivative", "domain"],
}
# What a user calls, by the first of these classes that a class is a subclass of. Others show all that is public.
OF_SUBCLASSES = {
    optimizers.FullBatch: ["minimize"],
    optimizers.Optimizer: [*TRAINING, "get_params", "set_params"],
    optimizers.Link: [],
    optimizers.Phases: ["get_params", "set_params"],
    optimizers.Schedule: ["at"],
    losses.Loss: [*VALUES, "probabilities"],
    maps.Map: ["constrain", "unconstrain", "pullback"],
}
OF_MODULES = {"sk_analytic.callbacks": ["get_logs"]}

# Page of the guide, by name, by group, or by module.
GUIDE = {
    "InferenceWarning": "guide/inference",
    "GradientCheckDisplay": "guide/plots",
    "get_loss": "losses",
    "get_loss_names": "losses",
    "use_engine": "guide/beside_torch_jax_numba",
    "Link": "guide/chains",
    "Estimators": "guide/index",
    "Models as classes": "guide/model_class",
    "Gradient check": "guide/is_my_gradient_right",
    "Inference": "guide/inference",
    "Learning rates, starts and grids": "guide/search",
    "Saving and loading": "guide/saving",
    "Errors and warnings": "guide/errors",
    "Full-batch methods of scipy": "guide/full_batch",
    "Optimizers in sequence": "guide/full_batch",
    "Chains and optimizers per parameter array": "guide/chains",
    "Links: clipping, weight decay, scaling": "guide/chains",
    "Links: parameter averaging": "guide/chains",
    "Schedules": "guide/schedules",
    "sk_analytic": "guide/optimizers",
    "sk_analytic.losses": "losses",
    "sk_analytic.maps": "guide/constraints",
    "sk_analytic.optimizers": "guide/optimizers",
    "sk_analytic.search": "guide/search",
    "sk_analytic.callbacks": "guide/callbacks",
    "sk_analytic.interop.torch": "guide/beside_torch_jax_numba",
    "sk_analytic.interop.jax": "guide/beside_torch_jax_numba",
    "sk_analytic.plotting": "guide/plots",
}


def is_result(thing):
    """Whether it is the class of a result, which a user does not construct."""
    return inspect.isclass(thing) and (is_dataclass(thing) or thing is sk_analytic.Inference)


def attributes_of(cls):
    """The names that the docstring of a class documents as attributes."""
    documented = NumpyDocString(inspect.getdoc(cls) or "")
    entries = documented["Attributes"] + (documented["Parameters"] if is_result(cls) else [])
    return [name for entry in entries for name in re.findall(r"\w+", entry.name)]


def public_members(cls):
    """The methods and properties that the package defines, but for those documented as attributes."""
    attributes = attributes_of(cls)
    for name in dir(cls):
        member = getattr(cls, name)
        function = inspect.unwrap(getattr(member, "fget", None) or member)
        home = (getattr(function, "__module__", None) or "").partition(".")[0]
        if name[0] != "_" and name not in attributes and home == "sk_analytic":
            yield name


def rank(name):
    """The place of a method among those of an estimator."""
    return (ORDER.index(name) if name in ORDER else len(ORDER), name.endswith("_"), name)


def members_of(cls):
    """The members on the page of a class, in their order."""
    public = list(public_members(cls))
    wanted = OF_BASES.get(cls) or OF_MODULES.get(cls.__module__)
    for base, called in OF_SUBCLASSES.items():
        if wanted is None and issubclass(cls, base):
            wanted = called
    return sorted(public, key=rank) if wanted is None else [name for name in wanted if name in public]


def classes():
    """Every class that has a page, by its full name."""
    for module in tables.public_modules():
        for name in import_module(module).__all__:
            thing = getattr(import_module(module), name)
            if inspect.isclass(thing) and not tables.canonical(module, name):
                yield f"{module}.{name}", thing


def members():
    """The members of every class, by its full name."""
    return {name: members_of(cls) for name, cls in classes()}


def guides():
    """The page of the guide about every name, by its full name."""
    found = {}
    for module in tables.public_modules():
        for title, names in tables.groups_of(module):
            for name in names:
                page = GUIDE.get(name) or GUIDE.get(title) or GUIDE[module]
                found[f"{module}.{name}"] = page
    return found
