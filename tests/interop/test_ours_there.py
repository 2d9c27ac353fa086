"""Ours there: our rules as optimizers of torch and optax, fitted models in programs of torch and jax."""

import copy
import io
import math
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    get_optimizer,
    get_optimizer_names,
)
from sk_analytic.losses import Loss
from sk_analytic.optimizers import (
    SGD,
    Accumulate,
    Adam,
    Chain,
    ClipBlockNorm,
    ClipNorm,
    Constant,
    Cosine,
    DoG,
    ExponentialAverage,
    InverseSquareRoot,
    Joined,
    Lion,
    Lookahead,
    OneCycle,
    PerBlock,
    Piecewise,
    PolyakAverage,
    Polynomial,
    ReduceOnPlateau,
    Rule,
    Schedule,
    WarmUp,
    WeightDecay,
    use_engine,
)
from sk_analytic.optimizers import Exponential as ExponentialSchedule
from sk_analytic.optimizers import InverseTime as InverseTimeSchedule
from sk_analytic.optimizers import Step as StepSchedule

sys.path.append(str(Path(__file__).parents[1] / "parity"))
from references import require

RULES = [name for name in get_optimizer_names() if hasattr(get_optimizer(name), "place")]


class Swinging(Schedule):
    """A schedule of a user's, which needs its count as a float."""

    def __call__(self, step, epoch):
        return 0.01 * (2 + math.sin(step))


class Halting(Rule):
    """A rule of a user's, whose coefficients branch on the count, and need numbers as floats in one branch."""

    memory = {"total": 0.5}

    def __init__(self, learning_rate=0.01):
        self.learning_rate = learning_rate

    def coefficients(self, now):
        now.memory["total"] += 1.0 / now.t
        return (0.0,) if now.t % 3 == 0 else (math.sqrt(now.memory["total"]),)

    @staticmethod
    def formula(g, theta, factor):
        return factor * g


SCHEDULES = {
    "constant": Constant(0.1),
    "exponential": ExponentialSchedule(0.1, 0.9, every=3),
    "inverse time": InverseTimeSchedule(0.1, 0.5),
    "polynomial": Polynomial(0.1, 20, power=2),
    "step": StepSchedule(0.1, 7),
    "piecewise": Piecewise([0.1, 0.03, 0.01], [5, 20]),
    "cosine": Cosine(0.1, 30),
    "cosine with restarts": Cosine(0.1, 10, restarts=True),
    "cosine with growing restarts": Cosine(0.1, 5, restarts=True, growth=2.0),
    "inverse square root": InverseSquareRoot(0.1, 10),
    "one cycle": OneCycle(0.1, 40),
    "one cycle in three phases": OneCycle(0.1, 40, three_phases=True, shape="linear"),
    "warm-up": WarmUp(10, Cosine(0.1, 30)),
    "joined": Joined([0.05, Cosine(0.1, 20), 0.01], [10, 30]),
}
CHAINS = {
    "clipped": Chain([ClipNorm(0.5), WeightDecay(0.1), ClipBlockNorm(0.3), Adam(amsgrad=True), WeightDecay(0.01)]),
    "by block": Chain([ClipNorm(1.0), PerBlock({"W": Adam(1e-2), "deep.1": Lion()}, default=SGD(0.1, momentum=0.9))]),
    "accumulated": Chain([Accumulate(3), ClipNorm(1.0), Adam(), WeightDecay(0.01)]),
    "one block accumulated": Chain([PerBlock({"W": Accumulate(2), "b": Accumulate(3)}, default=ClipNorm(0.5)), DoG()]),
    "looking ahead": Chain([Adam(0.1), Lookahead(4)]),
    "averaged": Chain([SGD(0.1, nesterov=True, momentum=0.9), PolyakAverage(5), ExponentialAverage(0.9)]),
    "momentum on a schedule": SGD(0.1, momentum=Polynomial(0.5, 20, 0.9)),
    **{f"{name} rate": Adam(schedule) for name, schedule in SCHEDULES.items()},
}
# What runs outside the compiled step, for want of symbols in `math`.
ON_HOST = {"own schedule": Adam(Swinging()), "own rule": Halting(0.1), "both": Halting(Swinging())}
ALL = {**{name: get_optimizer(name) for name in RULES}, **CHAINS, **ON_HOST}


def start(rng, dtype="float64"):
    """A θ of several blocks, one of them deeper and one without dimensions."""
    return {
        "W": rng.normal(size=(3, 4)).astype(dtype),
        "b": rng.normal(size=5).astype(dtype),
        "deep": [np.array(0.7, dtype), rng.normal(size=2).astype(dtype)],
    }


def slope(leaf, sin):
    """The gradient of a loss with many minima, entry by entry."""
    return sin(3 * leaf) + leaf / 3


def local(optimizer, theta, n_steps=50):
    """θ after steps of an optimizer here, and the θ that predicts."""
    theta = copy.deepcopy(theta)
    optimizer = copy.deepcopy(optimizer)
    state = optimizer.init(theta)
    for _ in range(n_steps):
        optimizer.update(state, theta, {**theta, **mapped(lambda leaf: np.asarray(slope(leaf, np.sin)), theta)})
    return leaves(theta), leaves(optimizer.eval_params(state, theta))


def mapped(function, theta):
    """A structure like θ with the values of a function."""
    return {"W": function(theta["W"]), "b": function(theta["b"]), "deep": [function(leaf) for leaf in theta["deep"]]}


def leaves(theta):
    """The blocks of θ as arrays."""
    return [np.array(leaf) for leaf in (theta["W"], theta["b"], *theta["deep"])]


NAMES = ["W", "b", "deep.0", "deep.1"]


def assert_close(ours, theirs, tolerance):
    """Entry by entry, with the name of the block."""
    for name, a, b in zip(NAMES, ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(b, float), a, rtol=tolerance, atol=tolerance, err_msg=name)


class InTorch:
    """A run of torch with an optimizer of ours."""

    def __init__(self, optimizer, theta, device=None, dtype=None):
        self.torch = require("torch")
        from sk_analytic.interop.torch import RuleOptimizer

        self.tensors = [self.torch.tensor(leaf, dtype=dtype).requires_grad_() for leaf in leaves(theta)]
        self.optimizer = RuleOptimizer(zip(NAMES, self.tensors, strict=True), optimizer)

    def step(self, n_steps=50):
        for _ in range(n_steps):
            self.optimizer.zero_grad()
            for tensor in self.tensors:
                tensor.grad = slope(tensor.detach(), self.torch.sin)
            self.optimizer.step()
        return self

    @property
    def theta(self):
        return [tensor.detach().double().numpy().copy() for tensor in self.tensors]


@pytest.fixture
def x64():
    """Float64 in jax, for one test."""
    jax = require("jax")
    with jax.enable_x64(True):
        yield jax


def in_optax(optimizer, theta, jax, n_steps=50):
    """θ after steps of an optimizer of ours under optax and jit, the θ that predicts, and what was compiled."""
    optax = require("optax")
    jnp = jax.numpy
    from sk_analytic.interop.jax import as_gradient_transformation, eval_params

    transformation = as_gradient_transformation(optimizer)

    @jax.jit
    def step(state, theta):
        grads = jax.tree.map(lambda leaf: slope(leaf, jnp.sin), theta)
        updates, state = transformation.update(grads, state, theta)
        return state, optax.apply_updates(theta, updates)

    theta = jax.tree.map(jnp.asarray, theta)
    state = transformation.init(theta)
    program = str(jax.make_jaxpr(step)(state, theta))
    for _ in range(n_steps):
        state, theta = step(state, theta)
    return leaves(theta), leaves(eval_params(optimizer, state, theta)), program


# Rules in torch


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("name", ALL)
def test_fifty_steps_in_torch_are_those_here(name, engine, rng):
    """To 1e-13 in float64; the averages that predict too."""
    if engine == "numba":
        require("numba")
    theta = start(rng)
    ours, predicts = local(ALL[name], theta)
    with use_engine(engine):
        there = InTorch(ALL[name], theta).step()
    assert_close(ours, there.theta, 1e-13)
    assert_close(predicts, [tensor.numpy() for tensor in there.optimizer.eval_params()], 1e-13)


@pytest.mark.parametrize("name", RULES)
def test_torch_steps_in_float32_as_we_do(name, rng):
    """To a few units in the last place, which 50 steps on a nonlinear loss amplify."""
    theta = start(rng, "float32")
    assert_close(local(ALL[name], theta)[0], InTorch(ALL[name], theta).step().theta, 2e-5)


@pytest.mark.parametrize("name", RULES)
def test_what_numpy_cannot_see_is_stepped_by_functions_of_torch(name, rng, monkeypatch):
    """The same numbers in float64, and steps in half precision, which NumPy has no such dtype for."""
    torch = require("torch")
    from sk_analytic.interop.torch import rules

    theta = start(rng)
    monkeypatch.setattr(rules, "_are_seen_by_numpy", lambda tensors: False)
    assert_close(local(ALL[name], theta)[0], InTorch(ALL[name], theta).step().theta, 1e-13)
    half = InTorch(ALL[name], theta, dtype=torch.bfloat16).step(3)
    assert all(tensor.dtype == torch.bfloat16 and tensor.isfinite().all() for tensor in half.tensors)


def test_torch_parameters_are_written_in_their_own_memory(rng):
    """No tensor moves, whatever its strides, and a view of it sees the step."""
    torch = require("torch")
    from sk_analytic.interop.torch import RuleOptimizer

    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    turned = torch.randn(4, 3).t().requires_grad_()
    sparse_memory = torch.randn(3, 4)[:, ::2].requires_grad_()
    for tensor in (image, turned, sparse_memory):
        before, place, view = tensor.detach().clone(), tensor.data_ptr(), tensor.detach()
        tensor.grad = torch.randn_like(before).contiguous()
        RuleOptimizer([tensor], SGD(0.5)).step()
        assert tensor.data_ptr() == place
        torch.testing.assert_close(view, before - 0.5 * tensor.grad)


@pytest.mark.parametrize("name", ["adam", "lamb"])
def test_threads_share_a_large_tensor_without_a_trace(name):
    """To the bit, with as many threads as torch has."""
    torch = require("torch")
    require("numba")
    from sk_analytic.interop.torch import RuleOptimizer

    found = []
    before = torch.get_num_threads()
    for n_threads in (1, 3):
        torch.set_num_threads(n_threads)
        try:
            torch.manual_seed(0)
            large, small = (torch.randn(size, requires_grad=True) for size in (2**19 + 5, 3))
            with use_engine("numba"):
                optimizer = RuleOptimizer([large, small], name)
                for _ in range(3):
                    large.grad, small.grad = torch.sin(large.detach()), small.detach()
                    optimizer.step()
            found.append((large, small))
        finally:
            torch.set_num_threads(before)
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_a_graph_that_needs_old_values_is_refused_after_a_step():
    """Torch learns that we wrote to its tensors."""
    torch = require("torch")
    from sk_analytic.interop.torch import RuleOptimizer

    weight = torch.ones(3, requires_grad=True)
    loss = (weight**3).sum()
    loss.backward(retain_graph=True)
    RuleOptimizer([weight], "sgd").step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("name", ["adam", "prodigy", "clipped", "accumulated", "averaged", "nadam"])
@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy", "file"])
def test_a_torch_run_that_goes_on_is_the_one_that_was_not_interrupted(name, way, rng):
    """To the bit, by each way in which torch users keep an optimizer."""
    torch = require("torch")
    theta = start(rng)
    whole, there = InTorch(ALL[name], theta).step(20), InTorch(ALL[name], theta).step(11)
    if way == "pickle":
        there.tensors, there.optimizer = pickle.loads(pickle.dumps((there.tensors, there.optimizer)))
    elif way == "deepcopy":
        there.tensors, there.optimizer = copy.deepcopy((there.tensors, there.optimizer))
    else:
        kept = there.optimizer.state_dict()
        if way == "file":
            file = io.BytesIO()
            torch.save(kept, file)
            file.seek(0)
            kept = torch.load(file, weights_only=True)
        again = InTorch(ALL[name], theta)
        for new, old in zip(again.tensors, there.tensors, strict=True):
            new.data.copy_(old.data)
        again.optimizer.load_state_dict(kept)
        there = again
    there.step(9)
    for a, b in zip(whole.theta, there.theta, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loaded_state_shares_no_memory_with_the_one_it_came_from(rng):
    """Two runs from one state_dict do not disturb each other."""
    theta = start(rng)
    first = InTorch(Adam(), theta).step(3)
    kept = first.optimizer.state_dict()
    before = copy.deepcopy(kept)
    second = InTorch(Adam(), theta)
    second.optimizer.load_state_dict(kept)
    second.step(2)
    torch = require("torch")
    for old, new in zip(before["state"].values(), kept["state"].values(), strict=True):
        torch.testing.assert_close(new[0]["slots"], old[0]["slots"], rtol=0, atol=0)


def test_parameters_without_a_gradient_stay_and_are_not_counted(rng):
    """As blocks whose gradient is None do here; so is a group none of whose parameters has one."""
    theta = start(rng)
    there = InTorch(Adam(), theta)
    ours, state = start(np.random.default_rng(0)), None
    optimizer = Adam()
    state = optimizer.init(ours)
    for number in range(6):
        grads = mapped(lambda leaf: np.asarray(slope(leaf, np.sin)), ours)
        if number % 2:
            grads["W"] = None
        optimizer.update(state, ours, grads)
        there.optimizer.zero_grad()
        for position, tensor in enumerate(there.tensors):
            if position or not number % 2:
                tensor.grad = slope(tensor.detach(), there.torch.sin)
        there.optimizer.step()
    assert_close(leaves(ours), there.theta, 1e-15)
    counts = [entry[0]["step"] for entry in there.optimizer.state_dict()["state"].values()]
    assert counts == [3, 6, 6, 6]


def test_groups_schedulers_and_closures_of_torch():
    """Groups differ in hyperparameters by our names, a scheduler of torch writes lr, and a closure is called."""
    torch = require("torch")
    from sk_analytic.interop.torch import RuleOptimizer

    a, b = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    groups = [{"params": [a]}, {"params": [b], "lr": 0.5, "beta_1": 0.5}]
    optimizer = RuleOptimizer(groups, Adam(0.1))
    assert optimizer.param_groups[0]["beta_1"] == 0.9
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1)
    theirs_a, theirs_b = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    theirs = torch.optim.Adam([{"params": [theirs_a]}, {"params": [theirs_b], "lr": 0.5, "betas": (0.5, 0.999)}], 0.1)
    their_scheduler = torch.optim.lr_scheduler.StepLR(theirs, 2, 0.1)

    def closure_of(stepped, *tensors):
        def closure():
            stepped.zero_grad()
            loss = sum(((tensor - 3) ** 2).sum() for tensor in tensors)
            loss.backward()
            return loss

        return closure

    for _ in range(7):
        loss = optimizer.step(closure_of(optimizer, a, b))
        their_loss = theirs.step(closure_of(theirs, theirs_a, theirs_b))
        scheduler.step()
        their_scheduler.step()
        torch.testing.assert_close(loss, their_loss, rtol=1e-13, atol=0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.1**3)
    torch.testing.assert_close([a, b], [theirs_a, theirs_b], rtol=1e-13, atol=1e-13)


def test_one_cycle_of_torch_moves_the_momentum_too():
    """A hyperparameter of a group that changes from step to step is the one that steps."""
    torch = require("torch")
    from sk_analytic.interop.torch import RuleOptimizer

    ours, theirs = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizers = [RuleOptimizer([ours], SGD(0.1, momentum=0.9)), torch.optim.SGD([theirs], 0.1, momentum=0.9)]
    schedulers = [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20) for optimizer in optimizers]
    for _ in range(19):
        for tensor, optimizer, scheduler in zip((ours, theirs), optimizers, schedulers, strict=True):
            tensor.grad = 2 * tensor.detach()
            optimizer.step()
            scheduler.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_a_group_can_be_added_and_a_wrong_one_is_not():
    """With the message of a hyperparameter outside its range, and the optimizer as before."""
    torch = require("torch")
    from sk_analytic.interop.torch import RuleOptimizer

    first, second = (torch.ones(2, requires_grad=True) for _ in range(2))
    optimizer = RuleOptimizer([first], "adam")
    with pytest.raises(ValueError, match="Adam: beta_1"):
        optimizer.add_param_group({"params": [second], "beta_1": 1.5})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(TypeError, match="int64; expected real floats|real floats; got dtype torch.int64"):
        RuleOptimizer([torch.ones(2, dtype=torch.int64)], "adam")
    optimizer.add_param_group({"params": [second], "lr": 0.5})
    second.grad = torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(second.detach(), torch.full((2,), 0.5))
    torch.testing.assert_close(first.detach(), torch.ones(2))


def test_a_schedule_of_ours_shows_its_rate_in_lr_and_refuses_another(rng):
    """lr says the rate of the last step."""
    there = InTorch(Adam(Polynomial(0.1, 10)), start(rng)).step(3)
    (group,) = there.optimizer.param_groups
    assert group["lr"] == pytest.approx(0.08)
    group["lr"] = 0.5
    with pytest.raises(
        ValueError, match=r"lr of a parameter group was set to 0\.5, but the learning rate .* is a schedule"
    ):
        there.step(1)


def test_sparse_gradients_of_torch_are_refused_with_the_cure():
    """By name."""
    torch = require("torch")
    from sk_analytic.interop.torch import RuleOptimizer

    layer = torch.nn.Embedding(4, 2, sparse=True)
    layer(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=r"Parameter 'weight' has a gradient of layout torch.sparse_coo.*to_dense"):
        RuleOptimizer(layer.named_parameters(), "adam").step()


@pytest.mark.parametrize("optimizer", ["lbfgs", Adam(Cosine(0.1, 10, unit="epoch")), Adam(ReduceOnPlateau(0.1))])
def test_what_another_loop_cannot_drive_is_said(optimizer):
    """Full-batch methods, and schedules of what only `fit` knows."""
    torch = require("torch")
    require("optax")
    from sk_analytic.interop.jax import as_gradient_transformation
    from sk_analytic.interop.torch import RuleOptimizer

    error, message = (
        (TypeError, "can only be used in the estimators")
        if optimizer == "lbfgs"
        else (ValueError, "counts epochs, but")
    )
    with pytest.raises(error, match=message):
        RuleOptimizer([torch.ones(1, requires_grad=True)], optimizer)
    with pytest.raises(error, match=message):
        as_gradient_transformation(optimizer)


# Rules in optax


@pytest.mark.parametrize("name", ALL)
def test_fifty_steps_under_jit_are_those_here(name, x64, rng):
    """To 1e-13 in float64, all rules, compiled whole: only what calls `math` on its numbers asks the host."""
    theta = start(rng)
    ours, predicts = local(ALL[name], theta)
    there, there_predicts, program = in_optax(ALL[name], theta, x64)
    assert_close(ours, there, 1e-13)
    assert_close(predicts, there_predicts, 1e-13)
    assert ("pure_callback" in program) == (name in ON_HOST)


@pytest.mark.parametrize("name", RULES)
def test_rules_under_jit_in_float32(name, rng):
    """Without float64 in jax: coefficients too are in float32 then."""
    jax = require("jax")
    theta = start(rng, "float32")
    assert_close(local(ALL[name], theta)[0], in_optax(ALL[name], theta, jax)[0], 2e-4)


@pytest.mark.parametrize("name", ["adam", "lamb", "prodigy"])
def test_rules_keep_half_precision_under_jit(name, rng):
    """Parameters and slots have the dtype that they came in, and steps are of the right size."""
    jax = require("jax")
    theta = start(rng, "float32")
    ours, _ = local(ALL[name], theta, n_steps=3)
    theta = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, "bfloat16"), theta)
    there, _, _ = in_optax(ALL[name], theta, jax, n_steps=3)
    assert all(leaf.dtype == "bfloat16" for leaf in there)
    assert_close(ours, there, 0.05)


def test_a_rule_runs_in_a_scan_under_vmap_and_in_a_chain_of_optax(x64, rng):
    """Wherever a transformation of optax does."""
    jax, optax = x64, require("optax")
    jnp = jax.numpy
    from sk_analytic.interop.jax import as_gradient_transformation

    optimizer = Chain([Accumulate(2), ClipNorm(0.5), Adam(Cosine(0.1, 30))])
    transformation = optax.chain(as_gradient_transformation(optimizer), optax.identity())

    def run(theta):
        def step(carry, _):
            theta, state = carry
            updates, state = transformation.update(slope(theta, jnp.sin), state, theta)
            return (optax.apply_updates(theta, updates), state), None

        return jax.lax.scan(step, (theta, transformation.init(theta)), length=20)[0][0]

    starts = rng.normal(size=(3, 5))
    found = jax.jit(jax.vmap(run))(starts)
    for begin, there in zip(starts, found, strict=True):
        theta, ours = begin.copy(), copy.deepcopy(optimizer)
        state = ours.init(theta)
        for _ in range(20):
            ours.update(state, theta, slope(theta, np.sin))
        np.testing.assert_allclose(there, theta, rtol=1e-13, atol=1e-13)


def test_a_rule_steps_outside_jit_too(x64, rng):
    """With concrete numbers, a callable of the user's that needs floats gets them."""
    optax = require("optax")
    from sk_analytic.interop.jax import as_gradient_transformation

    transformation = as_gradient_transformation(Halting(Swinging()))
    theta = x64.numpy.asarray(rng.normal(size=3))
    ours, optimizer = np.array(theta), Halting(Swinging())
    local_state, state = optimizer.init(ours), transformation.init(theta)
    for _ in range(5):
        optimizer.update(local_state, ours, slope(ours, np.sin))
        updates, state = transformation.update(slope(theta, x64.numpy.sin), state, theta)
        theta = optax.apply_updates(theta, updates)
    np.testing.assert_allclose(theta, ours, rtol=1e-14)


def test_a_transformation_needs_the_parameters_and_gradients_like_them():
    """And says so."""
    jax = require("jax")
    require("optax")
    from sk_analytic.interop.jax import as_gradient_transformation

    transformation = as_gradient_transformation("adam")
    params = {"a": jax.numpy.ones(2)}
    state = transformation.init(params)
    with pytest.raises(ValueError, match=r"call update\(grads, state, params\)"):
        transformation.update(params, state)
    with pytest.raises(ValueError, match="gradients have the structure .*'b'.* parameters have .*'a'"):
        transformation.update({"b": jax.numpy.ones(2)}, state, params)
    with pytest.raises(TypeError, match="Parameter 'a' has dtype int32"):
        transformation.init({"a": jax.numpy.ones(2, int)})
    with pytest.raises(ValueError, match="no leaves"):
        transformation.init({})


def test_gates_that_are_too_many_are_refused():
    """Each combination would be compiled."""
    jax = require("jax")
    require("optax")
    from sk_analytic.interop.jax import as_gradient_transformation

    names = [f"block_{number}" for number in range(7)]
    blocks = {name: Chain([Accumulate(2), Adam()]) for name in names}
    params = {name: jax.numpy.ones(1) for name in names}
    transformation = as_gradient_transformation(PerBlock(blocks))
    state = transformation.init(params)
    with pytest.raises(
        ValueError, match="7 links, such as Accumulate, skip steps independently of each other; at most 6"
    ):
        transformation.update(params, state, params)


# Fitted models elsewhere


def scores(params, X):
    """A model with several outputs, nonlinear in its parameters."""
    return np.tanh(X @ params["layer"]["W"]) + params["b"]


def pull(params, X, cotangent):
    """Its gradient in the parameters for a derivative in the scores."""
    inner = cotangent * (1 - np.tanh(X @ params["layer"]["W"]) ** 2)
    return {"layer": {"W": X.T @ inner}, "b": cotangent.sum(axis=0)}


def pull_X(params, X, cotangent):
    """Its gradient in X."""
    return cotangent * (1 - np.tanh(X @ params["layer"]["W"]) ** 2) @ params["layer"]["W"].T


class MeanSquare(Loss):
    """A loss of codes alone."""

    domain = None

    def value_and_derivative(self, y, prediction):
        return 0.5 * (prediction**2).sum(axis=1), prediction.copy()


class Kind:
    """One kind of estimator, with its loss as a function of what the model says."""

    def __init__(self, estimator, y, loss, mean_loss, of_scores=lambda s: s, back=lambda s, d: d):
        self.estimator, self.y, self.loss, self.mean_loss = estimator, y, loss, mean_loss
        self.of_scores, self.back = of_scores, back

    def forward(self, params, X):
        return self.of_scores(scores(params, X))

    def vjp(self, params, X):
        said = scores(params, X)
        return self.of_scores(said), lambda cotangent: pull(params, X, self.back(said, cotangent))

    def vjp_X(self, params, X, cotangent):
        return pull_X(params, X, self.back(scores(params, X), cotangent))

    def jacobian(self, params, X):
        prediction = self.forward(params, X)
        rows = [self.vjp(params, X)[1](one.reshape(prediction.shape)) for one in np.eye(prediction.size)]
        shape = prediction.shape
        return {
            "layer": {"W": np.reshape([row["layer"]["W"] for row in rows], (*shape, *params["layer"]["W"].shape))},
            "b": np.reshape([row["b"] for row in rows], (*shape, *params["b"].shape)),
        }

    def loss_and_gradient(self, params, X, y=None):
        prediction, pullback = self.vjp(params, X)
        value, derivative = self.mean_loss(y, prediction)
        return value, pullback(derivative)

    def gradient(self, params, X, y=None):
        return self.loss_and_gradient(params, X, y)[1]

    def own_loss(self, params, X, y=None):
        return self.loss_and_gradient(params, X, y)[0]

    def vjp_X_of_loss(self, params, X, cotangent, y=None):
        return cotangent * self.vjp_X(params, X, self.mean_loss(y, self.forward(params, X))[1])

    def fitted(self, form, X, **settings):
        functions = {"forward": self.forward, form: getattr(self, form)}
        loss = {"vjp": self.loss, "jacobian": self.loss, "gradient": self.own_loss}.get(form)
        if loss is not None:
            functions["loss"] = loss
        start = {"layer": {"W": np.random.default_rng(1).normal(size=(3, 3))}, "b": np.zeros(3)}
        estimator = self.estimator(init=start, optimizer="adam", max_iter=3, **functions, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of three iterations, and of differences
            return estimator.fit(X, self.y)


def squared(y, prediction):
    return 0.5 * np.sum((prediction - y) ** 2) / len(y), (prediction - y) / len(y)


def cross_entropy(y, prediction):
    p = np.exp(prediction - prediction.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    return -np.mean(np.log(p[rows, y])), (p - np.eye(3)[y]) / len(y)


def minus_mean(_, prediction):
    return -np.mean(prediction), np.full(len(prediction), -1 / len(prediction))


def mean_square(_, prediction):
    return 0.5 * np.sum(prediction**2) / len(prediction), prediction / len(prediction)


N_ROWS = 6
RNG = np.random.default_rng(3)
X_FIT = RNG.normal(size=(N_ROWS, 3))
KINDS = {
    "regressor": Kind(AnalyticRegressor, RNG.normal(size=(N_ROWS, 3)), "squared_error", squared),
    "classifier": Kind(AnalyticClassifier, np.array([0, 1, 2, 0, 1, 2]), "log_loss", cross_entropy),
    "density": Kind(
        AnalyticDensity,
        None,
        "negative_log_likelihood",
        minus_mean,
        of_scores=lambda s: -0.5 * (s**2).sum(axis=1),
        back=lambda s, d: -d[:, None] * s,
    ),
    "transformer": Kind(AnalyticTransformer, None, MeanSquare(), mean_square),
}
FORMS = ["vjp", "jacobian", "gradient", "loss_and_gradient"]


def is_loss(form):
    return form in ("gradient", "loss_and_gradient")


def vjp_X_of(kind, form):
    return kind.vjp_X_of_loss if is_loss(form) else kind.vjp_X


def raw(estimator, X):
    """What `forward` said of X, whatever the estimator calls it."""
    return estimator._predictions(X, {})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_model_in_torch(kind, form):
    """Its value is what `forward` or `mean_loss` says; its gradients in the parameters and in X pass gradcheck."""
    torch = require("torch")
    from sk_analytic.interop.torch import to_torch

    estimator = KINDS[kind].fitted(form, X_FIT)
    module = to_torch(estimator, vjp_X=vjp_X_of(KINDS[kind], form))
    X = torch.tensor(X_FIT, requires_grad=True)
    y = () if not is_loss(form) or KINDS[kind].y is None else (torch.tensor(KINDS[kind].y),)
    expected = estimator.mean_loss(X_FIT, KINDS[kind].y) if is_loss(form) else raw(estimator, X_FIT)
    np.testing.assert_array_equal(module(X, *y).detach().numpy(), expected)
    with torch.no_grad():
        np.testing.assert_array_equal(module(X, *y).numpy(), expected)
    names = [name for name, _ in module.named_parameters()]
    assert names == ["params.b", "params.layer.W"]

    def function(X, *params):
        return torch.func.functional_call(module, dict(zip(names, params, strict=True)), (X, *y))

    inputs = [X, *(parameter.detach().clone().requires_grad_() for parameter in module.parameters())]
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_model_in_jax(kind, form, x64):
    """Its value is what `forward` or `mean_loss` says; its gradients pass check_grads, under jit too."""
    jax = x64
    from jax.test_util import check_grads

    from sk_analytic.interop.jax import to_jax

    estimator = KINDS[kind].fitted(form, X_FIT)
    function, params = to_jax(estimator, vjp_X=vjp_X_of(KINDS[kind], form))
    y = () if not is_loss(form) or KINDS[kind].y is None else (KINDS[kind].y,)
    expected = estimator.mean_loss(X_FIT, KINDS[kind].y) if is_loss(form) else raw(estimator, X_FIT)
    np.testing.assert_array_equal(function(params, X_FIT, *y), expected)
    jitted = jax.jit(function)
    np.testing.assert_array_equal(jitted(params, X_FIT, *y), expected)
    check_grads(lambda params, X: function(params, X, *y), (params, X_FIT), order=1, modes=["rev"])
    check_grads(lambda params, X: jitted(params, X, *y), (params, X_FIT), order=1, modes=["rev"])
    check_grads(lambda params: jitted(params, X_FIT, *y), (params,), order=1, modes=["rev"])


def test_a_gradient_in_X_that_is_missing_is_an_error_and_not_zero():
    """In torch where X requires one, in jax where one is taken; and where none is asked for there is no error."""
    torch, jax = require("torch"), require("jax")
    require("optax")
    from sk_analytic.interop.jax import to_jax
    from sk_analytic.interop.torch import to_torch

    estimator = KINDS["regressor"].fitted("vjp", X_FIT)
    message = "The derivative with respect to X is not available. Pass it to the export, vjp_X="
    module, X = to_torch(estimator), torch.tensor(X_FIT, requires_grad=True)
    with pytest.raises(ValueError, match=message):
        module(X)
    with torch.no_grad():
        module(X)
    module(X.detach()).sum().backward()
    function, params = to_jax(estimator)
    with pytest.raises(ValueError, match=message):
        jax.grad(lambda X: function(params, X).sum())(X_FIT)
    with pytest.raises(ValueError, match=message):
        jax.jit(jax.grad(lambda X: jax.jit(function)(params, X).sum()))(X_FIT)
    jax.jit(jax.grad(lambda params: jax.jit(function)(params, X_FIT).sum()))(params)


def test_a_wrong_gradient_in_X_is_named():
    """By its shape."""
    torch = require("torch")
    from sk_analytic.interop.torch import to_torch

    estimator = KINDS["regressor"].fitted("vjp", X_FIT)
    module = to_torch(estimator, vjp_X=lambda params, X, cotangent: cotangent[:, :2])
    with pytest.raises(ValueError, match=r"vjp_X returned float64 of shape \(6, 2\); expected .* \(6, 3\)"):
        module(torch.tensor(X_FIT, requires_grad=True)).sum().backward()
    with pytest.raises(TypeError, match="vjp_X must be a function"):
        to_torch(estimator, vjp_X=True)


def test_a_fitted_model_is_trained_further_in_a_program_of_torch():
    """Behind a layer of torch, by an optimizer of torch: with the gradients of the same program in torch alone."""
    torch = require("torch")
    from sk_analytic.interop.torch import to_torch

    torch.manual_seed(0)
    kind = KINDS["regressor"]
    module = to_torch(kind.fitted("vjp", X_FIT), vjp_X=kind.vjp_X)
    W, b = (parameter.detach().clone().requires_grad_() for parameter in (module.params.layer.W, module.params.b))
    ours = torch.nn.Sequential(torch.nn.Linear(4, 3).double(), module)
    layer = copy.deepcopy(ours[0])
    inputs, y = torch.randn(N_ROWS, 4, dtype=torch.float64), torch.tensor(kind.y)
    optimizers = [
        torch.optim.SGD(ours.parameters(), 0.1),
        torch.optim.SGD([*layer.parameters(), W, b], 0.1),
    ]
    for _ in range(5):
        for optimizer, predict in zip(
            optimizers, (ours, lambda inputs: torch.tanh(layer(inputs) @ W) + b), strict=True
        ):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(predict(inputs), y).backward()
            optimizer.step()
    torch.testing.assert_close(ours[0].weight, layer.weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(module.params.layer.W, W, rtol=1e-12, atol=1e-12)


def test_a_module_is_copied_kept_and_in_float32():
    """deepcopy, state_dict and .float() are torch's; the estimator stays what it was."""
    torch = require("torch")
    from sk_analytic.interop.torch import to_torch

    estimator = KINDS["classifier"].fitted("vjp", X_FIT)
    before = copy.deepcopy(estimator.params_)
    module = to_torch(estimator)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        module.params.b += 1
    X = torch.tensor(X_FIT)
    torch.testing.assert_close(module(X), twin(X) + 1)
    twin.load_state_dict(module.state_dict())
    torch.testing.assert_close(module(X), twin(X))
    twin.float()
    value = twin(X.float())
    assert value.dtype == torch.float32
    value.sum().backward()
    assert twin.params.b.grad.dtype == torch.float32
    np.testing.assert_array_equal(estimator.params_["b"], before["b"])


def test_what_was_written_to_between_forward_and_backward_is_an_error():
    """As for torch's own functions."""
    torch = require("torch")
    from sk_analytic.interop.torch import to_torch

    module = to_torch(KINDS["regressor"].fitted("vjp", X_FIT))
    value = module(torch.tensor(X_FIT)).sum()
    with torch.no_grad():
        module.params.b += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_the_gradient_is_evaluated_once_in_torch():
    """A vjp's pullback from the forward pass is the one of the backward pass."""
    torch = require("torch")
    from sk_analytic.interop.torch import to_torch

    kind, calls = KINDS["regressor"], []

    def vjp(params, X):
        calls.append(len(X))
        return kind.vjp(params, X)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = AnalyticRegressor(vjp=vjp, init=KINDS["regressor"].fitted("vjp", X_FIT).params_, max_iter=1)
        estimator.fit(X_FIT, kind.y)
    module = to_torch(estimator)
    calls.clear()
    module(torch.tensor(X_FIT)).sum().backward()
    assert calls == [N_ROWS]


def test_fixed_and_differenced_blocks_are_those_of_the_fit(x64):
    """A fixed block requires no gradient; one in `numerical` gets differences of the prediction."""
    torch = require("torch")
    from sk_analytic.interop.jax import to_jax
    from sk_analytic.interop.torch import to_torch

    kind = KINDS["regressor"]
    module = to_torch(kind.fitted("vjp", X_FIT, fixed=["b"]))
    assert not module.params.b.requires_grad
    module(torch.tensor(X_FIT)).sum().backward()
    assert module.params.b.grad is None
    function, params = to_jax(kind.fitted("vjp", X_FIT, fixed=["b"]))
    grads = x64.grad(lambda params: function(params, X_FIT).sum())(params)
    np.testing.assert_array_equal(grads["b"], 0)
    assert np.abs(grads["layer"]["W"]).min() > 0
    module = to_torch(kind.fitted("vjp", X_FIT, numerical=["b"]))
    (module(torch.tensor(X_FIT)) ** 2).sum().backward()
    expected = 2 * scores(KINDS["regressor"].fitted("vjp", X_FIT, numerical=["b"]).params_, X_FIT).sum(axis=0)
    np.testing.assert_allclose(module.params.b.grad, expected, rtol=1e-8)


def test_labels_weights_and_metadata_go_with_the_samples(rng):
    """As for `mean_loss`: labels are those of `fit`, weights make a weighted mean, metadata reach who names them."""
    torch = require("torch")
    from sk_analytic.interop.torch import to_torch

    y, weight = np.array(["a", "b", "b", "a", "b", "a"]), rng.uniform(1, 2, N_ROWS)

    def loss_and_gradient(params, X, y, sample_weight, offset=0.0):
        margin = X @ params["w"] + offset
        p = expit(margin)
        losses = np.logaddexp(0, margin) - y * margin
        return np.mean(sample_weight * losses), {"w": X.T @ (sample_weight * (p - y)) / len(y)}

    def forward(params, X, offset=0.0):
        return X @ params["w"] + offset

    classifier = AnalyticClassifier(
        forward=forward, loss_and_gradient=loss_and_gradient, loss=None, init={"w": np.zeros(3)}, optimizer="lbfgs"
    )
    offset = rng.normal(size=N_ROWS)
    classifier.fit(X_FIT, y, sample_weight=weight, offset=offset)
    module = to_torch(classifier)
    X, given = torch.tensor(X_FIT), {"sample_weight": torch.tensor(weight), "offset": torch.tensor(offset)}
    value = module(X, y, **given)
    assert value.item() == pytest.approx(classifier.mean_loss(X_FIT, y, weight, offset=offset), rel=1e-14)

    def function(w):
        return torch.func.functional_call(module, {"params.w": w}, (X, y), given)

    assert torch.autograd.gradcheck(function, [module.params.w.detach().clone().requires_grad_()])
    with pytest.raises(ValueError, match="derivative with respect to sample_weight is not available"):
        module(X, y, sample_weight=given["sample_weight"].clone().requires_grad_(), offset=offset)


def test_weights_and_metadata_reach_the_functions_from_jax(x64, rng):
    """Under jit, with y; and their gradients are refused."""
    from jax.test_util import check_grads

    from sk_analytic.interop.jax import to_jax

    def loss_and_gradient(params, X, y, sample_weight, offset):
        residual = X @ params + offset - y
        return np.mean(sample_weight * residual**2) / 2, X.T @ (sample_weight * residual) / len(y)

    def forward(params, X, offset):
        return X @ params + offset

    y, offset = rng.normal(size=(2, N_ROWS))
    weight = rng.uniform(1, 2, N_ROWS)
    estimator = AnalyticRegressor(
        forward, loss_and_gradient=loss_and_gradient, loss=None, init=np.zeros(3), optimizer="lbfgs"
    ).fit(X_FIT, y, sample_weight=weight, offset=offset)
    function, params = to_jax(estimator)

    def loss(params, y=y):
        return function(params, X_FIT, y, sample_weight=weight, offset=offset)

    assert x64.jit(loss)(params) == pytest.approx(estimator.mean_loss(X_FIT, y, weight, offset=offset), rel=1e-14)
    check_grads(x64.jit(loss), (params + 1,), order=1, modes=["rev"])
    with pytest.raises(ValueError, match="derivative with respect to y is not available. Use jax.lax.stop_gradient"):
        x64.grad(loss, argnums=1)(params, y)


def test_what_cannot_be_exported_is_said(x64):
    """An estimator that is not fitted, one of others, a pipeline, and one without a value."""
    require("torch")
    from sk_analytic.interop.jax import to_jax
    from sk_analytic.interop.torch import to_torch

    for export in (to_torch, to_jax):
        with pytest.raises(NotFittedError):
            export(AnalyticRegressor())
        with pytest.raises(TypeError, match="Only estimators of sk_analytic can be exported; got LinearRegression"):
            export(LinearRegression())
        with pytest.raises(TypeError, match="Pipeline. Pass its last step"):
            export(make_pipeline(AnalyticRegressor()))
    kind = KINDS["regressor"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = {"layer": {"W": np.ones((3, 3))}, "b": np.zeros(3)}
        estimator = AnalyticRegressor(
            forward=kind.forward, gradient=kind.gradient, loss=None, init=start, max_iter=1, check_gradient=False
        ).fit(X_FIT, kind.y)
    with pytest.raises(ValueError, match="was fitted with loss=None"):
        to_torch(estimator)
    with pytest.raises(TypeError, match="prediction, which does not depend on y"):
        to_torch(kind.fitted("vjp", X_FIT))(X_FIT_TENSOR(), kind.y)
    function, params = to_jax(KINDS["classifier"].fitted("loss_and_gradient", X_FIT))
    with pytest.raises(TypeError, match="y has dtype <U1, which jax does not support"):
        function(params, X_FIT, np.array(list("abcabc")))


def X_FIT_TENSOR():
    return require("torch").tensor(X_FIT)


def test_a_model_is_mapped_by_vmap(x64):
    """An entry at a time."""
    from sk_analytic.interop.jax import to_jax

    function, params = to_jax(KINDS["regressor"].fitted("vjp", X_FIT))
    stacks = np.stack([X_FIT, -X_FIT])
    found = x64.vmap(function, (None, 0))(params, stacks)
    np.testing.assert_array_equal(found, [function(params, X) for X in stacks])
    grads = x64.vmap(x64.grad(lambda params, X: function(params, X).sum()), (None, 0))(params, stacks)
    single = x64.grad(lambda params: function(params, -X_FIT).sum())(params)
    np.testing.assert_allclose(grads["layer"]["W"][1], single["layer"]["W"], rtol=1e-14)
