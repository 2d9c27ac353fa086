"""Callables bound once: who receives what by name, what is refused and how, and the default models."""

import copy
import functools
import gc
import inspect
import pickle
import re
import weakref

import cloudpickle
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sk_analytic.data.batch import CALLABLE, Batch, generator
from sk_analytic.exceptions import ReceivedArgumentError
from sk_analytic.losses import get_loss
from sk_analytic.model.callables import Callables, Receiver
from sk_analytic.model.default_models import AUTOENCODER, GAUSSIAN, LINEAR, autoencoder_loss_and_gradient
from sk_analytic.model.gradient_forms import GRADIENT_FORMS
from sk_analytic.objective import Objective
from sk_analytic.parameters import Layout, Parameters

THETA = {"W": np.ones(2)}
X = np.arange(6.0).reshape(3, 2)
Y = np.arange(3.0)
WEIGHT = np.array([1.0, 0.0, 2.0])
ABSENT = "not received"

# What each callable may receive after (params, X), beside metadata and model parameters.
RECEIVES = {
    "forward": set(),
    "gradient": {"y", "sample_weight", "rng"},
    "loss_and_gradient": {"y", "sample_weight", "rng"},
    "vjp": {"y", "rng"},
    "jacobian": {"y", "rng"},
    "loss": {"y", "sample_weight", "rng"},
}
EVERY_ROLE = pytest.mark.parametrize("role", [*RECEIVES, "init"])
EVERY_FORM = pytest.mark.parametrize("form", GRADIENT_FORMS)


def batch_of(*, y=Y, weight=None, position=(7, CALLABLE, 1, 2), **columns):
    return Batch(X, ({} if y is None else {"y": y}) | columns, weight, position)


def starting_batch(**columns):
    return batch_of(n_features=2, n_outputs=1, **columns)


def receive(role, function, batch=None, *, columns=("y",), model_params=None):
    """Call a function in a role; `init` gets what only it can have."""
    receiver = Receiver(role, function, columns, model_params or {})
    if batch is None:
        batch = starting_batch() if role == "init" else batch_of()
    return receiver(THETA, batch)


# ---- who receives what ----


@pytest.mark.parametrize("role", RECEIVES)
def test_a_callable_receives_what_it_names(role):
    """Parameters and rows by position, then by name whatever of y, sample_weight, rng, metadata the role may have."""

    def function(
        theta, rows, groups=ABSENT, y=ABSENT, rng=ABSENT, sample_weight=ABSENT, n_features=ABSENT, params=ABSENT
    ):
        assert theta is THETA
        assert rows is X
        assert (n_features, params) == (ABSENT, ABSENT)
        return {"groups": groups, "y": y, "rng": rng, "sample_weight": sample_weight}

    batch = batch_of(weight=WEIGHT, groups=np.ones(3))
    received = receive(role, function, batch, columns=("y", "groups"))
    came = {name for name, value in received.items() if value is not ABSENT}
    assert came == RECEIVES[role] | {"groups"}
    assert received["groups"] is batch.columns["groups"]
    if "y" in came:
        assert received["y"] is Y
    if "sample_weight" in came:
        assert received["sample_weight"] is WEIGHT
    if "rng" in came:
        assert isinstance(received["rng"], np.random.Generator)


def test_init_receives_everything_by_name():
    """Sizes, the rows of the fit, their targets and weights, a generator; nothing by position."""

    def init(y, n_outputs, X, sample_weight, rng, n_features, n_hidden):
        return n_features, n_outputs, X, y, sample_weight, type(rng), n_hidden

    batch = starting_batch(weight=WEIGHT)
    received = receive("init", init, batch, model_params={"n_hidden": 32})
    assert received == (2, 1, X, Y, WEIGHT, np.random.Generator, 32)
    assert receive("init", lambda: "nothing") == "nothing"


@EVERY_ROLE
def test_model_parameters_reach_those_who_name_them(role):
    """They are the same objects at each call, and stand before a default."""
    table = np.ones(3)

    def function(*_, n_hidden=3, table, other="default"):
        return n_hidden, table, other

    n_hidden, got, other = receive(role, function, model_params={"n_hidden": 5, "table": table, "unknown": 1})
    assert (n_hidden, other) == (5, "default")
    assert np.shares_memory(got, table)
    assert not got.flags.writeable


@EVERY_FORM
def test_without_targets_there_is_no_y(form):
    """In a density, an argument y keeps its default, or is an error where it has none."""
    assert receive(form, lambda p, X, y=ABSENT: y, batch_of(y=None), columns=()) is ABSENT
    with pytest.raises(ReceivedArgumentError, match=f"{form} has an argument 'y' that is not provided."):
        Receiver(form, lambda p, X, y: y, (), {})


@pytest.mark.parametrize("role", ["gradient", "loss_and_gradient", "loss"])
def test_sample_weight_is_none_where_it_defaults_to_none_else_ones(role):
    """Without weights, None is for those who declare it; everyone else gets an array of ones."""
    assert receive(role, lambda p, X, y, sample_weight=None: sample_weight) is None
    for function in (lambda p, X, sample_weight: sample_weight, lambda p, X, sample_weight=1.0: sample_weight):
        ones = receive(role, function)
        assert_array_equal(ones, np.ones(3))
        assert ones.dtype == X.dtype
        assert receive(role, function, batch_of().astype(np.float32)).dtype == np.float32
        assert receive(role, function, batch_of(weight=WEIGHT)) is WEIGHT
    assert receive(role, lambda p, X, sample_weight=None: sample_weight, batch_of(weight=WEIGHT)) is WEIGHT


def test_rng_is_the_generator_of_the_batchs_position():
    """The same numbers for the same batch however often it is called, others for another; a new one each call."""
    receiver = Receiver("gradient", lambda p, X, rng: rng, (), {})
    draws = [receiver(THETA, batch_of(position=(7, CALLABLE, 1, step))).random(4) for step in (2, 2, 3)]
    assert_array_equal(draws[0], draws[1])
    assert_array_equal(draws[0], generator(7, CALLABLE, 1, 2).random(4))
    assert not np.array_equal(draws[0], draws[2])


class Kinds:
    """Callables of other kinds than functions."""

    def method(self, params, X, y, alpha=0):
        return y, alpha

    @staticmethod
    def static(params, X, y, alpha=0):
        return y, alpha

    @classmethod
    def of_class(cls, params, X, y, alpha=0):
        return y, alpha

    def __call__(self, params, X, y, alpha=0):
        return y, alpha


def function(params, X, y, alpha=0):
    return y, alpha


def keyword_only(params, X, *, alpha=0, y):
    return y, alpha


def positional_only(params, X, /, y, alpha=0):
    return y, alpha


def variadic(*params_and_X, y, alpha=0):
    assert len(params_and_X) == 2
    return y, alpha


def half_variadic(params, *rest, y, alpha=0):
    assert len(rest) == 1
    return y, alpha


def more(params, X, y, alpha=0, *args, **kwargs):
    assert not args
    assert not kwargs
    return y, alpha


def a_default_by_position(params, X, nothing=None, /, *, y, alpha=0):
    assert nothing is None
    return y, alpha


def four(weights, params, X, y, alpha=0):
    return y, alpha


@functools.wraps(function)
def wrapped(*args, **kwargs):
    return function(*args, **kwargs)


KINDS = {
    "a function": function,
    "a lambda": lambda params, X, y, alpha=0: (y, alpha),
    "other names by position": lambda theta, rows, y, alpha=0: (y, alpha),
    "a bound method": Kinds().method,
    "a static method": Kinds.static,
    "a class method": Kinds.of_class,
    "an object": Kinds(),
    "keyword-only arguments": keyword_only,
    "positional-only arguments": positional_only,
    "*args": variadic,
    "*args after one": half_variadic,
    "*args and **kwargs at the end": more,
    "a third argument by position with a default": a_default_by_position,
    "a partial by position": functools.partial(four, "weights"),
    "a partial by keyword": functools.partial(function, alpha=0),
    "a partial of a partial": functools.partial(functools.partial(four, "weights"), alpha=0),
    "a partial method": functools.partial(Kinds().method, alpha=0),
    "a decorated function": wrapped,
}


@pytest.mark.parametrize("callable_", KINDS.values(), ids=KINDS)
def test_every_kind_of_callable_is_called_alike(callable_):
    """y arrives under its name, and a model parameter stands before a default and before what a partial set."""
    receiver = Receiver("gradient", callable_, ("y",), {"alpha": 2})
    assert receiver(THETA, batch_of()) == (Y, 2)
    assert receive("gradient", callable_) == (Y, 0)
    assert "y" in receiver.accepts


@EVERY_ROLE
def test_kwargs_receive_the_model_parameters_that_no_callable_names(role):
    """Nothing else: neither data, nor weights, nor metadata, nor a model parameter that another callable names."""
    takers = {
        "forward": lambda params, X, power=1: X,
        "gradient": lambda params, X, power=1: X,
        "loss": lambda params, X: 0.0,
        "init": lambda n_features: THETA,
    }
    if role in GRADIENT_FORMS:
        del takers["gradient"]
    takers[role] = (lambda named, **rest: rest) if role == "init" else lambda params, X, named, **rest: rest
    given = {"power": 2, "named": 1, "table": "a table"}
    model = model_of(**takers, columns=("y", "groups"), model_params=given)
    receiver = model.gradient if role in GRADIENT_FORMS else getattr(model, role)
    batch = starting_batch(weight=WEIGHT, groups=np.ones(3))
    for bound in (receiver, receiver.bound_to({}), cloudpickle.loads(cloudpickle.dumps(receiver))):
        assert bound(THETA, batch) == {"table": "a table"}


def test_kwargs_pass_model_parameters_on_to_what_predicts():
    """Also where the rows to predict come with other metadata than those of the fit, and where a vjp predicts."""

    def helper(X, scale, shift=0.0):
        return scale * X[:, 0] + shift

    def predicts(params, X, offset=0.0, **options):
        return helper(X, **options) + offset

    def own_vjp(params, X, offset=0.0, **options):
        return predicts(params, X, offset, **options), None

    unseen = Batch(X, {"offset": np.ones(3)})
    for given in ({"forward": predicts, "vjp": vjp}, {"forward": None, "vjp": own_vjp}):
        model = model_of(**given, columns=("y",), model_params={"scale": 2.0, "shift": 1.0})
        assert_array_equal(model.predictions(THETA, Batch(X, {})), 2 * X[:, 0] + 1)
        assert_array_equal(model.bound_to(unseen.columns).predictions(THETA, unseen), 2 * X[:, 0] + 2)
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'scale'") as caught:
            model_of(**given, model_params=None).predictions(THETA, unseen)
        assert any(
            "(params, X, offset=0.0, **options) and received by name: nothing" in n for n in caught.value.__notes__
        )


def hiding(function):
    """A decorator as people write it, without `functools.wraps`."""

    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def hiding_rows(function):
    """Another one, which looks at the parameters alone."""

    def wrapper(params=None, *args, **kwargs):
        return function(params, *args, **kwargs)

    return wrapper


@EVERY_ROLE
def test_a_signature_that_hides_what_is_received_is_refused(role):
    """Where ``*args`` stand for parameters and rows beside ``**kwargs``: the message shows it, and both cures."""
    decorators = [(hiding, r"\(\*args, \*\*kwargs\)")]
    if role != "init":
        decorators.append((hiding_rows, r"\(params=None, \*args, \*\*kwargs\)"))
    for decorate, signature in decorators:
        for decorated in (decorate(function), functools.partial(decorate(function))):
            with pytest.raises(ReceivedArgumentError, match=f"^{role} has the signature {signature}") as caught:
                Receiver(role, decorated, ("y",), {"alpha": 2})
            expected = f"functools.wraps in the decorator; otherwise name the arguments, {role}("
            assert expected + ("n_features, ...)." if role == "init" else "params, X, ...).") in str(caught.value)
    assert wrapped.__qualname__ == "function"  # with functools.wraps it is one of KINDS, above


def test_an_error_behind_kwargs_shows_the_signature():
    """A decorator may name parameters and rows, and hide the rest: what failed to arrive is told beside it."""

    def decorated(params, X, **kwargs):
        return function(params, X, **kwargs)

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'") as caught:
        receive("gradient", decorated, model_params={"shift": 1})
    note = caught.value.__notes__[-1]
    assert note.startswith("gradient has the signature (params, X, **kwargs) and received by name: nothing.")
    assert note.endswith("If it is decorated, use functools.wraps in the decorator.")


def test_signatures_are_read_once_and_functions_are_let_go(monkeypatch):
    """A second estimator of the same function need not look at it again; nothing keeps the function alive."""

    class Held:
        pass

    held = Held()

    def gradient(params, X, y, extra=held):
        return y

    held.function = gradient
    Receiver("gradient", gradient, ("y",), {})
    with monkeypatch.context() as patch:
        patch.setattr(inspect, "signature", lambda function: pytest.fail("was read again"))
        assert Receiver("gradient", gradient, ("y",), {}).wanted == ("y",)
    gone = weakref.ref(gradient)
    del gradient, held
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("change", [copy.copy, copy.deepcopy, lambda receiver: pickle.loads(pickle.dumps(receiver))])
def test_a_receiver_can_be_copied_and_pickled(change):
    """The copy calls as the receiver does, and has no way to call of its own in its state."""
    receiver = Receiver("loss_and_gradient", autoencoder_loss_and_gradient, ("y",), {})
    params = {"components": np.eye(X.shape[1])[:, :1], "mean": np.zeros(X.shape[1])}
    expected, came = receiver(params, batch_of()), change(receiver)(params, batch_of())
    assert came[0] == expected[0]
    assert "call" not in receiver.__getstate__()


# ---- what is refused ----


@pytest.mark.parametrize("value", [3, "sum", None, THETA], ids=repr)
@pytest.mark.parametrize("role", RECEIVES)
def test_what_cannot_be_called_is_refused(role, value):
    """The message names the parameter and what came."""
    with pytest.raises(TypeError, match=re.escape(f"{role} must be callable; got {value!r}.")):
        Receiver(role, value, (), {})


class Unreadable:
    """A callable without a signature, as some built-in functions are."""

    __signature__ = "none"

    def __call__(self, params, X):
        return X


@EVERY_ROLE
def test_a_callable_whose_arguments_cannot_be_read_is_refused(role):
    """The message shows the way out: a function that names them."""
    message = f"The arguments of {role} cannot be read: .* Wrap it in a function that names them."
    with pytest.raises(ReceivedArgumentError, match=message):
        Receiver(role, Unreadable(), (), {})


@EVERY_ROLE
def test_an_argument_that_nothing_provides_is_refused(role):
    """The message names it, lists what there is, and says what to do."""
    columns, model_params = ("y", "groups"), {"n_hidden": 3}
    there = "n_features, n_outputs, rng, X, y, sample_weight" if role == "init" else "params, X"
    with pytest.raises(ReceivedArgumentError, match=f"^{role} has an argument 'beta' that .*: {there}") as caught:
        Receiver(role, (lambda beta: 0) if role == "init" else (lambda params, X, beta: 0), columns, model_params)
    listed = re.search("Provided are: (.*?)\\.", str(caught.value))[1].split(", ")
    assert {*RECEIVES.get(role, listed), "groups", "n_hidden"} <= set(listed)
    assert "ive it a default, or add it to model_params." in str(caught.value)
    Receiver(role, (lambda beta=1: 0) if role == "init" else (lambda params, X, *, beta=1: 0), columns, model_params)


@pytest.mark.parametrize(
    ("role", "function", "message"),
    [
        ("gradient", lambda params, X, sample_weights: 0, "'sample_weights' .* Did you mean 'sample_weight'?"),
        ("gradient", lambda params, X, n_hiden: 0, "'n_hiden' .* Did you mean 'n_hidden'?"),
        ("gradient", lambda params, X, Y: 0, "'Y' .* Did you mean 'y'?"),
        ("init", lambda n_feature: 0, "'n_feature' .* Did you mean 'n_features'?"),
        ("forward", lambda params, X, y: 0, "^forward has an argument 'y' that is not provided"),
        ("vjp", lambda params, X, sample_weight: 0, "^vjp has an argument 'sample_weight' that is not"),
        ("jacobian", lambda params, X, sample_weight: 0, "^jacobian has an argument 'sample_weight' that"),
    ],
)
def test_the_nearest_name_is_suggested(role, function, message):
    """A slip is answered; y in `forward` and weights in `vjp` and `jacobian` do not exist."""
    with pytest.raises(ReceivedArgumentError, match=message):
        Receiver(role, function, () if role == "forward" else ("y",), {"n_hidden": 3})


SYNONYMS = {
    "y": (
        ["Y", "target", "targets", "label", "labels", "y_true", "Y_true"],
        ["gradient", "vjp", "jacobian", "loss", "init"],
    ),
    "sample_weight": (["weights", "weight", "w", "sample_weights", "Sample_Weight"], ["gradient", "loss", "init"]),
    "rng": (["random_state", "seed", "generator", "RNG"], ["loss_and_gradient", "vjp", "init"]),
    "n_features": (["n_feature", "num_features", "d", "N_features"], ["init"]),
    "n_outputs": (["n_output", "num_outputs", "k", "n_classes"], ["init"]),
    "X": (["x", "x_data", "data", "features"], ["init", "forward", "gradient"]),
    "params": (["theta", "parameters_", "param"], ["gradient", "loss", "forward"]),
}


def naming(role, name):
    """A function that names an argument beside what comes by position."""
    return eval(f"lambda {name}: 0" if role == "init" else f"lambda params, X, {name}: 0")


@pytest.mark.parametrize(
    ("role", "name", "ours"),
    [(role, name, ours) for ours, (names, roles) in SYNONYMS.items() for name in names for role in roles],
)
def test_an_argument_by_its_name_elsewhere_is_recognized(role, name, ours):
    """The error says which of the arguments that there are is meant; those by position come first."""
    with pytest.raises(
        ReceivedArgumentError, match=f"{role} has an argument .*'{name}' .*Did you mean '{ours}'"
    ) as refused:
        Receiver(role, naming(role, name), ("y",), {})
    by_position = ours in ("params", "X") and role != "init"
    assert (f"Its first arguments are params and X: {role}(params, X, ...)" in str(refused.value)) == by_position


@pytest.mark.parametrize(
    ("role", "name"),
    [("forward", "weights"), ("forward", "Y"), ("vjp", "weights"), ("gradient", "d"), ("init", "theta")],
)
def test_no_name_is_suggested_that_the_role_does_not_receive(role, name):
    """What a word stands for in one role is not provided in another; nor is y where there is none."""
    with pytest.raises(ReceivedArgumentError) as refused:
        Receiver(role, naming(role, name), (), {})
    assert "Did you mean" not in str(refused.value)


def test_metadata_may_have_the_name_that_an_argument_has_elsewhere():
    """A word is only a hint: what is provided under it is received."""
    assert receive("gradient", lambda params, X, weights: weights, batch_of(weights=Y), columns=("y", "weights")) is Y
    assert receive("forward", lambda params, X, theta: theta, model_params={"theta": 3}) == 3


OUT_OF_ORDER = [
    ("X, params", "params, X"),
    ("X, y, params", "params, X, y"),
    ("x, theta", "theta, x"),
    ("data, y, theta", "theta, data, y"),
    ("X, y, parameters=None", "parameters, X, y"),
    ("X, *, params", "params, X"),
    ("y, params, X", "params, X, y"),
    ("params, y, X", "params, X, y"),
    ("inputs, rng, params", "params, inputs, rng"),
    ("a, params", "params, a"),
    ("y_true, y_pred", "params, X, y_true"),
]
IN_ORDER = [
    "params, X",
    "theta, X",
    "theta, x",
    "p, x",
    "x, w",
    "w, x",
    "x, X",
    "X, W",
    "a, b",
    "parameters, data",
    "_, X",
]


@pytest.mark.parametrize("role", RECEIVES)
@pytest.mark.parametrize(("arguments", "right"), OUT_OF_ORDER, ids=[arguments for arguments, _ in OUT_OF_ORDER])
def test_arguments_in_another_order_are_refused_before_a_call(role, arguments, right):
    """If their names say so plainly; the message has the order that came and the one to write."""
    came = ", ".join(re.findall(r"[a-zA-Z_]+(?==None)|[a-zA-Z_]+", arguments.replace("=None", "")))
    message = (
        rf"{role} has the arguments \({came}\), but .* called as {role}\(params, X, ...\).* Write {role}\({right}\)"
    )
    with pytest.raises(ReceivedArgumentError, match=message):
        Receiver(role, eval(f"lambda {arguments}: 0"), ("y",), {"y_pred": 0, "a": 0})


@pytest.mark.parametrize("role", RECEIVES)
@pytest.mark.parametrize("arguments", IN_ORDER)
def test_arguments_that_may_be_in_order_are_called(role, arguments):
    """Names that may mean either are not judged: x is the parameters in scipy.optimize, and theta may be a setting."""
    first, second = arguments.split(", ")
    assert receive(role, eval(f"lambda {arguments}: ({first}, {second})")) == (THETA, X)
    assert receive(role, eval(f"lambda {arguments}, theta_0: theta_0"), model_params={"theta_0": 1}) == 1


def test_the_arguments_of_init_have_any_order():
    """All of them are received by name."""
    assert receive("init", lambda rng, y, X, n_features: n_features) == 2


def test_the_function_of_a_class_is_no_method_of_an_object():
    """An argument self says that there is no object; the message names the method."""

    class Line:
        def forward(self, params, X):
            return X @ params["W"]

    with pytest.raises(ReceivedArgumentError, match=r"\(self, params, X\), .* method of an object, model.forward, not"):
        Receiver("forward", Line.forward, (), {})
    assert_array_equal(receive("forward", Line().forward), X @ THETA["W"])


@pytest.mark.parametrize(
    ("arguments", "note"),
    [("x, w", " Its first arguments, x and w, receive params and X."), ("w, x", ""), ("params, Z", "")],
)
def test_an_error_of_a_callable_that_may_have_another_order_says_what_it_received(arguments, note):
    """Where names are no proof, a note has the order; it is silent where one of them fits."""
    with pytest.raises(ZeroDivisionError) as raised:
        receive("forward", eval(f"lambda {arguments}: 1 / 0"))
    assert raised.value.__notes__[-1] == f"It received params {{'W': (2,)}}, X (3, 2).{note}"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: 0, "forward is called as forward(params, X, ...), but {name} takes 0 positional arguments."),
        (lambda params: 0, "{name} takes 1 positional arguments."),
        (lambda params, *, X: 0, "{name} takes 1 positional arguments."),
        (lambda **kwargs: 0, "{name} takes 0 positional arguments."),
    ],
)
def test_a_callable_without_room_for_parameters_and_rows_is_refused(function, message):
    """The message says how it is called, which one it is, and where it stands."""
    name = f"{function.__qualname__} ({__file__}, line {function.__code__.co_firstlineno})"
    with pytest.raises(ReceivedArgumentError, match=re.escape(message.format(name=name))):
        Receiver("forward", function, (), {})


def test_an_argument_by_position_only_is_refused():
    """What comes after the rows is given by name, so it must have one."""

    def gradient(params, X, y, /):
        return y

    def init(n_features, /):
        return n_features

    with pytest.raises(
        ReceivedArgumentError, match=r"gradient takes 'y' as a positional-only argument, but arguments after \("
    ):
        Receiver("gradient", gradient, ("y",), {})
    with pytest.raises(
        ReceivedArgumentError, match="init takes 'n_features' as a positional-only argument, but arguments are"
    ):
        Receiver("init", init, ("y",), {})


# ---- exceptions of the user's ----


@EVERY_ROLE
@pytest.mark.parametrize("error", [ValueError("boom"), ZeroDivisionError(), KeyError("W"), StopIteration()], ids=repr)
def test_an_exception_of_the_users_goes_on_with_a_note(role, error):
    """It is the same object, and its last note says which callable raised it, and where that stands."""

    def raising(*_):
        raise error

    with pytest.raises(type(error)) as caught:
        receive(role, raising)
    assert caught.value is error
    line = raising.__code__.co_firstlineno
    where, given = error.__notes__[-2:]
    assert where == f"Raised inside the callable given as {role}: {raising.__qualname__} ({__file__}, line {line})"
    assert given.startswith("It received ")


def test_a_callable_without_a_name_is_described_by_its_repr():
    """A partial has no name of its own; the note shows what it is made of."""

    def raising(params, X, scale):
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        receive("forward", functools.partial(raising, scale=3))
    assert "functools.partial(<function" in caught.value.__notes__[0]
    assert "scale=3" in caught.value.__notes__[0]


def test_an_interrupt_goes_on_as_it_is():
    """Ctrl-C inside a callable is nobody's error: no note."""

    def interrupted(params, X):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        receive("forward", interrupted)
    assert not hasattr(caught.value, "__notes__")


# ---- models ----


def forward(params, X):
    return X @ params["W"]


def vjp(params, X):
    return X @ params["W"], lambda d: {"W": X.T @ d}


def model_of(**given):
    given = {"forward": forward, "init": THETA, "columns": ("y",)} | given
    forms = {form: given.pop(form, None) for form in GRADIENT_FORMS}
    return Callables.bind(forms=forms, default=LINEAR, **given)


@EVERY_FORM
def test_exactly_one_gradient_form_is_taken(form):
    """The form that was given is the model's."""
    model = model_of(**{form: vjp})
    assert model.form == form
    assert model.gradient.function is vjp
    assert not model.uses_defaults


@pytest.mark.parametrize(
    ("forms", "came"),
    [
        ((), "got none"),
        (("gradient", "vjp"), "got gradient and vjp"),
        (("loss_and_gradient", "jacobian"), "got loss_and_gradient and jacobian"),
        (GRADIENT_FORMS, "got gradient and loss_and_gradient and vjp and jacobian"),
    ],
)
def test_none_or_several_gradient_forms_are_refused(forms, came):
    """The message lists the four, and those that came."""
    message = f"Pass exactly one analytic gradient, as one of {', '.join(GRADIENT_FORMS)}; {came}."
    with pytest.raises(TypeError, match=message) as caught:
        model_of(**dict.fromkeys(forms, vjp))
    assert ("name all parameters in numerical" in str(caught.value)) == (not forms)


def test_without_a_gradient_a_model_can_be_differenced():
    """Where that was asked for; of a default model a loss of the user's takes the place of its gradient."""
    model = model_of(by_differences=True)
    assert (model.form, model.gradient, model.has_value) == ("numerical", None, False)
    assert model_of(vjp=vjp, by_differences=True).form == "vjp"
    assert model_of(forward=None, init=None, by_differences=True).form == "vjp"
    default = model_of(forward=None, init=None, by_differences=True, loss=lambda params, X: 0.0)
    assert (default.form, default.uses_defaults) == ("numerical", True)


@pytest.mark.parametrize("form", ["gradient", "loss_and_gradient", "jacobian"])
def test_forward_is_needed_beside_all_forms_but_vjp(form):
    """Only a `vjp` makes predictions itself."""
    with pytest.raises(TypeError, match=f"forward is required with {form}, to make predictions."):
        model_of(forward=None, **{form: vjp})


def test_init_is_needed_where_callables_are_given():
    """Nothing could be known of the parameters' shapes."""
    with pytest.raises(TypeError, match="init is required if callables are given. Pass the starting parameters, or a"):
        model_of(vjp=vjp, init=None)


def test_predictions_come_from_vjp_where_there_is_no_forward():
    """Its first return value is the prediction; rows to predict have no y, which it may name with a default."""

    def with_y(params, X, y=None, rng=None, power=1):
        assert y is None or len(y) == len(X)
        return (X @ params["W"]) ** power, None

    unseen = Batch(X, {})
    assert_array_equal(model_of(vjp=vjp).predictions(THETA, unseen), forward(THETA, X))
    assert_array_equal(model_of(vjp=vjp, forward=None).predictions(THETA, unseen), forward(THETA, X))
    model = model_of(vjp=with_y, forward=None, model_params={"power": 2})
    assert_array_equal(model.predictions(THETA, unseen), forward(THETA, X) ** 2)


def test_a_vjp_that_needs_y_cannot_stand_in_for_forward():
    """There is no y when it predicts; beside a `forward` it may have it."""

    def with_y(params, X, y):
        return X @ params["W"], None

    with pytest.raises(ReceivedArgumentError, match="vjp in place of forward has an argument 'y' that is not"):
        model_of(vjp=with_y, forward=None)
    assert model_of(vjp=with_y).gradient.wanted == ("y",)


def test_a_vjp_that_returns_no_pair_is_refused_when_it_predicts():
    """The message says what a vjp returns."""
    model = model_of(vjp=forward, forward=None)
    with pytest.raises(TypeError, match=r"vjp must return the pair \(prediction, pullback\); got ndarray."):
        model.predictions(THETA, Batch(X, {}))


@pytest.mark.parametrize("init", [THETA, (1.0, 2.0), [np.ones(2)], np.ones(3), 0.5], ids=repr)
def test_starting_parameters_may_be_given_as_they_are(init):
    """A structure is handed on as it is; a callable makes it."""
    assert model_of(vjp=vjp, init=init).starting_params(starting_batch()) is init
    assert model_of(vjp=vjp, init=lambda: init).starting_params(starting_batch()) is init


@pytest.mark.parametrize(
    ("model_params", "error", "message"),
    [
        ({"n_hiden": 3}, ReceivedArgumentError, "model_params has 'n_hiden', which no .* Did you mean 'n_hidden'?"),
        ({"zzz": 3}, ReceivedArgumentError, "model_params has 'zzz', .* Accepted names: n_hidden, power, shift."),
        ({"y": 3}, ReceivedArgumentError, "model_params has 'y', which is not available as a name."),
        (
            {"params": 3},
            ReceivedArgumentError,
            "model_params has 'params', which is not available .* provides X, groups, n_",
        ),
        ({"groups": 3}, ReceivedArgumentError, "model_params has 'groups', which is not available as a name."),
        ({3: 3}, ReceivedArgumentError, "model_params has 3, which is not available as a name."),
        ([("n_hidden", 3)], TypeError, r"model_params must be a dict of arguments by name, or None; got \[\("),
        ("n_hidden", TypeError, "model_params must be a dict of arguments by name, or None; got 'n_hidden'."),
    ],
)
def test_model_parameters_that_reach_nobody_are_refused(model_params, error, message):
    """One that no callable accepts, one that the estimator provides itself, and what is no dict."""
    with pytest.raises(error, match=message):
        model_of(
            forward=lambda params, X, power=1: X,
            gradient=lambda params, X, shift=0: X,
            loss=lambda params, X: 0.0,
            init=lambda n_hidden=2: THETA,
            columns=("y", "groups"),
            model_params=model_params,
        )


@pytest.mark.parametrize("taker", ["forward", "gradient", "loss", "init"])
def test_a_model_parameter_may_reach_any_of_the_callables(taker):
    """It is enough that one of them accepts it; the user's dict is not written."""
    callables = {
        "forward": lambda params, X: X,
        "gradient": lambda params, X: X,
        "loss": lambda params, X: 0.0,
        "init": lambda: THETA,
    }
    callables[taker] = (lambda extra: THETA) if taker == "init" else (lambda params, X, extra: X)
    model_params = {"extra": 3}
    model_of(**callables, model_params=model_params)
    assert model_params == {"extra": 3}
    with pytest.raises(ReceivedArgumentError, match=f"{taker} has an argument 'extra' that is not provided."):
        model_of(**callables, model_params=None)


@pytest.mark.parametrize("model_params", [None, {}])
def test_model_params_may_be_none_or_empty(model_params):
    """Then callables keep their defaults."""
    model = model_of(vjp=lambda params, X, power=2: (X[:, 0] ** power, None), model_params=model_params, forward=None)
    assert_array_equal(model.predictions(THETA, batch_of()), X[:, 0] ** 2)


def test_models_pickle():
    """By reference where the callables are functions of a module; closures by cloudpickle."""
    shift = 2.0
    by_reference = pickle.loads(pickle.dumps(model_of(vjp=vjp)))
    by_value = cloudpickle.loads(
        cloudpickle.dumps(model_of(vjp=lambda params, X: (X[:, 0] + shift, None), forward=None))
    )
    assert_array_equal(by_reference.predictions(THETA, batch_of()), forward(THETA, X))
    assert_array_equal(by_value.predictions(THETA, batch_of()), X[:, 0] + shift)


# ---- default models ----

DEFAULTS = {"linear": LINEAR, "Gaussian": GAUSSIAN, "autoencoder": AUTOENCODER}


def default_case(name, *, n_outputs=1, weighted=False, dtype=np.float64, n=12):
    """An objective of a default model, its parameters away from the start, and a batch."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, 3)) * [1.0, 2.0, 0.5] + [0.0, 1.0, -1.0]
    y = rng.normal(size=(n,) if n_outputs == 1 else (n, n_outputs))
    weight = rng.integers(0, 3, size=n).astype(float) if weighted else None
    columns = {"y": y} if name == "linear" else {}
    loss = {"linear": "squared_error", "Gaussian": "negative_log_likelihood", "autoencoder": None}[name]
    batch = Batch(rows, columns, weight).astype(dtype)
    model = Callables.bind(forward=None, forms={}, init=None, default=DEFAULTS[name], columns=columns)
    start = model.starting_params(batch.with_columns({"n_features": 3, "n_outputs": n_outputs}, (0, 0, 0, 0)))
    layout = Layout.of(start, dtype)
    theta = Parameters(layout, layout.flatten(start))
    theta.vector += (0.1 * rng.normal(size=theta.vector.shape)).astype(dtype)
    return Objective(model, None if loss is None else get_loss(loss), layout), theta, batch


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(
    ("name", "n_outputs", "untrained"),
    [("linear", 1, []), ("linear", 3, []), ("Gaussian", 1, ["smallest_scale"]), ("autoencoder", 1, ["mean"])],
)
def test_the_gradient_of_a_default_model_is_the_slope_of_its_loss(name, n_outputs, untrained, weighted):
    """Entry by entry it equals central differences; blocks that are data have none."""
    objective, theta, batch = default_case(name, n_outputs=n_outputs, weighted=weighted)
    partial = objective.contribution(theta, batch)
    layout = theta.layout
    assert [layout.names[index] for index in partial.missing] == untrained
    gradient = partial.gradient.copy()
    trained = [where for name, where in zip(layout.names, layout.slices, strict=True) if name not in untrained]
    for i in np.concatenate([np.arange(layout.size)[where] for where in trained]):
        step = 1e-5 * (np.arange(layout.size) == i)
        above, below = (objective.value(Parameters(layout, theta.vector + s), batch) for s in (step, -step))
        assert gradient[i] == pytest.approx((above - below) / 2e-5, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("name", DEFAULTS)
def test_weights_of_a_default_model_count_like_repeated_rows(name):
    """Loss and gradient with whole weights of mean 1 equal those of the rows repeated."""
    objective, theta, batch = default_case(name, weighted=True)
    times = batch.sample_weight.astype(int)
    assert (times == 0).any()
    assert (times > 1).any()
    weighted = Batch(batch.X, batch.columns, batch.sample_weight * (batch.n / times.sum()))
    repeated = Batch(
        np.repeat(batch.X, times, axis=0), {k: np.repeat(v, times, axis=0) for k, v in batch.columns.items()}
    )
    ours = objective.contribution(theta, weighted)
    loss, gradient = ours.loss, ours.gradient.copy()
    theirs = objective.contribution(theta, repeated)
    assert loss == pytest.approx(theirs.loss, rel=1e-12)
    assert_allclose(gradient, theirs.gradient, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("name", DEFAULTS)
def test_default_models_keep_single_precision(name, weighted):
    """Predictions and gradients of float32 rows are float32."""
    objective, theta, batch = default_case(name, weighted=weighted, dtype=np.float32)
    assert objective.predictions(theta.structure, batch).dtype == np.float32
    _, grads = objective._evaluate(theta.structure, batch)
    assert all(leaf is None or leaf.dtype == np.float32 for leaf in theta.layout.leaves(grads))


def test_a_default_model_is_used_where_no_callable_is_given():
    """Starting values of the user's may replace its own."""
    model = Callables.bind(forward=None, forms=dict.fromkeys(GRADIENT_FORMS), init=None, default=LINEAR)
    assert model.uses_defaults
    assert model.form == "vjp"
    start = {"coef": np.ones(2), "intercept": 1.0}
    model = Callables.bind(forward=None, forms={}, init=start, default=LINEAR)
    assert model.uses_defaults
    assert model.starting_params(starting_batch()) is start


@pytest.mark.parametrize(("n_outputs", "coef", "intercept"), [(1, (4,), ()), (2, (4, 2), (2,))])
def test_the_linear_model_starts_at_zero(n_outputs, coef, intercept):
    """One output has a vector and a float, several a matrix and a vector."""
    start = LINEAR["init"](4, n_outputs)
    assert np.shape(start["coef"]) == coef
    assert np.shape(start["intercept"]) == intercept
    assert not np.any(start["coef"])
    assert not np.any(start["intercept"])


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_the_gaussian_starts_at_its_maximum_likelihood(weighted):
    """Where every column varies the gradient is zero there; a constant column has a finite density."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 3))
    weight = rng.uniform(size=50) if weighted else None
    start = GAUSSIAN["init"](rows, weight)
    log_density, pullback = GAUSSIAN["vjp"](start, rows)
    gradient = pullback(np.full(50, 1 / 50) if weight is None else weight / weight.sum())
    assert_allclose(gradient["mean"], 0, atol=1e-12)
    assert_allclose(gradient["log_scale"], 0, atol=1e-12)
    assert_allclose(log_density, GAUSSIAN["forward"](start, rows))
    for constant in (np.where([True, False, True], rows, 3.0), np.full((50, 3), 3.0)):
        assert np.isfinite(GAUSSIAN["forward"](GAUSSIAN["init"](constant), constant)).all()


def test_the_gaussian_agrees_with_scipy():
    """Its log-density is that of independent normals of variance ``exp(2 log_scale) + smallest_scale**2``."""
    from scipy.stats import norm

    params = {"mean": np.array([1.0, -1.0]), "log_scale": np.array([0.5, -2.0]), "smallest_scale": 0.3}
    scale = np.hypot(np.exp(params["log_scale"]), 0.3)
    assert_allclose(GAUSSIAN["forward"](params, X), norm(params["mean"], scale).logpdf(X).sum(axis=1))


def test_the_autoencoder_starts_at_an_orthonormal_basis():
    """Of two components, or as many as there are features, at the mean of the rows."""
    rng = np.random.default_rng(0)
    for asked, n_components in ((2, 2), (3, 3), (9, 3)):
        rows = rng.normal(size=(20, 3))
        start = AUTOENCODER["init"](rows, 3, rng, n_components=asked)
        assert_allclose(start["components"].T @ start["components"], np.eye(n_components), atol=1e-12)
        assert_allclose(start["mean"], rows.mean(axis=0))
        assert AUTOENCODER["forward"](start, rows).shape == (20, n_components)


def test_the_autoencoder_is_at_its_minimum_in_the_principal_components():
    """There the gradient is zero, and the loss half the variance that is left out."""
    rows = np.random.default_rng(0).normal(size=(40, 4)) * [3.0, 2.0, 1.0, 0.5]
    centered = rows - rows.mean(axis=0)
    _, singular, components = np.linalg.svd(centered, full_matrices=False)
    params = {"components": components[:2].T, "mean": rows.mean(axis=0)}
    loss, gradient = AUTOENCODER["loss_and_gradient"](params, rows)
    assert loss == pytest.approx(0.5 * (singular[2:] ** 2).sum() / 40)
    assert_allclose(gradient["components"], 0, atol=1e-12)
