"""The acceptance table: our estimators inside whatever scikit-learn and joblib build around an estimator.

One test a row. Each compares what the tool makes of our estimators with the same work done by hand, for the
default models and for callables of a user's own. `REFUSALS` lists what scikit-learn itself makes impossible.
"""

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed, parallel_config
from models import USER_MODELS
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import loguniform
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes the import of HalvingGridSearchCV work
from sklearn.feature_selection import RFECV, SelectFromModel, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, brier_score_loss
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import StandardScaler, scale
from sklearn.semi_supervised import SelfTrainingClassifier
from threadpoolctl import threadpool_limits

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The problems are tiny: threads would only wait for one another."""
    with threadpool_limits(1):
        yield


PATIENTS, PROGRESSION = (scale(part)[:150] for part in load_diabetes(return_X_y=True))
PATIENTS = PATIENTS[:, [2, 3, 7, 8]]
BOTH = np.stack([PROGRESSION, PATIENTS @ [1.0, 0.0, -1.0, 0.5]], axis=1)
FLOWERS, SPECIES = load_iris(return_X_y=True)
FLOWERS = scale(FLOWERS)
TUMOURS, BENIGN = load_breast_cancer(return_X_y=True)
TUMOURS, BENIGN = scale(TUMOURS[:200, :5]), BENIGN[:200]
LABELS = np.stack([BENIGN, TUMOURS[:, 0] > 0], axis=1).astype(int)
FRAME = pd.DataFrame(FLOWERS, columns=["sepal length", "sepal width", "petal length", "petal width"])


def closure_model(slope):
    """A linear model whose functions are closures, which only cloudpickle can send to another process."""

    def forward(params, X):
        return slope * (X @ params["w"]) + params["b"]

    def vjp(params, X):
        return forward(params, X), lambda d: {"w": slope * (X.T @ d), "b": d.sum(axis=0)}

    return {"forward": forward, "vjp": vjp, "init": lambda n_features: {"w": np.zeros(n_features), "b": 0.0}}


def made(cls, **settings):
    return cls(**{"optimizer": "lbfgs", "random_state": 0} | settings)


REGRESSORS = {
    "default": made(AnalyticRegressor),
    "network": made(AnalyticRegressor, **USER_MODELS[AnalyticRegressor]["vjp"]),
    "closure": made(AnalyticRegressor, **closure_model(0.5)),
}
CLASSIFIERS = {
    "default": made(AnalyticClassifier, alpha=0.01),
    "network": made(
        AnalyticClassifier, **USER_MODELS[AnalyticClassifier]["loss_and_gradient"], max_iter=1000, tol=1e-3
    ),
    "minibatches": AnalyticClassifier(alpha=0.01, batch_size=32, max_iter=500, tol=1e-3, random_state=0),
}
TRANSFORMERS = {
    "default": made(AnalyticTransformer),
    "autoencoder": made(
        AnalyticTransformer, **USER_MODELS[AnalyticTransformer]["loss_and_gradient"], max_iter=1000, tol=1e-3
    ),
}
DENSITIES = {
    "default": made(AnalyticDensity),
    "logistic": made(AnalyticDensity, **USER_MODELS[AnalyticDensity]["vjp"]),
}


# A new copy for each test: pipelines, among others, fit what they are given.


@pytest.fixture(params=REGRESSORS)
def regressor(request):
    return clone(REGRESSORS[request.param])


@pytest.fixture(params=CLASSIFIERS)
def classifier(request):
    return clone(CLASSIFIERS[request.param])


@pytest.fixture(params=TRANSFORMERS)
def transformer(request):
    return clone(TRANSFORMERS[request.param])


@pytest.fixture(params=DENSITIES)
def density(request):
    return clone(DENSITIES[request.param])


def fitted(estimator, *args, **weights):
    return clone(estimator).fit(*args, **weights)


def assert_better_than_a_guess(estimator, X, y):
    dummy = DummyClassifier() if is_classifier(estimator) else DummyRegressor()
    assert estimator.score(X, y) > dummy.fit(X, y).score(X, y) + 0.2


# ---- pipelines and what transforms columns ----


def test_pipeline(transformer, classifier):
    """Scaled rows, codes of them, classes: in one object, step by step, with weights and nested parameters."""
    X, weight = 3 * FLOWERS + 1, 1.0 + (SPECIES == 1)
    pipeline = make_pipeline(StandardScaler(), transformer, classifier)
    pipeline.fit(X, SPECIES, analyticclassifier__sample_weight=weight)
    scaled = StandardScaler().fit_transform(X)
    codes = fitted(transformer, scaled).transform(scaled)
    by_hand = fitted(classifier, codes, SPECIES, sample_weight=weight)
    assert_array_equal(pipeline.predict_proba(X), by_hand.predict_proba(codes))
    assert_array_equal(pipeline[:-1].get_feature_names_out(), ["analytictransformer0", "analytictransformer1"])
    assert_better_than_a_guess(pipeline, X, SPECIES)
    pipeline.set_params(analyticclassifier__optimizer="sgd", analyticclassifier__optimizer__learning_rate=0.5)
    assert pipeline[-1].get_params()["optimizer__learning_rate"] == 0.5


def test_column_transformer(transformer):
    """Codes of two columns beside the rest."""
    columns = ["petal length", "petal width"]
    codes = ColumnTransformer([("petal", transformer, columns)], remainder="passthrough")
    by_hand = fitted(transformer, FRAME[columns]).transform(FRAME[columns])
    assert_array_equal(codes.fit_transform(FRAME), np.hstack([by_hand, FRAME.drop(columns=columns)]))
    names = ["petal__analytictransformer0", "petal__analytictransformer1"]
    assert_array_equal(codes.get_feature_names_out()[:2], names)


def test_feature_union(transformer):
    """Codes beside principal components, and weighted as the union says."""
    union = FeatureUnion([("codes", transformer), ("pca", PCA(1))], transformer_weights={"codes": 2.0})
    by_hand = [2 * fitted(transformer, FLOWERS).transform(FLOWERS), PCA(1).fit_transform(FLOWERS)]
    assert_array_equal(union.fit_transform(FLOWERS), np.hstack(by_hand))
    names = ["codes__analytictransformer0", "codes__analytictransformer1", "pca__pca0"]
    assert_array_equal(union.get_feature_names_out(), names)


def test_transform_output_pandas(transformer):
    """Set for all: frames with names and the index of the rows, through unions and pipelines."""
    rows = FRAME.set_axis(range(1000, 1000 + len(FRAME)))
    with config_context(transform_output="pandas"):
        codes = make_pipeline(StandardScaler(), make_union(transformer, PCA(1))).fit_transform(rows)
    assert_array_equal(codes.index, rows.index)
    names = ["analytictransformer__analytictransformer0", "analytictransformer__analytictransformer1", "pca__pca0"]
    assert_array_equal(codes.columns, names)
    scaled = StandardScaler().fit_transform(FLOWERS)
    assert_allclose(codes[names[:2]], fitted(transformer, scaled).transform(scaled), rtol=1e-6, atol=1e-5)


# ---- searches and validation ----


def test_grid_search(classifier):
    """Over names of optimizers and what they share: each candidate is the direct fit, the best is refitted."""
    grid = {"optimizer": ["lbfgs", "bfgs"], "alpha": [0.01, 10.0]}
    search = GridSearchCV(classifier, grid, cv=3).fit(FLOWERS, SPECIES)
    for candidate, scores in zip(search.cv_results_["params"], scores_of(search), strict=True):
        direct = cross_val_score(clone(classifier).set_params(**candidate), FLOWERS, SPECIES, cv=3)
        assert_array_equal(scores, direct)
    best = fitted(clone(classifier).set_params(**search.best_params_), FLOWERS, SPECIES)
    assert_array_equal(search.predict_proba(FLOWERS), best.predict_proba(FLOWERS))
    assert search.best_params_["alpha"] == 0.01


def scores_of(search):
    """Scores of a search, a row a candidate."""
    return np.stack([search.cv_results_[f"split{k}_test_score"] for k in range(search.n_splits_)], axis=1)


def test_randomized_search(regressor):
    """Draws from distributions over hyperparameters of the optimizer; a seed draws the same again."""
    space = {"optimizer": ["adam", "rmsprop"], "optimizer__learning_rate": loguniform(0.005, 0.1), "tol": [0.01]}
    search = RandomizedSearchCV(regressor, space, n_iter=4, cv=3, random_state=0).fit(PATIENTS, PROGRESSION)
    rates = [candidate["optimizer__learning_rate"] for candidate in search.cv_results_["params"]]
    assert len(set(rates)) == 4
    assert 0.005 <= min(rates) < max(rates) <= 0.1
    for candidate, scores in zip(search.cv_results_["params"], scores_of(search), strict=True):
        direct = cross_val_score(clone(regressor).set_params(**candidate), PATIENTS, PROGRESSION, cv=3)
        assert_array_equal(scores, direct)
    assert_better_than_a_guess(search, PATIENTS, PROGRESSION)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # candidates are given few epochs at first
@pytest.mark.parametrize("resource", ["n_samples", "max_iter"])
def test_halving_grid_search(classifier, resource):
    """Rows or epochs are the resource; the candidate that hardly learns is not the one that is left."""
    grid = {"alpha": [0.01, 0.1, 1.0, 100.0]}
    settings = {"min_resources": 30, "max_resources": 120, "factor": 2, "cv": 2, "random_state": 0}
    search = HalvingGridSearchCV(classifier, grid, resource=resource, **settings).fit(FLOWERS, SPECIES)
    assert search.n_resources_ == [30, 60, 120]
    assert search.n_candidates_ == [4, 2, 1]
    assert search.best_params_["alpha"] < 100
    if resource == "max_iter":
        assert search.best_estimator_.max_iter == 120
    assert_better_than_a_guess(search, FLOWERS, SPECIES)


def test_cross_validate(regressor):
    """Several scores, train and test, and the estimators: those of a loop over the folds."""
    folds = KFold(3, shuffle=True, random_state=0)
    scoring = ["r2", "neg_mean_absolute_error"]
    options = {"return_train_score": True, "return_estimator": True}
    results = cross_validate(regressor, PATIENTS, PROGRESSION, cv=folds, scoring=scoring, **options)
    for k, (train, test) in enumerate(folds.split(PATIENTS)):
        by_hand = fitted(regressor, PATIENTS[train], PROGRESSION[train])
        predicted = by_hand.predict(PATIENTS[test])
        assert_array_equal(results["estimator"][k].predict(PATIENTS[test]), predicted)
        assert results["test_r2"][k] == by_hand.score(PATIENTS[test], PROGRESSION[test])
        assert results["train_r2"][k] == by_hand.score(PATIENTS[train], PROGRESSION[train])
        error = np.abs(predicted - PROGRESSION[test]).mean()
        assert results["test_neg_mean_absolute_error"][k] == pytest.approx(-error)


def test_cross_validation_of_a_density(density):
    """Without y: by the mean log-density of the rows left out."""
    folds = KFold(3)
    parts = folds.split(FLOWERS)
    expected = [fitted(density, FLOWERS[train]).score(FLOWERS[test]) for train, test in parts]
    assert_array_equal(cross_val_score(density, FLOWERS, cv=folds), expected)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_cross_val_predict(classifier, method):
    """Each row by the model that has not seen it."""
    folds = StratifiedKFold(3)
    expected = np.empty((len(SPECIES), 3)) if method != "predict" else np.empty(len(SPECIES), int)
    for train, test in folds.split(FLOWERS, SPECIES):
        expected[test] = getattr(fitted(classifier, FLOWERS[train], SPECIES[train]), method)(FLOWERS[test])
    assert_array_equal(cross_val_predict(classifier, FLOWERS, SPECIES, cv=folds, method=method), expected)


def test_learning_curve(classifier):
    """Scores by number of rows; the last are those of cross-validation."""
    sizes, train, test = learning_curve(
        classifier, FLOWERS, SPECIES, train_sizes=[0.3, 1.0], cv=3, shuffle=True, random_state=0
    )
    assert_array_equal(sizes, [30, 100])
    assert test[1].mean() > 0.85
    assert (train > 0.85).all()
    whole = learning_curve(classifier, FLOWERS, SPECIES, train_sizes=[1.0], cv=3)[2]
    assert_array_equal(whole[0], cross_val_score(classifier, FLOWERS, SPECIES, cv=3))


@pytest.mark.parametrize("model", ["default", "network"])
def test_incremental_learning_curve(model):
    """By partial_fit on the rows that are new at each size."""
    classifier = clone(CLASSIFIERS[model]).set_params(optimizer="adam", batch_size=5)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    _, _, test = learning_curve(
        classifier, FLOWERS, SPECIES, train_sizes=[40, 80], cv=folds, exploit_incremental_learning=True
    )
    for k, (train, held_out) in enumerate(folds.split(FLOWERS, SPECIES)):
        by_hand = clone(classifier)
        for size, rows in enumerate((train[:40], train[40:80])):
            by_hand.partial_fit(FLOWERS[rows], SPECIES[rows], classes=[0, 1, 2])
            assert test[size, k] == by_hand.score(FLOWERS[held_out], SPECIES[held_out])


def test_validation_curve(regressor):
    """The stronger the penalty, the worse the fit to the training rows; test scores are those of direct fits."""
    alphas = [1e-3, 1.0, 1e3]
    train, test = validation_curve(regressor, PATIENTS, PROGRESSION, param_name="alpha", param_range=alphas, cv=3)
    assert (np.diff(train.mean(axis=1)) < 0).all()
    for alpha, scores in zip(alphas, test, strict=True):
        direct = clone(regressor).set_params(alpha=alpha)
        assert_array_equal(scores, cross_val_score(direct, PATIENTS, PROGRESSION, cv=3))


# ---- ensembles and reductions ----


def test_stacking_regressor(regressor):
    """The final estimator learns from predictions of rows left out, ours below and above."""
    final = made(AnalyticRegressor)
    stack = StackingRegressor([("ours", regressor), ("ridge", Ridge())], final, cv=3).fit(PATIENTS, PROGRESSION)
    below = [cross_val_predict(model, PATIENTS, PROGRESSION, cv=3) for model in (regressor, Ridge())]
    by_hand = fitted(final, np.stack(below, axis=1), PROGRESSION)
    above = [fitted(model, PATIENTS, PROGRESSION).predict(PATIENTS) for model in (regressor, Ridge())]
    assert_array_equal(stack.predict(PATIENTS), by_hand.predict(np.stack(above, axis=1)))
    assert_better_than_a_guess(stack, PATIENTS, PROGRESSION)


def test_stacking_classifier(classifier):
    """Likewise, on probabilities."""
    stack = StackingClassifier([("ours", classifier)], made(AnalyticClassifier), cv=3).fit(FLOWERS, SPECIES)
    below = cross_val_predict(classifier, FLOWERS, SPECIES, cv=3, method="predict_proba")
    by_hand = fitted(made(AnalyticClassifier), below, SPECIES)
    above = fitted(classifier, FLOWERS, SPECIES).predict_proba(FLOWERS)
    assert_array_equal(stack.predict_proba(FLOWERS), by_hand.predict_proba(above))


def test_voting_classifier():
    """Probabilities are averaged, or votes counted, with weights of rows and of models; labels come back."""
    y, weight = np.array(["a", "b", "c"])[SPECIES], 1.0 + (SPECIES == 1)
    members = list(CLASSIFIERS.items())
    direct = [fitted(model, FLOWERS, y, sample_weight=weight) for model in CLASSIFIERS.values()]
    soft = VotingClassifier(members, voting="soft", weights=[1, 2, 3]).fit(FLOWERS, y, sample_weight=weight)
    probabilities = [model.predict_proba(FLOWERS) for model in direct]
    assert_allclose(soft.predict_proba(FLOWERS), np.average(probabilities, axis=0, weights=[1, 2, 3]), rtol=1e-12)
    hard = VotingClassifier(members).fit(FLOWERS, y, sample_weight=weight)
    votes = sum((model.predict(FLOWERS)[:, None] == np.unique(y)).astype(int) for model in direct)
    assert_array_equal(hard.predict(FLOWERS), np.unique(y)[votes.argmax(axis=1)])


def test_voting_regressor():
    """The mean of the predictions."""
    voting = VotingRegressor(list(REGRESSORS.items())).fit(PATIENTS, PROGRESSION)
    direct = [fitted(model, PATIENTS, PROGRESSION).predict(PATIENTS) for model in REGRESSORS.values()]
    assert_allclose(voting.predict(PATIENTS), np.mean(direct, axis=0), rtol=1e-12)


def test_bagging_regressor(regressor):
    """In two processes; the mean over estimators that saw other rows and columns."""
    bagging = BaggingRegressor(regressor, 4, max_features=0.75, n_jobs=2, random_state=0)
    bagging.fit(PATIENTS, PROGRESSION)
    members = zip(bagging.estimators_, bagging.estimators_features_, strict=True)
    each = [model.predict(PATIENTS[:, columns]) for model, columns in members]
    assert len({tuple(prediction) for prediction in each}) == 4
    assert_allclose(bagging.predict(PATIENTS), np.mean(each, axis=0), rtol=1e-12)
    alone = BaggingRegressor(regressor, 4, max_features=0.75, random_state=0).fit(PATIENTS, PROGRESSION)
    assert_allclose(bagging.predict(PATIENTS), alone.predict(PATIENTS), rtol=1e-12)
    assert_better_than_a_guess(bagging, PATIENTS, PROGRESSION)


def test_bagging_classifier(classifier):
    """The mean of the probabilities; each estimator drew its own rows."""
    bagging = BaggingClassifier(classifier, 5, max_samples=0.5, random_state=0).fit(FLOWERS, SPECIES)
    each = [model.predict_proba(FLOWERS) for model in bagging.estimators_]
    assert_allclose(bagging.predict_proba(FLOWERS), np.mean(each, axis=0), rtol=1e-12)
    assert np.std(each, axis=0).max() > 0.01
    assert_better_than_a_guess(bagging, FLOWERS, SPECIES)


def test_adaboost_classifier(classifier):
    """Rows that were classified wrongly weigh more in the next fit, which has learned from weights."""
    boosted = AdaBoostClassifier(classifier, n_estimators=3, random_state=0).fit(FLOWERS, SPECIES)
    weight = np.full(len(SPECIES), 1 / len(SPECIES))
    for member, strength, error in zip(
        boosted.estimators_, boosted.estimator_weights_, boosted.estimator_errors_, strict=False
    ):
        by_hand = fitted(clone(classifier).set_params(random_state=member.random_state), FLOWERS, SPECIES, weight)
        assert_allclose(member.predict_proba(FLOWERS), by_hand.predict_proba(FLOWERS), rtol=1e-6, atol=1e-9)
        wrong = member.predict(FLOWERS) != SPECIES
        assert error == pytest.approx(weight[wrong].sum())
        weight = weight * np.exp(strength * wrong)
        weight /= weight.sum()
    assert len(boosted.estimators_) > 1
    assert_better_than_a_guess(boosted, FLOWERS, SPECIES)


def test_adaboost_regressor(regressor):
    """Which draws rows by their weight."""
    boosted = AdaBoostRegressor(regressor, n_estimators=3, random_state=0).fit(PATIENTS, PROGRESSION)
    assert len(boosted.estimators_) == 3
    assert_better_than_a_guess(boosted, PATIENTS, PROGRESSION)


def test_one_vs_rest(classifier):
    """A classifier for each class against the others, by their decision; for labels likewise."""
    reduced = OneVsRestClassifier(classifier).fit(FLOWERS, SPECIES)
    scores = [fitted(classifier, FLOWERS, np.equal(SPECIES, k)).decision_function(FLOWERS) for k in range(3)]
    assert_array_equal(reduced.decision_function(FLOWERS), np.stack(scores, axis=1))
    assert_array_equal(reduced.predict(FLOWERS), np.argmax(scores, axis=0))
    labels = OneVsRestClassifier(classifier).fit(TUMOURS, LABELS)
    each = [fitted(classifier, TUMOURS, label).predict(TUMOURS) for label in LABELS.T]
    assert_array_equal(labels.predict(TUMOURS), np.stack(each, axis=1))


def test_one_vs_one(classifier):
    """A classifier for each pair of classes."""
    reduced = OneVsOneClassifier(classifier).fit(FLOWERS, SPECIES)
    pair = np.flatnonzero(SPECIES != 2)
    by_hand = fitted(classifier, FLOWERS[pair], SPECIES[pair])
    assert_array_equal(reduced.estimators_[0].predict(FLOWERS), by_hand.predict(FLOWERS))
    assert_better_than_a_guess(reduced, FLOWERS, SPECIES)


def test_multi_output_regressor(regressor):
    """A regressor for each column, in threads or not."""
    several = MultiOutputRegressor(regressor).fit(PATIENTS, BOTH)
    each = [fitted(regressor, PATIENTS, column).predict(PATIENTS) for column in BOTH.T]
    assert_array_equal(several.predict(PATIENTS), np.stack(each, axis=1))


def test_multi_output_classifier(classifier):
    """A classifier for each column, each with labels of its own."""
    y = np.stack([np.array(["no", "yes"])[BENIGN], np.array(["large", "small"])[LABELS[:, 1]]], axis=1)
    several = MultiOutputClassifier(classifier).fit(TUMOURS, y)
    each = [fitted(classifier, TUMOURS, column).predict(TUMOURS) for column in y.T]
    assert_array_equal(several.predict(TUMOURS), np.stack(each, axis=1))


def test_classifier_chain(classifier):
    """The second classifier sees the first label as a column, in predict what the first says."""
    chain = ClassifierChain(classifier, order=[0, 1]).fit(TUMOURS, LABELS)
    first = fitted(classifier, TUMOURS, LABELS[:, 0])
    second = fitted(classifier, np.column_stack([TUMOURS, LABELS[:, 0]]), LABELS[:, 1])
    said = first.predict(TUMOURS)
    expected = np.column_stack([said, second.predict(np.column_stack([TUMOURS, said]))])
    assert_array_equal(chain.predict(TUMOURS), expected)


def test_regressor_chain(regressor):
    """Likewise for regression."""
    chain = RegressorChain(regressor, order=[1, 0]).fit(PATIENTS, BOTH)
    first = fitted(regressor, PATIENTS, BOTH[:, 1])
    second = fitted(regressor, np.column_stack([PATIENTS, BOTH[:, 1]]), BOTH[:, 0])
    said = first.predict(PATIENTS)
    expected = np.column_stack([second.predict(np.column_stack([PATIENTS, said])), said])
    assert_allclose(chain.predict(PATIENTS), expected, rtol=1e-12)


def test_transformed_target_regressor(regressor):
    """Trained on the logarithm of y, predicting y; y of one column comes back as it was."""
    y = np.exp(PROGRESSION)
    transformed = TransformedTargetRegressor(regressor, func=np.log, inverse_func=np.exp).fit(PATIENTS, y)
    by_hand = fitted(regressor, PATIENTS, np.log(y))
    assert_array_equal(transformed.predict(PATIENTS), np.exp(by_hand.predict(PATIENTS)))
    scaled = TransformedTargetRegressor(regressor, transformer=StandardScaler()).fit(PATIENTS, 100 * BOTH[:, :1])
    assert scaled.predict(PATIENTS).shape == (len(PATIENTS), 1)
    assert_better_than_a_guess(scaled, PATIENTS, 100 * BOTH[:, :1])


# ---- what stands on top of a classifier ----


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibrated_classifier_cv(classifier, method):
    """Over-confident scores are calibrated; probabilities are the mean over the folds' models."""
    calibrated = CalibratedClassifierCV(classifier, method=method, cv=3).fit(TUMOURS, BENIGN)
    each = [member.predict_proba(TUMOURS) for member in calibrated.calibrated_classifiers_]
    assert_allclose(calibrated.predict_proba(TUMOURS), np.mean(each, axis=0), rtol=1e-12)
    plain = brier_score_loss(BENIGN, np.full(len(BENIGN), BENIGN.mean()))
    assert brier_score_loss(BENIGN, calibrated.predict_proba(TUMOURS)[:, 1]) < 0.5 * plain


def test_frozen_estimator(classifier):
    """A frozen model is not fitted again, neither by calibration nor in a pipeline; its outputs are there."""
    model = fitted(classifier, TUMOURS[:100], BENIGN[:100])
    frozen = FrozenEstimator(model)
    assert_array_equal(frozen.fit(TUMOURS[100:], BENIGN[100:]).predict_proba(TUMOURS), model.predict_proba(TUMOURS))
    calibrated = CalibratedClassifierCV(frozen, cv=3).fit(TUMOURS[100:], BENIGN[100:])
    assert all(member.estimator.estimator is model for member in calibrated.calibrated_classifiers_)
    assert_better_than_a_guess(calibrated, TUMOURS, BENIGN)


def test_tuned_threshold_classifier_cv(classifier):
    """The decision is the probability against the threshold that was best, in balanced accuracy."""
    rare = np.flatnonzero(BENIGN | (np.arange(len(BENIGN)) % 5 == 0))
    X, y = TUMOURS[rare], BENIGN[rare]
    tuned = TunedThresholdClassifierCV(classifier, scoring="balanced_accuracy", cv=3, random_state=0).fit(X, y)
    model = fitted(classifier, X, y)
    assert_array_equal(tuned.estimator_.predict_proba(X), model.predict_proba(X))
    assert_array_equal(tuned.predict(X), model.predict_proba(X)[:, 1] >= tuned.best_threshold_)
    assert balanced_accuracy_score(y, tuned.predict(X)) > 0.8


def test_self_training_classifier(classifier):
    """From twenty labels to all of them, by what the model is sure of."""
    y = np.full(len(BENIGN), -1)
    for label in (0, 1):
        y[np.flatnonzero(np.equal(BENIGN, label))[:10]] = label
    taught = SelfTrainingClassifier(classifier, threshold=0.8).fit(TUMOURS, y)
    assert (taught.transduction_ >= 0).sum() > 100
    labeled = taught.transduction_ >= 0
    by_hand = fitted(classifier, TUMOURS[labeled], taught.transduction_[labeled])
    assert_array_equal(taught.predict_proba(TUMOURS), by_hand.predict_proba(TUMOURS))
    assert_better_than_a_guess(taught, TUMOURS, BENIGN)


# ---- which columns matter ----

SIGNAL = np.random.default_rng(0).normal(size=(120, 5))
RESPONSE = SIGNAL @ [3.0, 0.0, 0.0, -2.0, 0.0] + 0.1 * np.random.default_rng(1).normal(size=120)
SIGN = (RESPONSE > 0).astype(int)


def test_sequential_feature_selector(regressor):
    """The two columns that matter are found, also by a model whose number of parameters changes with them."""
    selector = SequentialFeatureSelector(regressor, n_features_to_select=2, cv=3).fit(SIGNAL, RESPONSE)
    assert_array_equal(selector.get_support(indices=True), [0, 3])


def test_permutation_importance(regressor):
    """As large for each column as the score is lost by permuting it, and nearly 0 where nothing depends on it."""
    model = fitted(regressor, SIGNAL, RESPONSE)
    importance = permutation_importance(model, SIGNAL, RESPONSE, n_repeats=5, random_state=0)
    assert_array_equal(np.argsort(importance.importances_mean)[::-1][:2], [0, 3])
    assert np.abs(importance.importances_mean[[1, 2, 4]]).max() < 0.05
    weighted = permutation_importance(model, SIGNAL, RESPONSE, random_state=0, sample_weight=np.ones(120))
    assert_allclose(weighted.importances, importance.importances)


@pytest.mark.parametrize("kind", ["average", "individual"])
def test_partial_dependence(regressor, kind):
    """The prediction with one column set to a value in every row, or its mean over them."""
    model = fitted(regressor, SIGNAL, RESPONSE)
    found = partial_dependence(model, SIGNAL, [3], grid_resolution=4, kind=kind)
    expected = []
    for value in found["grid_values"][0]:
        at = SIGNAL.copy()
        at[:, 3] = value
        expected.append(model.predict(at))
    expected = np.array(expected).T
    assert_allclose(found[kind][0], expected if kind == "individual" else expected.mean(axis=0), rtol=1e-9)


def test_partial_dependence_of_probabilities(classifier):
    """Of the second class."""
    model = fitted(classifier, SIGNAL, SIGN)
    found = partial_dependence(model, SIGNAL, [0], grid_resolution=3)["average"][0]
    assert (np.diff(found) > 0).all()
    at = SIGNAL.copy()
    at[:, 0] = partial_dependence(model, SIGNAL, [0], grid_resolution=3)["grid_values"][0][0]
    assert found[0] == pytest.approx(model.predict_proba(at)[:, 1].mean())


def by_size_of_w(model):
    """Importances of a user's own model: a function of the fitted estimator."""
    return np.abs(model.params_["w"])


LINEAR_MODELS = {
    "default regressor": (REGRESSORS["default"], RESPONSE, "auto"),
    "default classifier": (CLASSIFIERS["default"], SIGN, "auto"),
    "default classifier of 3 classes": (CLASSIFIERS["default"], np.digitize(RESPONSE, [-2, 2]), "auto"),
    "closure": (REGRESSORS["closure"], RESPONSE, by_size_of_w),
}


@pytest.mark.parametrize(("model", "y", "importance"), LINEAR_MODELS.values(), ids=LINEAR_MODELS)
def test_rfecv_where_importances_exist(model, y, importance):
    """The default models have coef_; for a user's own, importance_getter says what they are."""
    selector = RFECV(model, cv=3, importance_getter=importance, min_features_to_select=2).fit(SIGNAL, y)
    assert set(selector.get_support(indices=True)) >= {0, 3}
    kept = fitted(model, SIGNAL[:, selector.support_], y)
    assert_array_equal(selector.predict(SIGNAL), kept.predict(SIGNAL[:, selector.support_]))
    assert_array_equal(RFECV(model, cv=3, importance_getter=importance, step=3).fit(SIGNAL, y).ranking_[[0, 3]], [1, 1])
    by_size = SelectFromModel(model, importance_getter=importance, max_features=2, threshold=-np.inf).fit(SIGNAL, y)
    assert_array_equal(by_size.get_support(indices=True), [0, 3])


# ---- other threads and processes ----


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib(regressor, backend):
    """Fits in two processes or two threads at once are the fits one after another."""
    alone = cross_val_score(regressor, PATIENTS, PROGRESSION, cv=4)
    with parallel_config(backend, n_jobs=2):
        assert_allclose(cross_val_score(regressor, PATIENTS, PROGRESSION, cv=4), alone, rtol=1e-12)
        models = Parallel()(delayed(fitted)(regressor, PATIENTS, column) for column in BOTH.T)
    for model, column in zip(models, BOTH.T, strict=True):
        by_hand = fitted(regressor, PATIENTS, column)
        assert_allclose(model.predict(PATIENTS), by_hand.predict(PATIENTS), rtol=1e-12)


def test_one_model_predicts_in_several_threads_at_once(regressor):
    """Threads that share a fitted estimator do not get in one another's way."""
    model = fitted(regressor, PATIENTS, PROGRESSION)
    rows = [PATIENTS[k::7] for k in range(7)] * 10
    said = Parallel(n_jobs=2, backend="threading")(delayed(model.predict)(part) for part in rows)
    for part, prediction in zip(rows, said, strict=True):
        assert_array_equal(prediction, model.predict(part))


# ---- what scikit-learn makes impossible ----

SMALL = made(AnalyticDensity)
REFUSALS = {
    "partial dependence of a density: only of regressors and classifiers": (
        lambda: partial_dependence(fitted(SMALL, SIGNAL), SIGNAL, [0]),
        "The 'estimator' parameter of partial_dependence must be an object implementing 'fit' and 'predict'",
    ),
    "recursive elimination for a density: it splits and scores by y": (
        lambda: RFECV(SMALL, importance_getter=lambda model: 1 / np.exp(model.params_["log_scale"])).fit(SIGNAL),
        "missing 1 required positional argument: 'y'",
    ),
    "recursive elimination for a model without importances": (
        lambda: RFECV(REGRESSORS["network"], cv=3).fit(SIGNAL, RESPONSE),
        r"when `importance_getter=='auto'`, the underlying estimator .* should have `coef_` or `feature_importances_`",
    ),
    "calibration of labels: of one class a row only": (
        lambda: CalibratedClassifierCV(CLASSIFIERS["default"]).fit(TUMOURS, LABELS),
        "y should be a 1d array",
    ),
    "a threshold for more than two classes": (
        lambda: TunedThresholdClassifierCV(CLASSIFIERS["default"]).fit(FLOWERS, SPECIES),
        "Only binary classification is supported",
    ),
}


@pytest.mark.parametrize(("attempt", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_scikit_learn_refuses(attempt, message):
    """The rows that no estimator could fill: a refusal that goes away is a row to be added above."""
    with pytest.raises((ValueError, TypeError, AttributeError), match=message):
        attempt()


def test_boosting_needs_a_gradient_that_weighs():
    """A user's gradient without sample_weight is told so by us: AdaBoostClassifier fits by weights."""
    model = AnalyticClassifier(
        lambda params, X: X @ params["w"],
        lambda params, X, y: {"w": X.T @ (1 / (1 + np.exp(-X @ params["w"])) - y) / len(X)},
        init={"w": np.zeros(5)},
    )
    with pytest.raises(ValueError, match="gradient does not accept sample_weight. Add the argument"):
        AdaBoostClassifier(model, n_estimators=2).fit(SIGNAL, SIGN)


def test_linear_regression_is_linear_regression():
    """The default regressor stands for scikit-learn's own wherever coefficients are read."""
    ours, theirs = made(AnalyticRegressor, tol=1e-8).fit(SIGNAL, RESPONSE), LinearRegression().fit(SIGNAL, RESPONSE)
    assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6, atol=1e-7)
    assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6, atol=1e-8)
