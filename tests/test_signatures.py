"""Signatures as people meet them: in `help`, in an editor, in the reference."""

import importlib
import inspect
import pickle
import pydoc
import re
import typing

import pytest
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer, check_gradient
from sk_analytic.callbacks import Checkpoint
from sk_analytic.losses import Huber
from sk_analytic.optimizers import Adam
from sk_analytic.readable import ReadableSignature, readable

MODULES = ["", ".callbacks", ".exceptions", ".losses", ".optimizers", ".plotting", ".search"]
ESTIMATORS = [AnalyticRegressor, AnalyticClassifier, AnalyticDensity, AnalyticTransformer]
EACH_ESTIMATOR = pytest.mark.parametrize("cls", ESTIMATORS)
WIDTH = 100


def is_ours(thing):
    return (getattr(thing, "__module__", None) or "").partition(".")[0] == "sk_analytic"


def public():
    """Every public function and class, and of a class the public methods, its own and those it inherits from ours."""
    for module in MODULES:
        offered = importlib.import_module(f"sk_analytic{module}")
        for name in offered.__all__:
            thing = getattr(offered, name)
            is_named = inspect.isclass(thing) or inspect.isroutine(thing)  # a scorer is an object that can be called
            if not is_named or not is_ours(thing) or (inspect.isclass(thing) and issubclass(thing, Exception)):
                continue
            yield thing.__qualname__, thing
            for method, function in inspect.getmembers(thing, callable) if inspect.isclass(thing) else ():
                if is_ours(function) and (not method.startswith("_") or method == "__init__"):
                    yield f"{thing.__qualname__}.{method}", function


PUBLIC = dict(public())


@pytest.mark.parametrize("name", PUBLIC)
def test_no_line_of_a_signature_is_long(name):
    """Types have the names that the source gives them; where they would not fit in a line, each has one."""
    signature = str(inspect.signature(PUBLIC[name]))
    assert max(map(len, signature.splitlines())) <= WIDTH, signature
    assert not re.search(r"numpy\._typing|collections\.abc|typing\.", signature)


@EACH_ESTIMATOR
def test_help_shows_an_estimator_with_one_parameter_a_line(cls):
    """In the order of the constructor, each with a short type and its default, in `help` of every Python."""
    shown = pydoc.render_doc(cls, renderer=pydoc.plaintext).splitlines()
    start = shown.index(f" |  {cls.__name__}(") + 1
    lines = [line.removeprefix(" |  ").strip() for line in shown[start : shown.index(" |  )", start)]]
    assert max(map(len, shown[start : start + len(lines)])) <= 80
    parameters = list(inspect.signature(cls).parameters.values())
    assert [re.match(r"\w+", line)[0] for line in lines if line != "*,"] == [p.name for p in parameters]
    assert lines.index("*,") == 3
    assert "vjp: Vjp | None = None," in lines
    assert "optimizer: str | Optimizer | FullBatch | Phases = 'auto'," in lines


@EACH_ESTIMATOR
def test_help_shows_methods_likewise(cls):
    """Of the class and of an instance; self is left out where it is bound."""
    shown = pydoc.render_doc(cls, renderer=pydoc.plaintext)
    assert re.search(r" \|  fit\(\n \|      self,\n \|      X: MatrixLike,\n \|      y: .*,\n", shown)
    assert re.search(r"fit\(\n    X: MatrixLike,\n    y: .*,\n", pydoc.render_doc(cls().fit, renderer=pydoc.plaintext))
    assert "set_fit_request(\n" in shown


def test_short_signatures_stay_in_a_line():
    """One parameter a line is for what a line cannot hold."""
    assert str(inspect.signature(Huber)).startswith("(epsilon: float = 1.35)")
    assert "\n" in str(inspect.signature(Adam))
    assert "\n" in str(inspect.signature(check_gradient))


KINDS = [
    lambda: 0,
    lambda a, b=1: 0,
    lambda a, /, b, *, c: 0,
    lambda a, b, /: 0,
    lambda a, /, *b, c=2, **d: 0,
    lambda *, a: 0,
    lambda *a: 0,
    lambda **a: 0,
    lambda a, /, *, b: 0,
]


@pytest.mark.parametrize("function", KINDS)
def test_a_readable_signature_is_that_of_python(function):
    """In one line it is the same text; broken, it is the same signature when Python reads it."""
    signature = inspect.signature(function)
    shown = ReadableSignature.of(signature)
    assert shown.format() == str(signature)
    assert shown == signature
    broken = shown.format(max_width=1)
    assert inspect.signature(eval(f"lambda {broken[1:-1]}: 0".replace("\n", " "))) == signature or broken == "()"


def test_types_are_shown_as_they_are_written():
    """Without quotes, a return type too; objects in place of text are shown as Python does."""

    def function(a: "Forward | None", b: int = 1) -> "Grads":  # noqa: F821
        """Do nothing."""

    assert str(ReadableSignature.of(inspect.signature(function))) == "(a: Forward | None, b: int = 1) -> Grads"


def test_a_function_as_a_default_is_shown_by_its_name():
    """Not by an address; the default itself is what it was."""
    signature = inspect.signature(Checkpoint)
    assert "    dump: Callable[..., object] = dump,\n" in str(signature)
    assert signature.parameters["dump"].default is pickle.dump


@EACH_ESTIMATOR
def test_signatures_serve_programs_as_before(cls):
    """scikit-learn reads the parameters, and `typing` resolves the types of methods."""
    assert cls._get_param_names() == sorted(inspect.signature(cls).parameters)
    assert clone(cls(max_iter=3)).max_iter == 3
    for function in (cls.fit, cls.partial_fit, cls.__init__):
        hints = typing.get_type_hints(function)
        assert hints
        assert not any(isinstance(hint, str) for hint in hints.values())
    assert list(inspect.signature(cls().fit).parameters) == list(inspect.signature(cls.fit).parameters)[1:]


def test_functions_of_a_user_keep_their_signatures():
    """A subclass of one's own is shown as its author wrote it; what it inherits reads well."""

    class Mine(Adam):
        def __init__(self, learning_rate: "float" = 0.1) -> None:
            super().__init__(learning_rate)

        def own(self, a: "int") -> "int":
            return a

    assert "__signature__" not in vars(Mine.own)
    assert str(inspect.signature(Mine.own)) == "(self, a: 'int') -> 'int'"
    assert type(inspect.signature(Mine.update)) is ReadableSignature


def test_methods_behind_a_condition_are_reached():
    """`available_if` keeps the function inside a descriptor."""

    class Conditional:
        @available_if(lambda self: True)
        def method(self, a: "int") -> "int":
            return a

    Conditional.method.__module__ = vars(Conditional)["method"].fn.__module__ = "sk_analytic.anything"
    assert str(inspect.signature(readable(Conditional)().method)) == "(a: int) -> int"
