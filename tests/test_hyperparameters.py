"""Parameters given by name: nested get_params and set_params, hyperparameters, look-ups."""

import copy
import fractions
import html
import inspect
import re

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer
from sk_analytic.hyperparameters import Hyperparameters, NamedParametersMixin, lookup
from sk_analytic.losses import Huber, Quantile, SquaredError, get_loss, get_loss_names
from sk_analytic.optimizers import (
    LBFGS,
    SGD,
    Adam,
    Chain,
    ClipNorm,
    Cosine,
    Optimizer,
    PerBlock,
    ReduceOnPlateau,
    RMSprop,
    Sign,
    Step,
    get_optimizer,
    get_optimizer_names,
)
from sk_analytic.validation import Interval

ESTIMATORS = [AnalyticRegressor, AnalyticClassifier, AnalyticDensity, AnalyticTransformer]


class Ball(Hyperparameters):
    ranges = {"size": Interval(0, 10), "color": ("red", "green"), "round": bool}

    def __init__(self, size=1.0, color="red", round=True, inside=None):
        self.size = size
        self.color = color
        self.round = round
        self.inside = inside


class Cube(Hyperparameters):
    def __init__(self, size=2.0, edge=0.5):
        self.size = size
        self.edge = edge


def get_toy(toy):
    return lookup("toy", {"ball": Ball, "cube": Cube}, toy, Hyperparameters)


class Box(NamedParametersMixin):
    """An estimator with a named parameter, a dictionary, and one that is neither."""

    _named = {"toy": get_toy}
    _dictionaries = ("extras",)

    def __init__(self, toy="ball", extras=None, label="box"):
        self.toy = toy
        self.extras = extras
        self.label = label


class Awkward:
    """Whatever it is asked, it raises."""

    def get_params(self, deep=True):
        raise RuntimeError("not now")

    def __eq__(self, other):
        raise RuntimeError("not now")

    __hash__ = None


class Settings:
    """A class that answers as an object would."""

    @classmethod
    def get_params(cls, deep=True):
        return {"learning_rate": 1}


ODD_VALUES = {
    "None": None,
    "a number": 3,
    "NaN": np.nan,
    "an unknown name": "nonsense",
    "an empty name": "",
    "a class": Adam,
    "a class of ours": Ball,
    "a class with parameters of its own": Settings,
    "an object": object(),
    "a function": len,
    "an array": np.arange(3),
    "a list": [Adam()],
    "a tuple": (),
    "a dict": {"learning_rate": 1},
    "a dict whose keys are no names": {1: 2, None: 3, ("a",): 4},
    "a chain of nothing": Chain(None),
    "a chain of oddities": Chain([Adam, 3, "adam", ("x",)]),
    "a per-block of oddities": PerBlock({"W": None, 1: 3}),
    "a scikit-learn estimator": StandardScaler(),
    "an object that raises": Awkward(),
}
ODD = pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)


# ---- get_params ----


def test_get_params_lists_what_is_behind_names_and_dictionaries():
    """A name's hyperparameters are listed as if its object stood there, a dict's entries likewise."""
    assert Box(extras={"n": 3}).get_params() == {
        "toy": "ball",
        "toy__size": 1.0,
        "toy__color": "red",
        "toy__round": True,
        "toy__inside": None,
        "extras": {"n": 3},
        "extras__n": 3,
        "label": "box",
    }
    assert Box(extras={"n": 3}).get_params(deep=False) == {"toy": "ball", "extras": {"n": 3}, "label": "box"}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", get_optimizer_names())
def test_a_name_lists_what_its_object_lists(estimator, name):
    """For each optimizer, get_params is the same for the name as for the object, but for the object itself."""
    named = estimator(optimizer=name).get_params()
    given = estimator(optimizer=get_optimizer(name)).get_params()
    assert named.pop("optimizer") == name
    del given["optimizer"]
    assert named == given
    assert {f"optimizer__{key}" for key in get_optimizer(name).get_params()} <= named.keys()


@pytest.mark.parametrize("estimator", [Box, *ESTIMATORS])
@ODD
def test_get_params_never_raises(estimator, value):
    """Whatever stands in a parameter: `fit` says what is wrong with it, and repr and clone must work before."""
    for parameter in estimator._get_param_names():
        made = estimator(**{parameter: value})
        assert made.get_params()[parameter] is value
        assert made.get_params(deep=False)[parameter] is value


@ODD
def test_set_params_takes_back_what_get_params_gave_whatever_it_is(value):
    """Also where a parameter holds something odd, setting it to what it is changes nothing."""
    for parameter in ("optimizer", "loss", "model_params", "init", "forward"):
        if isinstance(value, dict) and parameter == "model_params" and not all(isinstance(key, str) for key in value):
            continue
        estimator = AnalyticRegressor(**{parameter: value})
        params = estimator.get_params()
        estimator.set_params(**params)
        assert getattr(estimator, parameter) is value


def test_a_class_is_no_object():
    """What a class was given in the place of its instance has no parameters to list."""
    for value in (Ball, Settings):
        assert Box(toy=value).get_params() == {"toy": value, "extras": None, "label": "box"}


# ---- set_params ----


def test_a_changed_hyperparameter_puts_the_object_in_the_names_place():
    """Setting behind a name replaces the name by its object, with that one hyperparameter changed."""
    box = Box().set_params(toy__size=5.0)
    assert isinstance(box.toy, Ball)
    assert box.toy.get_params() == Ball(size=5.0).get_params()
    assert box.set_params(toy__color="green").toy.get_params() == Ball(5.0, "green").get_params()


def test_an_unchanged_hyperparameter_leaves_the_name():
    """Setting a hyperparameter to what it is behind the name is no change."""
    assert Box().set_params(toy__size=1.0, toy__color="red").toy == "ball"


@pytest.mark.parametrize(
    "params", [{"toy__size": 5.0, "toy": "cube", "toy__edge": 1.0}, {"toy": "cube", "toy__edge": 1.0, "toy__size": 5.0}]
)
def test_order_of_keys_does_not_matter(params):
    """What is set behind a parameter goes to what that same call puts there, whichever comes first."""
    box = Box(toy=Ball()).set_params(**params)
    assert isinstance(box.toy, Cube)
    assert box.toy.get_params() == {"size": 5.0, "edge": 1.0}


@pytest.mark.parametrize("keys", [("toy__inside", "toy__inside__size"), ("toy__inside__size", "toy__inside")])
@pytest.mark.parametrize("toy", ["ball", Ball()])
def test_an_object_inside_an_object_is_reached(keys, toy):
    """Nested twice, and set in the same call as what it is nested in, in either order."""
    values = {"toy__inside": Cube(), "toy__inside__size": 7.0}
    box = Box(toy=clone(toy, safe=False)).set_params(**{key: values[key] for key in keys})
    assert box.get_params()["toy__inside__size"] == 7.0
    assert box.set_params(toy__inside__size=8.0).toy.inside.size == 8.0


EXAMPLES = [
    AnalyticRegressor(),
    AnalyticRegressor(optimizer="lbfgs", loss="huber", model_params={"n_hidden": 3, "start": {"W": np.ones(2)}}),
    AnalyticRegressor(optimizer=Adam(0.5), loss=Huber(epsilon=2.0), init={"W": np.ones(3)}, alpha={"W": 1.0}),
    AnalyticClassifier(optimizer=Chain([ClipNorm(1.0), Adam()]), class_weight={0: 1.0, 1: 2.0}, fixed=["b"]),
    AnalyticDensity(optimizer=PerBlock({"W": Adam()}, default=Adam(0.1)), init=np.zeros, check_gradient="warn"),
    AnalyticTransformer(model_params={}),
    Box(toy=Ball(inside=Cube(size=9.0))),
    Box(toy="cube", extras={"toy": Ball(), "__": 3}),
]


@pytest.mark.parametrize("estimator", EXAMPLES, ids=repr)
def test_setting_all_that_get_params_gives_changes_nothing(estimator):
    """`set_params(**get_params())`, in any order of keys: each value is the very object that it was."""
    estimator = copy.deepcopy(estimator)
    params = estimator.get_params()
    for items in (params.items(), reversed(params.items()), sorted(params.items())):
        assert estimator.set_params(**dict(items)) is estimator
        after = estimator.get_params()
        assert after.keys() == params.keys()
        assert all(after[key] is params[key] for key in params)


@pytest.mark.parametrize("estimator", EXAMPLES, ids=repr)
def test_a_clone_has_equal_parameters_and_no_object_in_common(estimator):
    """Names stay names, objects are copied, a change of the clone does not reach the original."""
    before = repr(estimator.get_params())
    twin = clone(estimator)
    assert repr(twin.get_params()) == before
    for name, value in twin.get_params(deep=False).items():
        if isinstance(value, BaseEstimator | dict) and value:
            assert value is not getattr(estimator, name)
    for key, value in twin.get_params().items():
        if key.endswith(("__learning_rate", "__epsilon", "__size")) and isinstance(value, float):
            twin.set_params(**{key: 0.123})
            assert twin.get_params()[key] == 0.123
    assert repr(estimator.get_params()) == before


def test_a_dictionary_of_the_users_is_never_written():
    """A change of one entry makes a new dict; the user's, and one shared by two estimators, stay as they are."""
    given = {"n": 3, "m": 4}
    box, other = Box(extras=given), Box(extras=given)
    box.set_params(extras__n=5)
    assert given == {"n": 3, "m": 4}
    assert other.extras is given
    assert box.extras == {"n": 5, "m": 4}
    assert box.set_params(extras=given, extras__k=1).extras == {"n": 3, "m": 4, "k": 1}
    assert given == {"n": 3, "m": 4}


def test_a_dictionary_may_be_none_before_an_entry_is_set():
    """`model_params=None` and a grid over `model_params__n_hidden` go together; keys may hold underscores."""
    assert AnalyticRegressor().set_params(model_params__n_hidden=8).model_params == {"n_hidden": 8}
    assert Box().set_params(extras__a__b=1).extras == {"a__b": 1}
    assert Box().set_params(extras__a__b=1).get_params()["extras__a__b"] == 1


def test_arrays_in_a_dictionary_are_compared_by_value():
    """An equal array is no change, another one is; arrays deeper inside make a new dict, and no error."""
    given = {"start": np.ones(3), "table": {"W": np.ones(2)}}
    box = Box(extras=given)
    assert box.set_params(extras__start=np.ones(3)).extras is given
    assert box.set_params(extras__start=np.ones(1)).extras is not given
    box = Box(extras=given).set_params(extras__table={"W": np.ones(2)})
    assert box.extras["table"]["W"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tou": "cube"}, "Box has no parameter 'tou'. Did you mean 'toy'? It has: extras, label, toy."),
        ({"tou__size": 1.0}, "Box has no parameter 'tou'. Did you mean 'toy'?"),
        ({"toy__colou": 1}, "toy='ball' has no hyperparameter 'colou'. Did you mean 'color'? It has: color, inside,"),
        ({"toy__": 1}, "toy='ball' has no hyperparameter ''. It has:"),
        ({"toy__inside__size": 1}, "toy='ball' has no hyperparameter 'inside__size'."),
        ({"label__size": 1}, "label='box' has no parameters of its own; cannot set label__size."),
        ({"toy": None, "toy__size": 1}, "toy=None has no parameters of its own; cannot set toy__size."),
        ({"toy": Ball, "toy__size": 1}, "toy=Ball is a class. Pass an instance: toy=Ball()."),
        ({"toy": "bal", "toy__size": 2.0}, "Unknown toy 'bal'. Did you mean 'ball'? There are: 'ball', 'cube'."),
        ({"toy": Ball(), "toy__edge": 1}, "toy=Ball() has no hyperparameter 'edge'. It has:"),
        ({"extras": 3, "extras__n": 1}, "extras=3 has no parameters of its own; cannot set extras__n."),
    ],
)
def test_what_cannot_be_set_is_refused(changes, message):
    """The message names the parameter, what stands there, the nearest name, and what there is."""
    with pytest.raises(ValueError, match=re.escape(message)):
        Box().set_params(**changes)


def test_a_hyperparameter_that_one_of_several_names_lacks_shows_the_way():
    """In a grid over names, the message shows the list of dicts that works; and that list works."""
    grid = {"optimizer": ["adam", "lbfgs"], "optimizer__learning_rate": [0.1]}
    search = GridSearchCV(AnalyticRegressor(), grid)
    with pytest.raises(ValueError, match="optimizer='lbfgs' has no hyperparameter 'learning_rate'") as caught:
        search.fit(np.ones((10, 1)), np.ones(10))
    way = "[{'optimizer': [...], 'optimizer__learning_rate': [...]}, {'optimizer': ['lbfgs']}]"
    assert way in str(caught.value)
    grid = [{"optimizer": ["adam"], "optimizer__learning_rate": [0.1, 0.2]}, {"optimizer": ["lbfgs"]}]
    made = [AnalyticRegressor().set_params(**params).optimizer for params in ParameterGrid(grid)]
    assert [repr(optimizer) for optimizer in made] == ["Adam(learning_rate=0.1)", "Adam(learning_rate=0.2)", "'lbfgs'"]


def test_one_grid_searches_names_hyperparameters_and_model_parameters():
    """Through a pipeline: names of optimizers and losses, their hyperparameters, entries of model_params."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3))

    def forward(params, X, power=1):
        return X @ params["coef"] ** power

    def gradient(params, X, y, power=1):
        residual = forward(params, X, power) - y
        return {"coef": X.T @ residual / len(X) * power * params["coef"] ** (power - 1)}

    settings = {"optimizer": "adam", "max_iter": 9, "tol": 10, "n_iter_no_change": 1}
    model = AnalyticRegressor(forward, gradient, init={"coef": np.ones(3)}, **settings)
    grid = {
        "model__optimizer": ["adam", "rmsprop"],
        "model__optimizer__learning_rate": [1e-3, 1e-2],
        "model__loss": ["squared_error"],
        "model__model_params__power": [1, 2],
    }
    pipeline = Pipeline([("scaler", StandardScaler()), ("model", model)])
    search = GridSearchCV(pipeline, grid, error_score="raise", cv=2).fit(X, X @ np.array([1.0, 0.5, 2.0]))
    assert len(search.cv_results_["params"]) == 8
    assert set(search.best_params_) == set(grid)
    assert model.get_params()["optimizer"] == "adam"
    assert model.model_params is None


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", ["huber", "quantile"])
def test_a_losss_hyperparameters_are_reached_by_name(estimator, name):
    """`loss__epsilon` for a name, as for an object."""
    key, value = {"huber": ("loss__epsilon", 1.5), "quantile": ("loss__quantile", 0.9)}[name]
    made = estimator(loss=name).set_params(**{key: value})
    assert isinstance(made.loss, Huber | Quantile)
    assert made.get_params()[key] == value


# ---- HTML and repr ----


def listed_as_set(estimator):
    """Names that the table of the diagram marks as set by the user; None where there is no table."""
    shown = estimator_html_repr(estimator)
    if "parameters-table" not in shown:
        return None
    rows = re.findall(r'<tr class="(user-set|default)">.*?<td class="param">(.*?)</td>', shown, flags=re.DOTALL)
    assert rows
    texts = [(kind, html.unescape(re.sub(r"(?s)<span.*?</span>|<.*?>", "", cell)).strip()) for kind, cell in rows]
    return {text for kind, text in texts if kind == "user-set"}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_html_table_lists_no_default_as_set_by_the_user(estimator):
    """What is behind a default name was not set by anyone; what the user gave is listed."""
    made = estimator()
    assert listed_as_set(made) in (set(), None)
    assert listed_as_set(estimator(max_iter=7, model_params={"n": 3})) in ({"max_iter", "model_params"}, None)
    named = made.set_params(optimizer="adam", optimizer__learning_rate=0.5)
    assert listed_as_set(named) in ({"optimizer", "learning_rate"}, None)
    assert "<div" in made._repr_html_()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@ODD
def test_repr_and_diagram_show_whatever_was_put_in(estimator, value):
    """An estimator that cannot be fitted can still be looked at."""
    made = estimator(optimizer=value, loss=value, model_params=value)
    assert repr(made).startswith(estimator.__name__)
    if isinstance(value, Awkward):  # scikit-learn's table compares values
        return
    assert estimator.__name__ in estimator_html_repr(made)


def test_repr_shows_what_differs_from_the_defaults():
    """As everywhere in scikit-learn; nothing nested is listed twice."""
    assert repr(AnalyticRegressor(max_iter=3, optimizer=Adam(0.5))) == (
        "AnalyticRegressor(optimizer=Adam(learning_rate=0.5), max_iter=3)"
    )


# ---- hyperparameters ----


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": -1}, r"Ball: size must be a number in \[0, 10\]; got -1."),
        ({"size": np.nan}, r"Ball: size must be a number in \[0, 10\]; got nan."),
        ({"size": "big"}, r"Ball: size must be a number in \[0, 10\]; got 'big'."),
        ({"size": True}, r"Ball: size must be a number in \[0, 10\]; got True."),
        ({"size": None}, r"Ball: size must be a number in \[0, 10\]; got None."),
        ({"color": "blue"}, "Ball: color must be one of 'red', 'green'; got 'blue'."),
        ({"color": np.array(["red"])}, r"Ball: color must be one of 'red', 'green'; got array\("),
        ({"round": 1}, "Ball: round must be True or False; got 1."),
        ({"round": "yes"}, "Ball: round must be True or False; got 'yes'."),
    ],
)
def test_check_names_the_hyperparameter_its_range_and_what_came(params, message):
    """Values are stored as they are, by __init__ and set_params; `check` refuses those outside their range."""
    for ball in (Ball(**params), Ball().set_params(**params)):
        assert all(getattr(ball, key) is value for key, value in params.items())
        with pytest.raises(ValueError, match=f"^{message}"):
            ball.check()


@pytest.mark.parametrize(
    "params",
    [
        {"size": 0},
        {"size": 10},
        {"size": np.float32(3)},
        {"size": np.int64(3)},
        {"size": fractions.Fraction(1, 3)},
        {"color": np.str_("green")},
        {"round": np.False_},
        {"inside": object()},
    ],
)
def test_check_admits_numpy_numbers_strings_and_bools(params):
    """A search hands over NumPy's scalars; a hyperparameter without a range takes anything."""
    Ball(**params).check()


@pytest.mark.parametrize("name", get_loss_names())
def test_every_loss_refuses_a_hyperparameter_it_does_not_have(name):
    """The message names the class, and what it has, or that there is nothing."""
    loss = get_loss(name)
    with pytest.raises(ValueError, match=f"^{type(loss).__name__} has no hyperparameter 'sigma'.* It has: .+"):
        loss.set_params(sigma=1)


def test_an_unknown_hyperparameter_names_the_nearest():
    """On the object itself; a nested one of a plain number is refused too."""
    with pytest.raises(ValueError, match="Huber has no hyperparameter 'epsilom'. Did you mean 'epsilon'?"):
        Huber().set_params(epsilom=1)
    with pytest.raises(ValueError, match="epsilon=1.35 has no parameters of its own; cannot set epsilon__x."):
        Huber().set_params(epsilon__x=1)
    with pytest.raises(ValueError, match="SquaredError has no hyperparameter 'x'. It has: none at all."):
        SquaredError().set_params(x=1)
    assert Ball().set_params(inside__size=3.0, inside=Cube()).inside.size == 3.0


# ---- look-ups ----


def test_lookup_makes_an_object_of_a_name_and_passes_objects_on():
    """A new object each time; an instance is returned itself."""
    ball = Ball()
    assert get_toy(ball) is ball
    assert isinstance(get_toy("cube"), Cube)
    assert get_toy("ball") is not get_toy("ball")
    assert isinstance(get_toy(np.str_("ball")), Ball)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("cub", ValueError, "Unknown toy 'cub'. Did you mean 'cube'? There are: 'ball', 'cube'."),
        ("zzz", ValueError, "Unknown toy 'zzz'. There are: 'ball', 'cube'."),
        (None, TypeError, "toy must be a name or an instance of Hyperparameters; got None."),
        (Ball, TypeError, "Pass an instance: Ball()."),
        (3, TypeError, "toy must be a name or an instance of Hyperparameters; got 3."),
    ],
)
def test_lookup_refuses_everything_else(value, error, message):
    """An unknown name with the nearest, a class with the call that is missing."""
    with pytest.raises(error, match=re.escape(message)):
        get_toy(value)


# Words of other libraries.


MADE_WITH = {
    "learning_rate": "AnalyticClassifier has no parameter 'learning_rate'. Did you mean 'optimizer__learning_rate'?",
    "lr": "Set it by AnalyticClassifier(optimizer='adam').set_params(optimizer__learning_rate=...), or pass an object.",
    "epochs": "Did you mean 'max_iter'?",
    "patience": "Did you mean 'n_iter_no_change'?",
    "max_itr": "Did you mean 'max_iter'?",
    "optimizer__learning_rate": "optimizer='auto' is chosen by fit, so its parameters cannot be set beforehand.",
    "loss__power": "AnalyticClassifier does not accept 'loss__power' on construction",
    "loss__epsilon": "AnalyticClassifier does not accept 'loss__epsilon' on construction. loss='log_loss' has no",
}


@pytest.mark.parametrize("name", MADE_WITH)
def test_a_parameter_that_does_not_exist_is_refused_by_the_class_that_was_called(name):
    """In the constructor and in set_params, with our word for it."""
    with pytest.raises(TypeError, match=re.escape(MADE_WITH[name])):
        AnalyticClassifier(**{name: 1})
    if "__" not in name:
        with pytest.raises(ValueError, match=f"AnalyticClassifier has no parameter {name!r}. Did you mean"):
            AnalyticClassifier().set_params(**{name: 1})


def test_advice_on_a_hyperparameter_holds_for_the_object_beside_it():
    """Which is not changed."""
    sgd = SGD(momentum=0.5)
    with pytest.raises(TypeError, match=r"AnalyticRegressor\(loss=...\).set_params\(loss__epsilon=2.0\), or"):
        AnalyticRegressor(loss="huber", loss__epsilon=2.0)
    with pytest.raises(
        TypeError, match=r"AnalyticRegressor\(optimizer=...\).set_params\(optimizer__momentum=0.9\), or"
    ):
        AnalyticRegressor(optimizer=sgd, optimizer__momentum=0.9)
    assert sgd.momentum == 0.5


def test_a_subclass_may_have_parameters_of_its_own():
    """Named ones; what it takes without a name would be lost by `clone`."""

    class Named(AnalyticRegressor):
        def __init__(self, degree=2, max_iter=3):
            super().__init__(max_iter=max_iter)
            self.degree = degree

    class Any(AnalyticRegressor):
        def __init__(self, **settings):
            super().__init__(**settings)

    assert Named(degree=3).degree == 3
    with pytest.raises(TypeError, match="Any receives 'max_iter' through .* Name it in the signature"):
        Any(max_iter=7)
    with pytest.raises(TypeError, match="Named has no parameter 'dgree'. Did you mean 'degree'"):
        Named(dgree=3)


@pytest.mark.parametrize(("word", "ours"), [("mse", "squared_error"), ("BCE", "log_loss"), ("nll", "negative_log")])
def test_losses_of_other_libraries_are_suggested(word, ours):
    """By our names."""
    with pytest.raises(ValueError, match=f"Unknown loss '{word}'. Did you mean '{ours}"):
        get_loss(word)


def test_the_order_of_optax_is_refused():
    """The message says what `update` takes."""
    theta = np.ones(2)
    optimizer = get_optimizer("adam")
    state = optimizer.init(theta)
    with pytest.raises(TypeError, match=r"update takes \(state, theta, grads\).*got a ndarray as state"):
        optimizer.update(np.ones(2), state, theta)


OF_OTHERS = [
    (Adam, "lr", "learning_rate"),
    (Adam, "betas", "beta_1"),
    (Adam, "eps", "epsilon"),
    (SGD, "step_size", "learning_rate"),
    (RMSprop, "alpha", "rho"),
    (Step, "gamma", "factor"),
    (Step, "step_size", "initial"),
    (Cosine, "T_max", "length"),
    (Cosine, "eta_min", "final"),
    (ReduceOnPlateau, "min_lr", "minimum"),
    (ClipNorm, "max_grad_norm", "max_norm"),
    (LBFGS, "history_size", "maxcor"),
    (Huber, "delta", "epsilon"),
]


@pytest.mark.parametrize(("cls", "theirs", "ours"), OF_OTHERS)
def test_names_of_other_libraries_are_told_ours(cls, theirs, ours):
    """On construction and by `set_params`, without the advice for a search over several."""
    message = f"has no hyperparameter {theirs!r}. Did you mean {ours!r}? It has: "
    with pytest.raises(TypeError, match=re.escape(message)):
        cls(**{theirs: 0.5})
    if issubclass(cls, Optimizer):
        estimator = AnalyticRegressor(optimizer=cls())
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            estimator.set_params(**{f"optimizer__{theirs}": 0.5})
        assert "To search over several" not in str(caught.value)


def test_a_hyperparameter_of_another_optimizer_is_searched_in_dicts_of_their_own():
    """`momentum` is no misspelling for Adam."""
    with pytest.raises(ValueError, match="'momentum'. It has: .* To search over several, give each its own dict"):
        AnalyticRegressor(optimizer="adam").set_params(optimizer__momentum=0.9)


def test_the_signature_is_that_of_init():
    """Though unknown names are refused before."""
    assert list(inspect.signature(Adam).parameters) == list(inspect.signature(Adam.__init__).parameters)[1:]
    assert list(inspect.signature(Sign).parameters) == []
