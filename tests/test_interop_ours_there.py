"""Ours there: our rules as optimizers of torch and optax, fitted models in programs of torch and jax."""

import copy
import io
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from sk_analytic import get_optimizer, get_optimizer_names
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

sys.path.append(str(Path(__file__).parent / "parity"))
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
    with pytest.raises(TypeError, match="real floating point.*int64"):
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
    with pytest.raises(ValueError, match=r"lr of a parameter group was set to 0\.5, but the rate .* is a schedule"):
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

    error, message = (TypeError, "runs in fit only") if optimizer == "lbfgs" else (ValueError, "counts epochs, and")
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
    with pytest.raises(TypeError, match="Parameter 'a' has the dtype int32"):
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
    with pytest.raises(ValueError, match="7 links hold steps back independently of each other; at most 6"):
        transformation.update(params, state, params)
