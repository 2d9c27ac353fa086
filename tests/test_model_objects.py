"""A model as an object: its methods are the callables, its hyperparameters are the estimator's too."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from models import (
    MODEL_OBJECTS,
    USER_MODELS,
    AutoencoderByGradient,
    LinearByGradient,
    LinearByJacobian,
    LinearByVjp,
    LogisticByVjp,
    NetworkBySquaredError,
    NetworkByVjp,
    coef_vjp,
    linear_forward,
    linear_gradient,
    linear_init,
    linear_loss,
    linear_vjp,
    rates_forward,
    rates_init,
    rates_vjp,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import logistic
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    Model,
    ParameterStructureError,
    ReceivedArgumentError,
    check_gradient,
    find_learning_rate,
    trusted_types,
)
from sk_analytic.losses import Huber

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
Y_OF = {
    AnalyticRegressor: X @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=60),
    AnalyticClassifier: (X[:, 0] + 0.3 * rng.normal(size=60) > 0).astype(int),
    AnalyticDensity: None,
    AnalyticTransformer: None,
}
Y = Y_OF[AnalyticRegressor]
EACH_FORM = pytest.mark.parametrize(
    ("cls", "form"), [(cls, form) for cls, forms in MODEL_OBJECTS.items() for form in forms]
)


def regressor(model, **settings):
    settings = {"optimizer": "adam", "max_iter": 3, "random_state": 0} | settings
    return AnalyticRegressor(model=model, **settings)


def leaves(params):
    return list(params.values()) if isinstance(params, dict) else list(params)


# One mechanism with the callables.


def as_functions(cls, form):
    """The settings of an estimator with the methods of a model object as its callables."""
    settings = dict(MODEL_OBJECTS[cls][form])
    model = settings.pop("model")
    roles = ("init", "forward", form, "loss")
    return settings | {role: getattr(model, role) for role in roles if hasattr(model, role)}


@EACH_FORM
def test_methods_train_as_functions_do(cls, form):
    """The same parameters to the last bit, whether methods come with their object or one by one."""
    shared = {"optimizer": "adam", "max_iter": 4, "batch_size": 16, "random_state": 0}
    by_object = cls(**MODEL_OBJECTS[cls][form], **shared).fit(X, Y_OF[cls])
    by_functions = cls(**as_functions(cls, form), **shared)
    if hasattr(by_functions, "accept_sparse"):
        by_functions.set_params(accept_sparse=True)
    by_functions.fit(X, Y_OF[cls])
    for ours, theirs in zip(leaves(by_object.params_), leaves(by_functions.params_), strict=True):
        assert_array_equal(ours, theirs)


def test_a_model_needs_no_base_class():
    """Any object with the methods serves, and clone copies it as scikit-learn copies other objects."""
    model = SimpleNamespace(init=linear_init, vjp=linear_vjp)
    estimator = regressor(model, loss="huber")
    assert clone(estimator).fit(X, Y).score(X, Y) == estimator.fit(X, Y).score(X, Y)
    assert estimator.model_ is model


def test_the_base_class_has_no_methods():
    """It documents: an object has those that its class defines, so that nothing has to be overridden."""
    roles = ("init", "forward", "gradient", "loss_and_gradient", "vjp", "jacobian", "loss", "sample", "inverse")
    assert not any(hasattr(Model(), role) for role in roles)
    assert issubclass(Model, BaseEstimator)
    assert all(role in Model.__annotations__ and role in Model.__doc__ for role in roles)


def test_a_loss_by_name_goes_with_a_vjp_of_an_object():
    """Huber's, by name or as an object with a hyperparameter."""
    by_name = regressor(NetworkByVjp(), loss="huber").fit(X, Y)
    other = regressor(NetworkByVjp(), loss=Huber(epsilon=0.1)).fit(X, Y)
    assert by_name.loss_ != other.loss_
    assert check_gradient(other, X, Y).ok


@pytest.mark.parametrize("loss", [staticmethod(linear_loss), "squared_error"], ids=["method", "name"])
def test_a_model_may_have_its_loss(loss):
    """As a method or as a name, in place of the estimator's default."""
    model = type("Own", (LinearByGradient,), {"loss": loss})()
    assert_allclose(regressor(model).fit(X, Y).loss_, regressor(LinearByGradient()).fit(X, Y).loss_)


def test_the_loss_of_a_model_object_can_be_an_object():
    """Its hyperparameters are then the model's business."""
    model = type("Own", (LinearByVjp,), {"loss": Huber(epsilon=0.1)})()
    by_parameter = regressor(LinearByVjp(), loss=Huber(epsilon=0.1)).fit(X, Y)
    assert regressor(model).fit(X, Y).loss_ == by_parameter.loss_


class Rates(Model):
    init = staticmethod(rates_init)
    forward = staticmethod(rates_forward)
    vjp = staticmethod(rates_vjp)


def test_methods_receive_metadata_that_they_name():
    """An exposure reaches them in fit and predict, and can be requested."""
    exposure = rng.uniform(1, 2, size=60)
    counts = rng.poisson(exposure)
    model = regressor(Rates(), loss="poisson").fit(X, counts, exposure=exposure)
    assert_allclose(model.predict(X, exposure=2 * exposure), 2 * model.predict(X, exposure=exposure))
    assert "exposure" in model.get_metadata_routing().fit.requests


def test_a_model_object_goes_with_everything_else_of_an_estimator():
    """Chunks, partial_fit, weights, early stopping, the gradient check, the rate finder, a pipeline."""
    chunks = [(X[:30], Y[:30]), (X[30:], Y[30:])]
    assert regressor(NetworkByVjp()).fit_chunks(chunks).n_iter_ == 3
    assert regressor(NetworkBySquaredError()).partial_fit(X, Y, sample_weight=np.ones(60)).n_iter_ == 1
    assert len(regressor(NetworkByVjp(), early_stopping=True).fit(X, Y).validation_scores_) == 3
    assert check_gradient(regressor(LinearByJacobian()), X, Y).ok
    assert find_learning_rate(regressor(NetworkByVjp()), X, Y).rates[0] > 0
    assert make_pipeline(StandardScaler(), regressor(LinearByVjp())).fit(X, Y).predict(X).shape == (60,)


# Hyperparameters.


def test_hyperparameters_of_a_model_are_the_estimators():
    """In get_params, set_params and clone, as with every nested object of scikit-learn."""
    estimator = regressor(NetworkByVjp(n_hidden=4))
    assert estimator.get_params()["model__n_hidden"] == 4
    twin = clone(estimator).set_params(model__n_hidden=7)
    assert twin.fit(X, Y).params_[0].shape == (3, 7)
    assert estimator.fit(X, Y).params_[0].shape == (3, 4)


def test_a_grid_searches_models_and_their_hyperparameters():
    """The names of hyperparameters beside models themselves, and all that the estimator has."""
    grid = [
        {"model": [NetworkByVjp()], "model__n_hidden": [1, 2], "optimizer__learning_rate": [0.01, 0.1]},
        {"model": [LinearByVjp(), LinearByJacobian()]},
    ]
    search = GridSearchCV(regressor(LinearByVjp()), grid, cv=2).fit(X, Y)
    assert len(search.cv_results_["params"]) == 6
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_an_unknown_hyperparameter_is_refused_by_name():
    """The message knows the model and its hyperparameters."""
    with pytest.raises(ValueError, match=r"NetworkByVjp.* has no hyperparameter 'n_hiden'. Did you mean 'n_hidden'\?"):
        regressor(NetworkByVjp()).set_params(model__n_hiden=3)


def test_fit_trains_a_copy():
    """What is set after a fit has its effect in the next one; predictions are those of the fit."""
    estimator = AnalyticDensity(model=LogisticByVjp(smallest=0.5), max_iter=2, random_state=0).fit(X)
    before = estimator.score_samples(X)
    estimator.set_params(model__smallest=5.0)
    assert estimator.model_.smallest == 0.5
    assert_array_equal(estimator.score_samples(X), before)
    assert not np.allclose(estimator.fit(X).score_samples(X), before)


class Counting(LinearByVjp):
    """A model that learns something beside its parameters: how often it was evaluated."""

    def __init__(self, note=""):
        self.note = note

    def vjp(self, params, X):
        self.n_calls_ = getattr(self, "n_calls_", 0) + 1
        return linear_vjp(params, X)


def test_a_training_that_goes_on_keeps_its_model():
    """Its own copy, with what that has noted, unless a hyperparameter has changed; the user's object stays as it is."""
    model = Counting()
    estimator = regressor(model).partial_fit(X, Y)
    first, n_calls = estimator.model_, estimator.model_.n_calls_
    assert estimator.partial_fit(X, Y).model_ is first
    assert first.n_calls_ > n_calls
    assert estimator.set_params(model__note="other").partial_fit(X, Y).model_ is not first
    assert not hasattr(model, "n_calls_")


def test_the_model_is_shown():
    """In the line and in the diagram of an estimator, with what was set."""
    estimator = regressor(NetworkByVjp(n_hidden=4))
    assert repr(estimator).startswith("AnalyticRegressor(model=NetworkByVjp(n_hidden=4)")
    assert "model: NetworkByVjp" in estimator._repr_html_()


def test_an_estimator_with_a_model_object_can_be_saved():
    """By pickle, under the import path of the class."""
    estimator = regressor(NetworkByVjp(n_hidden=4)).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(estimator))
    assert_array_equal(loaded.predict(X), estimator.predict(X))
    assert loaded.partial_fit(X, Y).model_.n_hidden == 4


def test_an_estimator_with_a_model_object_can_be_saved_by_skops():
    """Its class is what the reader of the file has to trust."""
    sio = pytest.importorskip("skops.io")
    estimator = regressor(NetworkByVjp(n_hidden=4)).fit(X, Y)
    loaded = sio.loads(sio.dumps(estimator), trusted=trusted_types(NetworkByVjp))
    assert_array_equal(loaded.predict(X), estimator.predict(X))


# What is refused.


def gives(**functions):
    return SimpleNamespace(**functions)


REFUSED = {
    "a class": (NetworkByVjp, r"model=NetworkByVjp is a class. Pass an instance: model=NetworkByVjp\(\)."),
    "a number": (3, "model must be an object with some of the methods init, forward, .*; got 3, which has none"),
    "an estimator": (
        LinearRegression(),
        "which has none of them. It has a method 'predict'. Did you mean 'forward'",
    ),
    "no gradient": (
        gives(init=linear_init, forward=linear_forward),
        "has init, forward. AnalyticRegressor also needs one of gradient, loss_and_gradient, vjp, jacobian.$",
    ),
    "no prediction": (
        gives(init=linear_init, gradient=linear_gradient),
        "has init, gradient. AnalyticRegressor also needs forward or vjp.$",
    ),
    "no start": (gives(vjp=linear_vjp), "has vjp. AnalyticRegressor also needs init.$"),
    "another name": (
        gives(init=linear_init, forward=linear_forward, grad=linear_gradient),
        "also needs one of .*. It has a method 'grad'. Did you mean 'gradient'?",
    ),
    "two gradients": (
        gives(init=linear_init, forward=linear_forward, gradient=linear_gradient, vjp=linear_vjp),
        "has init, forward, gradient, vjp. Keep exactly one of gradient, vjp",
    ),
}


@pytest.mark.parametrize(("model", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_whole_model_is_refused(model, message):
    """The message lists what the object has and what is missing."""
    with pytest.raises(TypeError, match=message):
        regressor(model).fit(X, Y)


BESIDE = {
    "forward": ({"forward": linear_forward}, "forward=linear_forward .* but the model has the method forward"),
    "vjp": ({"vjp": linear_vjp}, "vjp=linear_vjp .* but the model has the method gradient"),
    "gradient": ({"gradient": linear_gradient}, "gradient=linear_gradient .* but the model has the method gradient"),
    "init": ({"init": linear_init}, "init=linear_init .* but the model has the method init"),
    "loss": ({"loss": linear_loss}, "loss=linear_loss .* but the model has the method loss"),
    "a named loss": ({"loss": "huber"}, "loss='huber' .* but the model has the method loss"),
}


@pytest.mark.parametrize(("settings", "message"), BESIDE.values(), ids=BESIDE)
def test_two_functions_of_one_role_are_refused(settings, message):
    """A callable beside a method of the same role: the message names both."""
    model = type("Own", (LinearByGradient,), {"loss": staticmethod(linear_loss)})()
    with pytest.raises(TypeError, match=message.replace(" .* ", r" and model=Own\(\) are both given, ")):
        regressor(model, **settings).fit(X, Y)


def test_parameters_to_start_from_replace_the_start_of_a_model():
    """A structure is no callable: with it, a model trains on from where the user says."""
    start = regressor(LinearByVjp()).fit(X, Y).params_
    fitted = regressor(LinearByVjp(), init=start, fixed=("W", "b")).fit(X, Y)
    assert_array_equal(fitted.params_["W"], start["W"])


def test_callables_complete_a_model_object():
    """What the object lacks, a parameter of the estimator may give."""
    model = gives(init=linear_init, forward=linear_forward)
    fitted = regressor(model, gradient=linear_gradient).fit(X, Y)
    assert_array_equal(fitted.params_["W"], regressor(LinearByGradient()).fit(X, Y).params_["W"])


def test_without_a_gradient_differences_train_a_model_object():
    """As with callables, where all blocks are in numerical."""
    model = gives(init=linear_init, forward=linear_forward)
    with pytest.warns(UserWarning, match="is computed from finite differences"):
        fitted = regressor(model, numerical=("W", "b"), optimizer="lbfgs", max_iter=50).fit(X, Y)
    assert fitted.score(X, Y) > 0.99


def test_a_model_object_by_position_is_pointed_to_its_place():
    """The first parameter is `forward`."""
    with pytest.raises(
        TypeError, match=r"forward=LinearByVjp\(\) is a model object, not a function. Pass it as model="
    ):
        AnalyticRegressor(LinearByVjp()).fit(X, Y)


# Samples of a density.


def test_the_default_density_draws_samples_of_its_gaussian():
    """Means and standard deviations of many rows are those of its parameters, within five standard errors."""
    data = rng.normal([1.0, -3.0], [0.5, 2.0], size=(500, 2))
    density = AnalyticDensity(optimizer="lbfgs").fit(data)
    drawn = density.sample(20_000, random_state=0)
    mean, scale = density.params_["mean"], np.exp(density.params_["log_scale"])
    assert_allclose(drawn.mean(axis=0), mean, atol=5 * scale.max() / np.sqrt(20_000))
    assert_allclose(drawn.std(axis=0), scale, rtol=5 / np.sqrt(40_000))


def test_samples_depend_on_the_seed_alone():
    """One seed gives the same rows, another one others, as a number or a RandomState."""
    density = AnalyticDensity(max_iter=1).fit(X)
    assert density.sample().shape == (1, 3)
    assert_array_equal(density.sample(4, random_state=1), density.sample(4, random_state=1))
    assert not np.array_equal(density.sample(4, random_state=1), density.sample(4, random_state=2))
    state = np.random.RandomState(0)
    assert not np.array_equal(density.sample(4, random_state=state), density.sample(4, random_state=state))


def test_the_sample_method_of_a_model_object_is_used():
    """With the hyperparameters and the parameters of the fit: quantiles of many rows are the distribution's."""
    density = AnalyticDensity(model=LogisticByVjp(), optimizer="lbfgs").fit(X)
    drawn = density.sample(20_000, random_state=0)[:, 0]
    theory = logistic(density.params_.mean[0], np.exp(density.params_.log_scale[0]) + 0.01)
    assert_allclose(theory.cdf(np.quantile(drawn, [0.1, 0.5, 0.9])), [0.1, 0.5, 0.9], atol=0.02)


def sampler(params, n_samples, scale=1.0):
    return np.full((n_samples, 3), scale)


def test_callables_have_a_sampler():
    """Beside the functions of a density, with what model_params give it; rows have the dtype of the parameters."""
    settings = USER_MODELS[AnalyticDensity]["vjp"] | {"model_params": {"smallest": 0.01, "scale": 3.0}}
    density = AnalyticDensity(**settings, sampler=sampler, max_iter=1).fit(X.astype(np.float32))
    assert_array_equal(density.sample(2), np.full((2, 3), 3.0, np.float32))
    assert density.sample(2).dtype == np.float32


def test_there_is_no_sample_without_a_sampler():
    """hasattr says so, as for predict_proba in scikit-learn, and the message says what to give."""
    density = AnalyticDensity(**USER_MODELS[AnalyticDensity]["vjp"], max_iter=1).fit(X)
    assert not hasattr(density, "sample")
    with pytest.raises(AttributeError) as caught:
        density.sample(3)
    assert "Pass sampler, or a model object with the method sample" in str(caught.value.__cause__)
    density.set_params(sampler=sampler)
    with pytest.raises(NotFittedError, match="sampler was set after fit. Call fit on this AnalyticDensity again"):
        density.sample()


@pytest.mark.parametrize("n_samples", [0, -1, 2.5, "3", None])
def test_the_number_of_samples_is_checked(n_samples):
    """A whole number, at least 1."""
    with pytest.raises(ValueError, match="n_samples must be a whole number in"):
        AnalyticDensity(max_iter=1).fit(X).sample(n_samples)


def test_an_unfitted_density_has_no_samples():
    with pytest.raises(NotFittedError):
        AnalyticDensity().sample()


@pytest.mark.parametrize("returned", [np.zeros((2, 2)), np.zeros(6), np.full((2, 3), "a"), None], ids=str)
def test_what_a_sampler_returns_is_checked(returned):
    """Real numbers, a row for each sample, with the features of fit."""
    density = AnalyticDensity(
        **USER_MODELS[AnalyticDensity]["vjp"], sampler=lambda params, n_samples: returned, max_iter=1
    )
    with pytest.raises(ParameterStructureError, match=r"sample returned .*; expected real numbers of shape \(2, 3\)"):
        density.fit(X).sample(2)


def test_a_sampler_that_asks_for_something_else_is_refused_in_fit():
    """Before training, as every callable."""
    with pytest.raises(TypeError, match="sample has an argument 'n_sample' that is not provided. Did you mean 'n_"):
        AnalyticDensity(sampler=lambda params, n_sample: None).fit(X)


# The inverse of a transformer.


def test_the_default_autoencoder_has_an_inverse():
    """At its optimum the reconstruction is that of the principal components."""
    coder = AnalyticTransformer(optimizer="lbfgs", tol=1e-10, random_state=0).fit(X)
    pca = PCA(2).fit(X)
    expected = pca.inverse_transform(pca.transform(X))
    assert_allclose(coder.inverse_transform(coder.transform(X)), expected, atol=1e-5)


def test_the_inverse_of_a_model_object_is_used():
    """And that of callables, given as `inverse`; both in a pipeline."""
    coder = AnalyticTransformer(model=AutoencoderByGradient(), max_iter=2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), coder).fit(X)
    assert pipeline.inverse_transform(pipeline.transform(X)).shape == X.shape
    settings = USER_MODELS[AnalyticTransformer]["gradient"]
    by_callables = AnalyticTransformer(**settings, inverse=AutoencoderByGradient().inverse, max_iter=2, random_state=0)
    scaled = StandardScaler().fit_transform(X)
    assert_allclose(
        by_callables.fit(scaled).inverse_transform(by_callables.transform(scaled)),
        coder.inverse_transform(coder.transform(scaled)),
    )


def test_there_is_no_inverse_transform_without_an_inverse():
    coder = AnalyticTransformer(**USER_MODELS[AnalyticTransformer]["gradient"])
    assert not hasattr(coder, "inverse_transform")


def shifted(params, Z, shift):
    encoder, decoder, mean = params
    return Z @ decoder.T + mean + shift[:, None]


def test_an_inverse_receives_metadata_that_it_names():
    """With a row for each row of the codes; where it is missing, the message says where to pass it."""
    shift = np.arange(60.0)
    settings = USER_MODELS[AnalyticTransformer]["gradient"]
    coder = AnalyticTransformer(**settings, inverse=shifted, max_iter=1, random_state=0).fit(X, shift=shift)
    codes = coder.transform(X)
    plain = coder.inverse_transform(codes, shift=np.zeros(60))
    assert_allclose(coder.inverse_transform(codes, shift=shift) - plain, np.repeat(shift[:, None], 3, axis=1))
    assert "shift" in coder.get_metadata_routing().inverse_transform.requests
    with pytest.raises(TypeError, match="inverse has an argument 'shift' .* pass it to fit and inverse_transform"):
        coder.inverse_transform(codes)


def test_codes_of_another_width_are_refused():
    with pytest.raises(ValueError, match="X has 3 columns, but transform returns 2"):
        AnalyticTransformer(max_iter=1).fit(X).inverse_transform(X)


# What copies and models can do, and what is said of wrong ones.


@pytest.mark.parametrize("copied", [lambda item: pickle.loads(pickle.dumps(item)), copy.copy, copy.deepcopy])
def test_copies_can_do_all_that_the_original_can(copied):
    """Every public method of every estimator."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    density = AnalyticDensity().fit(X)
    assert_array_equal(copied(density).sample(5, random_state=0), density.sample(5, random_state=0))
    coder = AnalyticTransformer(model_params={"n_components": 1}, random_state=0).fit(X)
    codes = coder.transform(X)
    assert_array_equal(copied(coder).inverse_transform(codes), coder.inverse_transform(codes))
    regressor = AnalyticRegressor().fit(X, y)
    assert copied(regressor).mean_loss(X, y) == regressor.mean_loss(X, y)
    assert copied(coder).score(X) == coder.score(X)


class Line:
    """A line, without a base class."""

    def init(self, n_features):
        return {"coef": np.zeros(n_features), "intercept": 0.0}

    def vjp(self, params, X):
        return coef_vjp(params, X)


class Predictive(Line):
    def sample(self, params, X, rng):
        return X @ params["coef"]

    def inverse(self, y):
        return y


def test_what_an_estimator_cannot_do_is_no_matter_to_it():
    """A regressor never draws samples: a method of that name may take what it likes."""
    X = np.random.default_rng(0).normal(size=(30, 2))
    assert AnalyticRegressor(model=Predictive()).fit(X, X[:, 0]).score(X, X[:, 0]) > 0.99


class Broken(Line):
    @property
    def loss(self):
        return self.kind_of_los  # a slip of the pen


class NamesItsOwn(Line):
    k = 3

    def init(self, n_features, k):
        return {"coef": np.zeros(n_features), "intercept": 0.0}


def test_an_error_in_a_property_is_not_taken_for_its_absence():
    """Else another loss would be trained, silently."""
    with pytest.raises(AttributeError, match="kind_of_los") as raised:
        AnalyticRegressor(model=Broken()).fit(np.zeros((3, 1)), np.zeros(3))
    assert "Raised in the property loss of model=" in raised.value.__notes__[0]


def test_a_hyperparameter_is_read_from_self():
    """A method that names it is told so."""
    with pytest.raises(
        ReceivedArgumentError,
        match="'k', which is an attribute of its object. Remove the argument and read self.k in init",
    ):
        AnalyticRegressor(model=NamesItsOwn()).fit(np.zeros((3, 1)), np.zeros(3))


def test_a_class_in_place_of_an_instance_is_named():
    """By set_params too."""
    with pytest.raises(ValueError, match=r"model=Line is a class. Pass an instance: model=Line\(\)"):
        AnalyticRegressor(model=Line).set_params(model__k=2)
    with pytest.raises(TypeError, match="got 'linear', which has none of them.$"):
        AnalyticRegressor(model="linear").fit(np.zeros((3, 1)), np.zeros(3))


class Powers(Model):
    """A polynomial of one column."""

    def __init__(self, degree=2):
        self.degree = degree

    def init(self):
        return np.zeros(self.degree)

    def vjp(self, params, X):
        powers = X[:, :1] ** np.arange(self.degree)
        return powers[:, : len(params)] @ params, lambda d: d @ powers


def test_a_model_of_another_size_cannot_go_on():
    """The error says where the shapes come from."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 1)), rng.normal(size=40)
    settings = {"warm_start": True, "optimizer": "adam", "max_iter": 2, "tol": None, "random_state": 0}
    model = AnalyticRegressor(model=Powers(), **settings).fit(X, y)
    before = model.params_.copy()
    with pytest.raises(ParameterStructureError, match=r"shape \(3,\)") as raised:
        model.set_params(model__degree=3).fit(X, y)
    assert any("from the params_ of an earlier fit" in note for note in raised.value.__notes__)
    assert_array_equal(model.params_, before)
