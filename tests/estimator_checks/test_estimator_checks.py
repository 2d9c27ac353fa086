"""scikit-learn's own judgement: its checks pass for every estimator, gradient form, kind of optimizer and subclass."""

import inspect

import pytest
from dispatch import run_generated, why_not_dispatched
from models import MODEL_OBJECTS, USER_MODELS, needing_arrays
from sklearn import config_context
from sklearn.datasets import make_blobs
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from subclasses import LogisticDensity, Network

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer
from sk_analytic.model.roles import functions_of

# The checks fit for a moment on all kinds of data: whether an optimizer has come to its end is no matter there.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def estimators_of(cls, **settings):
    """The default model and the user's in each gradient form, each with a rule and with a full-batch method.

    After a hundred iterations of one the rounding of a sum is large enough to be seen in a network.
    """
    return {
        f"{cls.__name__}-{form}-{optimizer}": cls(
            optimizer=optimizer, **model | settings | ({"max_iter": 40} if optimizer == "lbfgs" else {})
        )
        for form, model in {"default": {}, **USER_MODELS[cls]}.items()
        for optimizer in ("adam", "lbfgs")
    }


# One in each gradient form, of functions that cannot work with sparse rows and do not declare it.
NEEDING_ARRAYS = {
    f"{cls.__name__}-{form}-arrays": cls(optimizer="adam", **needing_arrays(USER_MODELS[cls][form]))
    for cls, form in (
        (AnalyticRegressor, "vjp"),
        (AnalyticClassifier, "gradient"),
        (AnalyticDensity, "jacobian"),
        (AnalyticTransformer, "loss_and_gradient"),
    )
}
SUBCLASSES = (Network, LogisticDensity)
ESTIMATORS = {name: estimator for cls in USER_MODELS for name, estimator in estimators_of(cls).items()} | {
    f"{cls.__name__}-model-{form}": cls(optimizer="adam", **settings)
    for cls, forms in MODEL_OBJECTS.items()
    for form, settings in forms.items()
}
ESTIMATORS |= NEEDING_ARRAYS | {cls.__name__: cls() for cls in SUBCLASSES}
PENALIZED_CLASSIFIERS = estimators_of(AnalyticClassifier, alpha=0.01)
TRANSFORMERS = estimators_of(AnalyticTransformer)

# What the generator yields for none of our estimators, though it applies to them. scikit-learn calls these in
# tests of its own.
FOR_ALL = ("check_dataframe_column_names_consistency", "check_inplace_ensure_writeable")
FOR_TRANSFORMERS = (
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
)
FOR_CLASSIFIERS = ("check_class_weight_balanced_classifiers", "check_classifier_multioutput")
FOR_LINEAR_CLASSIFIERS = ("check_class_weight_balanced_linear_classifier",)

# What does not apply to any of them.
OF_OTHERS = {
    "array API: the same check with values, which test_array_api.py runs": ("check_array_api_input_and_values",),
    "binary classifiers": ("check_classifier_not_supporting_multiclass",),
    "clusterers": ("check_clusterer_compute_labels_predict", "check_clustering"),
    "linear models that can be made sparse": ("check_sparsify_coefficients",),
    "outlier detectors": (
        "check_outlier_contamination",
        "check_outlier_corruption",
        "check_outliers_fit_predict",
        "check_outliers_train",
    ),
    "pairwise estimators": ("check_nonsquare_error",),
    "positive X": ("check_fit_non_negative",),
    "stateless transformers": ("check_transformers_unfitted_stateless",),
    "scikit-learn's private table of constraints; ours is in test_bad_data": ("check_param_validation",),
    "parts of other checks, and the suite itself": (
        "check_classifiers_predictions",
        "check_estimator",
        "check_estimators_data_not_an_array",
    ),
}


def generated_checks():
    """Estimators and their checks. The ids of scikit-learn show addresses of functions, other ones in each process."""
    for name, estimator in ESTIMATORS.items():
        for instance, check in parametrize_with_checks([estimator]).args[1]:
            settings = ", ".join(f"{key}={value}" for key, value in check.keywords.items())
            yield pytest.param(instance, check, id=f"{name}-{check.func.__name__}({settings})")


GENERATED = list(generated_checks())


def run(check, estimator, *args):
    """Call a check by its name, which may be younger than the installed scikit-learn."""
    if not hasattr(estimator_checks, check):
        pytest.skip(f"this scikit-learn has no {check}")
    getattr(estimator_checks, check)(type(estimator).__name__, estimator, *args)


def test_array_api_dispatch_can_be_turned_on():
    """scipy was imported with SCIPY_ARRAY_API=1: scikit-learn refuses dispatch otherwise, and skips checks."""
    if why := why_not_dispatched():
        pytest.skip(why)


@pytest.mark.parametrize(("estimator", "check"), GENERATED)
def test_check_of_the_generator(estimator, check):
    """Every check that scikit-learn generates for the estimator passes."""
    run_generated(check, estimator)


@pytest.mark.parametrize("check", FOR_ALL)
@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
def test_check_left_out(estimator, check):
    """The checks that the generator leaves out for everybody pass."""
    run(check, estimator)


# Some of the checks fit on a frame and transform the array in it, or the reverse, of which scikit-learn warns.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
@pytest.mark.parametrize("check", FOR_TRANSFORMERS)
@pytest.mark.parametrize("estimator", TRANSFORMERS.values(), ids=TRANSFORMERS)
def test_check_left_out_for_transformers(estimator, check):
    """Names of the features and frames as output, set for one transformer or for all."""
    run(check, estimator)


@pytest.mark.parametrize("estimator", PENALIZED_CLASSIFIERS.values(), ids=PENALIZED_CLASSIFIERS)
def test_multilabel_check_for_classifiers(estimator):
    """Shapes and order of scores and probabilities for multilabel targets.

    The rows are separable: without a penalty, probabilities round to 1 and tie where scores do not.
    """
    run("check_classifier_multioutput", estimator)


@pytest.mark.parametrize("estimator", PENALIZED_CLASSIFIERS.values(), ids=PENALIZED_CLASSIFIERS)
def test_class_weight_check_for_classifiers(estimator):
    """On balanced rows, balanced class weights do better than none after training on unbalanced ones."""
    centers = [[0, 0], [2, 0]]
    X, y = make_blobs([190, 10], centers=centers, random_state=0)
    X_test, y_test = make_blobs([100, 100], centers=centers, random_state=1)
    run("check_class_weight_balanced_classifiers", estimator, X, y, X_test, y_test, None)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("check", FOR_LINEAR_CLASSIFIERS)
def test_check_of_the_default_classifier(check, optimizer):
    """What scikit-learn holds its linear classifiers to, by their coefficients."""
    run(check, PENALIZED_CLASSIFIERS[f"AnalyticClassifier-default-{optimizer}"])


@pytest.mark.parametrize("cls", [*USER_MODELS, *SUBCLASSES])
def test_checks_of_the_generator_with_metadata_routing(cls):
    """They also pass where routing is enabled, which lets estimators and meta-estimators take other ways."""
    with config_context(enable_metadata_routing=True):
        results = estimator_checks.check_estimator(cls(), on_skip=None, on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] not in ("passed", "skipped")}
    assert failed - ({"check_array_api_input"} if why_not_dispatched() else set()) == set()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_check_of_a_regressor_by_its_own_loss(optimizer, monkeypatch):
    """By R², which the tag `poor_score` says is not its score, it passes the check that looks at that."""
    monkeypatch.setattr(AnalyticRegressor, "_scores_by_loss", lambda self: False)
    run("check_regressors_train", ESTIMATORS[f"AnalyticRegressor-loss_and_gradient-{optimizer}"])


def test_no_check_is_forgotten():
    """Every check of scikit-learn is generated, called here, or listed with the reason why it is not for us."""
    there = {
        name
        for name, value in vars(estimator_checks).items()
        if name.startswith("check_") and inspect.isfunction(value) and value.__module__ == estimator_checks.__name__
    }
    called = {case.values[1].func.__name__ for case in GENERATED}
    called |= {*FOR_ALL, *FOR_TRANSFORMERS, *FOR_CLASSIFIERS, *FOR_LINEAR_CLASSIFIERS}
    assert there - called - {name for names in OF_OTHERS.values() for name in names} == set()


def test_no_check_is_expected_to_fail():
    """None of the generated checks carries a mark, and no tag turns checks off.

    But for one assertion of R², where the score is minus a loss of the user's own.
    """
    assert all(not case.marks for case in GENERATED)
    for estimator in ESTIMATORS.values():
        tags = estimator.__sklearn_tags__()
        skipped = (tags.no_validation, tags.non_deterministic, tags._skip_test, not tags.requires_fit)
        poor = [part.poor_score for part in (tags.classifier_tags, tags.regressor_tags) if part is not None]
        assert not any(skipped)
        has_own = functions_of(estimator)["loss_and_gradient"] is not None
        assert any(poor) == (has_own and tags.regressor_tags is not None)
