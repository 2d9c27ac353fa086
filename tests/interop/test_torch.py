"""Beside torch: its optimizers as ours, its modules as models."""

import copy
import functools
import pickle

import numpy as np
import pytest
from needed import require
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

require("torch")
import torch
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import lr_scheduler

from sk_analytic import AnalyticClassifier, AnalyticRegressor, DivergenceError, ParameterStructureError
from sk_analytic.callbacks import Checkpoint
from sk_analytic.interop.torch import TorchModule, TorchOptimizer, load_params
from sk_analytic.optimizers import SGD, Adam, Chain, ClipNorm, Exponential, PerBlock, Phases, PolyakAverage, WeightDecay

rng = np.random.default_rng(0)
X = rng.normal(size=(130, 3))
Y = X @ [1.0, -2.0, 0.5] + 3 + 0.1 * rng.normal(size=130)

OPTIMIZERS = {
    name: TorchOptimizer(getattr(torch.optim, name), **settings)
    for name, settings in {
        "SGD": {"lr": 0.05, "momentum": 0.9, "nesterov": True},
        "Adam": {"lr": 0.05},
        "AdamW": {"lr": 0.05, "weight_decay": 0.1, "amsgrad": True},
        "RMSprop": {"lr": 0.01, "momentum": 0.5, "centered": True},
        "Adagrad": {"lr": 0.3},
        "Adadelta": {"lr": 1.0},
        "Adamax": {"lr": 0.05},
        "NAdam": {"lr": 0.05},
        "RAdam": {"lr": 0.05},
        "ASGD": {"lr": 0.05},
        "Rprop": {"lr": 0.01},
    }.items()
}
OPTIMIZERS["fused Adam"] = TorchOptimizer(torch.optim.Adam, lr=0.05, fused=True)
OPTIMIZERS["Muon"] = PerBlock({"W": TorchOptimizer(torch.optim.Muon, lr=0.05)}, default=Adam(0.05))
STEP = functools.partial(lr_scheduler.StepLR, step_size=3, gamma=0.5)
OPTIMIZERS["schedule by epochs"] = TorchOptimizer(torch.optim.Adam, lr=0.05, schedule=STEP)
OPTIMIZERS["schedule by steps"] = TorchOptimizer(torch.optim.Adam, lr=0.05, schedule=STEP, schedule_unit="step")
OPTIMIZERS["one cycle"] = TorchOptimizer(
    torch.optim.SGD,
    lr=0.05,
    momentum=0.9,
    schedule=functools.partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=100),
    schedule_unit="step",
)
OPTIMIZERS["plateau"] = TorchOptimizer(
    torch.optim.SGD, lr=0.05, schedule=functools.partial(lr_scheduler.ReduceLROnPlateau, patience=0)
)
OPTIMIZERS["chain"] = Chain([ClipNorm(1.0), TorchOptimizer(torch.optim.Adam, lr=0.05), PolyakAverage()])
EACH = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def loss_and_gradient(params, X, y):
    residual = (X @ params["W"])[:, 0] + params["b"] - y
    return float(residual @ residual) / len(X) / 2, {"W": X.T @ residual[:, None] / len(X), "b": residual.mean()}


CALLS = []


def breaks_off(params, X, y):
    """Once, after some epochs."""
    CALLS.append(1)
    if len(CALLS) == 50:
        raise RuntimeError("the power is cut")
    return loss_and_gradient(params, X, y)


def forward(params, X):
    return X @ params["W"] + params["b"]


def regressor(**settings):
    start = {"W": np.full((3, 1), 0.1), "b": 0.0}
    defaults = {"batch_size": 32, "max_iter": 10, "tol": None, "random_state": 0, "init": start}
    return AnalyticRegressor(forward, **(defaults | {"loss_and_gradient": loss_and_gradient} | settings))


def assert_same(one, other):
    assert one.loss_curve_ == other.loss_curve_
    for name in one.params_:
        assert_array_equal(one.params_[name], other.params_[name])


# Optimizers.


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Rprop", "fused Adam"])
def test_steps_are_those_of_bare_torch(name, dtype):
    """To the bit: it is torch that takes them."""
    optimizer = OPTIMIZERS[name]
    theta = {"W": rng.normal(size=(4, 3)).astype(dtype), "b": np.zeros((), dtype)}
    tensors = {key: torch.tensor(value) for key, value in theta.items()}
    bare = optimizer.factory(list(tensors.values()), **optimizer.settings)
    state = optimizer.init(theta)
    for step in range(20):
        grads = {"W": rng.normal(size=(4, 3)).astype(dtype), "b": None if step % 3 == 1 else np.ones((), dtype)}
        for key, tensor in tensors.items():
            tensor.grad = None if grads[key] is None else torch.tensor(grads[key])
        bare.step()
        optimizer.update(state, theta, grads)
    for key, tensor in tensors.items():
        assert_array_equal(theta[key], tensor.numpy())


def test_a_step_is_taken_on_the_memory_of_theta():
    """The tensors of torch are views, of θ and of the gradient."""
    seen = []

    def factory(tensors, lr):
        seen.extend(tensors)
        return torch.optim.SGD(tensors, lr=lr)

    theta, g = np.ones(5), np.full(5, 2.0)
    optimizer = TorchOptimizer(factory, lr=0.25)
    state = optimizer.init(theta)
    optimizer.update(state, theta, g)
    assert_array_equal(theta, 0.5)
    assert_array_equal(g, 2.0)
    assert seen[0].data_ptr() == theta.ctypes.data
    assert seen[0].grad.data_ptr() == g.ctypes.data
    other = theta.copy()
    optimizer.update(state, other, g)
    assert_array_equal(other, 0.0)
    assert_array_equal(theta, 0.5)


def test_a_read_only_gradient_and_one_of_another_precision_are_read():
    theta, g = np.ones(3), np.ones(3, np.float32)
    g.flags.writeable = False
    optimizer = TorchOptimizer(torch.optim.SGD, lr=0.5)
    state = optimizer.init(theta)
    optimizer.update(state, theta, g)
    optimizer.update(state, theta, np.broadcast_to(1.0, 3))
    assert_array_equal(theta, 0.0)


@EACH
def test_a_fit_that_goes_on_is_the_fit_that_was_not_interrupted(optimizer):
    """By warm start, through a pickle, and from a checkpoint; schedules go on too."""
    whole = regressor(optimizer=optimizer).fit(X, Y)
    assert whole.loss_curve_[-1] < whole.loss_curve_[0]
    part = pickle.loads(pickle.dumps(regressor(optimizer=optimizer, max_iter=4, warm_start=True).fit(X, Y)))
    assert_same(part.set_params(max_iter=6).fit(X, Y), whole)
    by_epochs = regressor(optimizer=optimizer)
    for _ in range(10):
        by_epochs = pickle.loads(pickle.dumps(by_epochs.partial_fit(X, Y)))
    assert_same(by_epochs, whole)


@EACH
def test_a_checkpoint_is_resumed(optimizer, tmp_path):
    """An interrupted fit resumes from it, bit for bit."""
    whole = regressor(optimizer=optimizer).fit(X, Y)
    CALLS.clear()
    path = tmp_path / "fit.pickle"
    checkpoint = Checkpoint(path, every=1, resume=True)
    model = regressor(optimizer=optimizer, loss_and_gradient=breaks_off).set_callbacks(checkpoint)
    with pytest.raises(RuntimeError, match="the power is cut"):
        model.fit(X, Y)
    n_calls = len(CALLS)
    assert_same(model.fit(X, Y), whole)
    assert len(CALLS) - n_calls < 50  # of ten epochs


def test_rates_are_those_of_the_scheduler():
    """Recorded by epoch, and halved after three of them."""
    model = regressor(optimizer=OPTIMIZERS["schedule by epochs"]).fit(X, Y)
    rates = [rates["W"] for rates in model._training.history.learning_rates.values()]
    assert_allclose(rates, 0.05 * 0.5 ** (np.arange(10) // 3))
    assert model.optimizer_state_.learning_rates == {"W": rates[-1], "b": rates[-1]}


def test_a_schedule_of_ours_stands_for_a_setting():
    ours = regressor(optimizer=SGD(Exponential(0.1, decay=0.9, unit="epoch"))).fit(X, Y)
    theirs = regressor(optimizer=TorchOptimizer(torch.optim.SGD, lr=Exponential(0.1, decay=0.9, unit="epoch"))).fit(
        X, Y
    )
    assert_allclose(theirs.params_["W"], ours.params_["W"], rtol=1e-12)


def test_a_plateau_lowers_the_rate():
    """ReduceLROnPlateau receives the loss of the epochs."""
    schedule = functools.partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=10.0, factor=0.5)
    model = regressor(optimizer=TorchOptimizer(torch.optim.SGD, lr=0.1, schedule=schedule)).fit(X, Y)
    assert model.optimizer_state_.learning_rates["b"] == 0.1 * 0.5**9


def test_a_phase_begins_the_schedule_anew():
    first = TorchOptimizer(torch.optim.SGD, lr=0.1, schedule=functools.partial(lr_scheduler.StepLR, step_size=1))
    model = regressor(optimizer=Phases([(first, 3), (first, 3)])).fit(X, Y)
    rates = [rates["b"] for rates in model._training.history.learning_rates.values()]
    assert_allclose(rates, [0.1, 0.01, 0.001] * 2)


def test_a_changed_setting_holds_from_the_next_step():
    """And what the optimizer remembers stays."""
    optimizer = TorchOptimizer(torch.optim.SGD, lr=0.1, momentum=0.5)
    model = regressor(optimizer=optimizer).partial_fit(X, Y)
    model.set_params(optimizer__lr=0.0).partial_fit(X, Y)
    before = model.params_["W"].copy()
    assert_array_equal(model.partial_fit(X, Y).params_["W"], before)
    kept = model.optimizer_state_.links[0].kept["optimizer"]
    assert kept["param_groups"][0]["momentum"] == 0.5
    assert kept["state"][0]["momentum_buffer"].any()


def test_bounds_and_fixed_parameters_hold():
    model = regressor(optimizer=OPTIMIZERS["Adam"], bounds={"W": (-1.0, 1.0)}, fixed=["b"], max_iter=100).fit(X, Y)
    assert model.params_["b"] == 0.0
    assert model.params_["W"].min() == -1.0
    assert model.params_["W"].max() <= 1.0
    ours = regressor(optimizer=Adam(0.05), bounds={"W": (-1.0, 1.0)}, fixed=["b"], max_iter=100).fit(X, Y)
    assert_allclose(model.params_["W"], ours.params_["W"], rtol=1e-9)


def test_masks_and_maps_hold():
    settings = {"fixed": {"W": np.array([[True], [False], [False]])}, "reparametrize": {"b": "log"}, "max_iter": 30}
    start = {"W": np.full((3, 1), 0.1), "b": 1.0}
    theirs = regressor(optimizer=OPTIMIZERS["Adam"], init=start, **settings).fit(X, Y)
    ours = regressor(optimizer=Adam(0.05), init=start, **settings).fit(X, Y)
    assert theirs.params_["W"][0, 0] == 0.1
    assert_allclose(theirs.params_["W"], ours.params_["W"], rtol=1e-9)
    assert_allclose(theirs.params_["b"], ours.params_["b"], rtol=1e-9)


def test_links_before_and_after():
    """Our clipping before, our average behind, give what they give around our own rule."""
    theirs = regressor(optimizer=OPTIMIZERS["chain"]).fit(X, Y)
    ours = regressor(optimizer=Chain([ClipNorm(1.0), Adam(0.05), PolyakAverage()])).fit(X, Y)
    assert_allclose(theirs.params_["W"], ours.params_["W"], rtol=1e-10)
    with pytest.raises(ValueError, match=r"WeightDecay takes the gradient, but TorchOptimizer\(SGD\) gives θ"):
        regressor(optimizer=Chain([TorchOptimizer(torch.optim.SGD), WeightDecay(0.1)])).fit(X, Y)


def test_gradients_of_some_rows_are_written_out():
    table = {"E": np.ones((4, 2))}
    optimizer = TorchOptimizer(torch.optim.SGD, lr=0.5)
    optimizer.update(optimizer.init(table), table, {"E": (np.array([1]), np.ones((1, 2)))})
    assert_array_equal(table["E"], [[1, 1], [0.5, 0.5], [1, 1], [1, 1]])


def test_early_stopping_and_chunks():
    model = regressor(optimizer=OPTIMIZERS["Adam"], early_stopping=True, scoring="r2", max_iter=100, tol=1e-3)
    assert model.fit(X, Y).validation_scores_
    chunks = [(X[:70], Y[:70]), (X[70:], Y[70:])]
    curve = regressor(optimizer=OPTIMIZERS["Adam"]).fit_chunks(chunks).loss_curve_
    assert curve[-1] < 0.2 * curve[0]


def test_an_overflow_is_undone():
    """θ and what torch remembers are as before the step."""
    huge = []

    def explodes(params, X, y):
        loss, grads = loss_and_gradient(params, X, y)
        huge.append(1)
        return loss, {"W": grads["W"] * (1e300 if len(huge) == 12 else 1.0), "b": grads["b"]}

    model = regressor(optimizer=TorchOptimizer(torch.optim.Adam, lr=0.05), check_gradient=False, random_state=0)
    model.set_params(loss_and_gradient=explodes)
    with pytest.raises(DivergenceError, match=r"TorchOptimizer\(Adam\).exp_avg_sq is not finite in parameter 'W'"):
        model.fit(X, Y)
    assert np.isfinite(model.params_["W"]).all()
    kept = model.optimizer_state_.links[0].kept["optimizer"]["state"][0]
    assert kept["step"] == 11
    assert np.isfinite(kept["exp_avg_sq"]).all()


def test_settings_are_hyperparameters():
    optimizer = TorchOptimizer(torch.optim.Adam, lr=0.1)
    assert repr(optimizer) == "TorchOptimizer(factory=Adam, lr=0.1)"
    model = regressor(optimizer=optimizer)
    assert model.get_params()["optimizer__lr"] == 0.1
    assert model.get_params()["optimizer__betas"] == (0.9, 0.999)
    copied = clone(model)
    assert copied.optimizer is not optimizer
    assert copied.optimizer.get_params(deep=False) == {
        "factory": torch.optim.Adam, "schedule": None, "schedule_unit": "epoch", "lr": 0.1
    }  # fmt: skip
    search = GridSearchCV(model, {"optimizer__lr": [1e-4, 0.1]}, cv=2, scoring="r2").fit(X, Y)
    assert search.best_params_ == {"optimizer__lr": 0.1}
    assert optimizer.set_params(betas=(0.5, 0.9)).settings == {"lr": 0.1, "betas": (0.5, 0.9)}
    with pytest.raises(ValueError, match=r"no hyperparameter 'lrr'. Did you mean 'lr'"):
        model.set_params(optimizer__lrr=1)


WRONG = {
    "a class": (torch.optim.Adam, r"optimizer is torch's Adam, a class,.*TorchOptimizer\(torch.optim.Adam, lr=...\)"),
    "bound": (torch.optim.SGD([torch.zeros(2)]), "optimizer is torch's SGD, bound to tensors, but fit creates"),
    "in a chain": (Chain([ClipNorm(1.0), torch.optim.Adam]), "optimizer is torch's Adam, a class"),
    "bound, as factory": (TorchOptimizer(torch.optim.SGD([torch.zeros(2)])), "optimizer is torch's SGD, bound"),
    "closure": (
        TorchOptimizer(torch.optim.LBFGS),
        "requires a closure.*full-batch method of this package, such as 'lbfgs'",
    ),
    "setting": (TorchOptimizer(torch.optim.Adam, learning_rate=1), "no hyperparameter 'learning_rate'.*It has: .*lr"),
    "factory": (TorchOptimizer(3), "factory must be callable; got 3"),
    "returns": (TorchOptimizer(lambda tensors: 3), "must return a torch.optim.Optimizer; got 3"),
    "schedule": (TorchOptimizer(torch.optim.Adam, schedule=3), "schedule must be a function of the optimizer"),
    "unit": (TorchOptimizer(torch.optim.Adam, schedule_unit="batch"), "schedule_unit"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_optimizer_is_refused(name):
    optimizer, message = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=message):
        regressor(optimizer=optimizer).fit(X, Y)


def test_what_torch_refuses_names_the_blocks():
    with pytest.raises(ValueError, match="Muon only supports 2D") as caught:
        regressor(optimizer=TorchOptimizer(torch.optim.Muon)).fit(X, Y)
    assert any("received the parameters 'W' (3, 1), 'b' ()" in note for note in caught.value.__notes__)


# Modules.


def network(*layers):
    torch.manual_seed(0)
    first = [torch.nn.Linear(3, 8), *layers, torch.nn.Tanh()]
    return torch.nn.Sequential(*first, torch.nn.Linear(8, 1))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("criterion", [None, mse_loss, torch.nn.MSELoss()], ids=["vjp", "function", "module"])
def test_a_module_trains_as_in_a_loop_of_torch(criterion, dtype):
    """The same batches, the same optimizer: the same parameters, and the module stays as it was."""
    module = network()
    kept = copy.deepcopy(module.state_dict())
    optimizer = TorchOptimizer(torch.optim.SGD, lr=0.02 if criterion is None else 0.01)
    settings = {"shuffle": False, "batch_size": 32, "max_iter": 3, "tol": None, "alpha": 0.0}
    model = AnalyticRegressor(model=TorchModule(module, criterion), optimizer=optimizer, **settings)
    model.fit(X.astype(dtype), Y.astype(dtype))
    assert model.gradient_report_.ok
    assert model.gradient_report_.findings
    bare = copy.deepcopy(module).to(torch.float64 if dtype == np.float64 else torch.float32)
    sgd = torch.optim.SGD(bare.parameters(), lr=0.01)
    for _ in range(3):
        for start in range(0, 130, 32):
            rows = slice(start, start + 32)
            sgd.zero_grad()
            mse_loss(bare(torch.tensor(X[rows].astype(dtype)))[:, 0], torch.tensor(Y[rows].astype(dtype))).backward()
            sgd.step()
    assert list(model.params_) == [name for name, _ in bare.named_parameters()]
    for name, tensor in bare.named_parameters():
        assert model.params_[name].dtype == dtype
        assert_allclose(model.params_[name], tensor.detach().numpy(), rtol=1e-10 if dtype == np.float64 else 1e-3)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, kept[name])
    loaded = load_params(copy.deepcopy(bare), model)
    with torch.no_grad():
        assert_allclose(loaded(torch.tensor(X.astype(dtype)))[:, 0].numpy(), model.predict(X.astype(dtype)), rtol=1e-4)


def test_gradients_are_not_copied():
    """What autograd returns is read as it is, and parameters are seen where they lie."""
    model = TorchModule(network(), mse_loss)
    params = model.init()
    for block in params.values():
        block.flags.writeable = False
    _, grads = model.loss_and_gradient(params, X, y=Y)
    assert all(type(leaf) is np.ndarray for leaf in grads.values())
    from sk_analytic.interop.torch.gradients import _shown

    assert all(_shown(block).data_ptr() == block.ctypes.data for block in params.values())


def test_functions_can_be_passed_one_by_one():
    module = TorchModule(network())
    model = AnalyticRegressor(module.forward, vjp=module.vjp, init=module.init, optimizer="adam", max_iter=3, tol=None)
    assert model.fit(X, Y).loss_curve_[-1] < model.loss_curve_[0]


def test_dropout_and_batch_normalization():
    """They act in training and not in prediction; random numbers are the estimator's, so that a fit repeats."""
    module = network(torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.2))
    before = torch.get_rng_state()
    settings = {"optimizer": "adam", "max_iter": 8, "tol": None, "random_state": 0, "additive": True, "batch_size": 32}

    def fitted(**changes):
        return AnalyticRegressor(model=TorchModule(module, mse_loss), **(settings | changes)).fit(X, Y)

    one, two = fitted(), fitted()
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(one, two)
    assert one.gradient_report_.ok
    assert_array_equal(one.predict(X), one.predict(X))
    assert_allclose(one.predict(X[:1]), one.predict(X)[:1])
    assert float(module[1].running_mean.abs().max()) == 0.0
    assert float(one.model_.buffers_["1.running_mean"].abs().max()) > 0
    evaluated = np.mean((one.predict(X) - Y) ** 2)
    assert_allclose(one.mean_loss(X, Y), evaluated)  # in evaluation mode
    counted = int(one.model_.buffers_["1.num_batches_tracked"])
    one.score(X, Y)
    assert int(one.model_.buffers_["1.num_batches_tracked"]) == counted
    half = pickle.loads(pickle.dumps(fitted(max_iter=4, warm_start=True)))
    assert_same(half.fit(X, Y), one)
    loaded = load_params(copy.deepcopy(module), one).eval().double()
    with torch.no_grad():
        assert_allclose(loaded(torch.tensor(X))[:, 0].numpy(), one.predict(X), rtol=1e-4)
    with pytest.raises(TypeError, match=r"BatchNorm1d \('1'\) acts only in training mode.*criterion"):
        AnalyticRegressor(model=TorchModule(module), **settings).fit(X, Y)


def test_frozen_and_unused_parameters():
    module = network()
    module[0].weight.requires_grad_(False)
    model = AnalyticRegressor(model=TorchModule(module), optimizer="adam", max_iter=2, tol=None).fit(X, Y)
    assert list(model.params_) == ["0.bias", "2.weight", "2.bias"]

    class Idle(torch.nn.Linear):
        def __init__(self):
            super().__init__(3, 1)
            self.idle = torch.nn.Parameter(torch.ones(2))

    model = AnalyticRegressor(model=TorchModule(Idle()), optimizer="adam", max_iter=2, tol=None).fit(X, Y)
    assert_array_equal(model.params_["idle"], 1.0)


def test_the_data_are_not_written_to():
    """By a layer that works in place, neither."""
    module = torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Linear(3, 1))
    kept = X.copy()
    AnalyticRegressor(model=TorchModule(module), optimizer="lbfgs", max_iter=2, tol=None).fit(X, Y)
    assert_array_equal(X, kept)


def test_a_classifier_by_cross_entropy():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    y = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    model = AnalyticClassifier(model=TorchModule(module, cross_entropy), optimizer="adam", max_iter=100, tol=None)
    assert model.fit(X, y).score(X, y) > 0.9


def test_weights_reach_a_criterion_that_names_them():
    def criterion(prediction, y, sample_weight=None):
        square = (prediction - y) ** 2
        return (square if sample_weight is None else square * sample_weight.reshape(square.shape)).mean()

    weight = np.where(np.arange(130) < 65, 2.0, 0.0)
    settings = {"optimizer": "lbfgs", "max_iter": 200, "tol": None}
    line = torch.nn.Linear(3, 1)
    half = AnalyticRegressor(model=TorchModule(line, criterion), **settings).fit(X[:65], Y[:65])
    model = AnalyticRegressor(model=TorchModule(line, criterion), **settings).fit(X, Y, sample_weight=weight)
    assert_allclose(model.params_["weight"], half.params_["weight"], rtol=1e-4)
    with pytest.raises(ValueError, match="does not accept sample_weight"):
        AnalyticRegressor(model=TorchModule(line, mse_loss), **settings).fit(X, Y, sample_weight=weight)


def test_wrong_modules_and_parameters_are_refused():
    with pytest.raises(TypeError, match="takes a torch.nn.Module; got 3"):
        AnalyticRegressor(model=TorchModule(3, mse_loss)).fit(X, Y)
    with pytest.raises(ValueError, match="nothing to train"):
        AnalyticRegressor(model=TorchModule(torch.nn.Tanh(), mse_loss)).fit(X, Y)
    with pytest.raises(TypeError, match=r"criterion must return a tensor of one number.*shape \(130, 1\)"):
        AnalyticRegressor(model=TorchModule(network(), lambda p, y: (p - y) ** 2), check_gradient=False).fit(X, Y)
    line = torch.nn.Linear(3, 1)
    good = {"weight": np.ones((1, 3)), "bias": np.zeros(1)}
    with pytest.raises(ParameterStructureError, match="have no 'bias'"):
        load_params(line, {"weight": good["weight"]})
    with pytest.raises(ParameterStructureError, match=r"has no 'wieght'. Did you mean 'weight'"):
        load_params(line, {**good, "wieght": 1.0})
    kept = line.bias.item()
    with pytest.raises(ParameterStructureError, match=r"'bias' has shape \(2,\); in the module it has \(1,\)"):
        load_params(line, {**good, "bias": np.ones(2)})
    assert line.bias.item() == kept


def test_a_module_in_single_precision_under_float64_is_told_once():
    """Whatever the library: what its gradient is less precise than the parameters is a warning, with the cure."""

    class Half(torch.nn.Linear):
        def forward(self, X):
            return torch.nn.functional.linear(X.float(), self.weight.float(), self.bias.float())

    line = Half(3, 1)

    def gradient(params, X, y):
        weight = torch.tensor(params["w"], dtype=torch.float32, requires_grad=True)
        mse_loss(torch.tensor(X, dtype=torch.float32) @ weight, torch.tensor(y, dtype=torch.float32)).backward()
        return {"w": weight.grad / 2}

    model = AnalyticRegressor(lambda params, X: X @ params["w"], gradient, {"w": np.zeros(3)}, optimizer="adam")
    model.set_params(max_iter=2, tol=None, warm_start=True)
    with pytest.warns(UserWarning, match="is float32, but the parameters are float64") as caught:
        model.fit(X, Y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    model.fit(X, Y)  # once
    AnalyticRegressor(model=TorchModule(line), optimizer="adam", max_iter=2, tol=None).fit(X, Y)  # autograd casts back
