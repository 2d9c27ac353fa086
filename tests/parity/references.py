"""The one table of what equals what: our optimizers, each beside the reference that defines it.

A reference is told by its package and its settings; the package is only imported when it starts. It
speaks of θ as a list of blocks: ``start(blocks)`` returns a function that takes the gradients of the
blocks and returns the new θ and the θ that predicts, both as lists of blocks.
"""

import importlib
import os
from typing import NamedTuple

import numpy as np
import pytest

from sk_analytic.optimizers import (
    ASGD,
    FTRL,
    LAMB,
    LARS,
    SGD,
    AdaBelief,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamaxW,
    AdamW,
    Adan,
    Chain,
    ClipNorm,
    ClipValue,
    DivideByRMS,
    DoG,
    Lion,
    NAdam,
    NAdamW,
    NovoGrad,
    Optimism,
    OptimisticAdam,
    Optimizer,
    Prodigy,
    RAdam,
    RMSprop,
    Rprop,
    Schedule,
    ScheduleFree,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    Sign,
    Signum,
    TrustRatio,
    WeightDecay,
    Yogi,
)

REQUIRED = "SK_ANALYTIC_REQUIRE_PARITY"
"""Environment variable: if set, but to 0, a reference that is not installed is a failure."""


def require(package):
    """Import the package of a reference; skip the test that needs it where there is none."""
    try:
        return importlib.import_module(package)
    except ImportError:
        reason = f'{package} is not installed; it comes with the extra: pip install -e ".[parity]"'
        if os.environ.get(REQUIRED, "0") not in {"", "0"}:
            pytest.fail(f"{reason} ({REQUIRED} is set).")
        pytest.skip(reason)


class Torch:
    """An optimizer of ``torch.optim``.

    Its scalars are kept in the default dtype, so that is float64 from start to end of a run.
    """

    def __init__(self, name, **settings):
        self.name, self.settings = name, settings

    def start(self, blocks):
        torch = require("torch")
        tensors = [torch.tensor(block, requires_grad=True) for block in blocks]
        optimizer = getattr(torch.optim, self.name)(tensors, **self.settings)

        def step(gradients):
            for tensor, gradient in zip(tensors, gradients, strict=True):
                tensor.grad = torch.from_numpy(gradient)
            optimizer.step()
            answers = [optimizer.state[tensor].get("ax", tensor) for tensor in tensors]
            return _arrays(tensors), _arrays(answers)

        return step

    def __repr__(self):
        return f"torch.optim.{self.name}({_shown(self.settings)})"


def _arrays(tensors):
    return [tensor.detach().numpy().copy() for tensor in tensors]


class Optax:
    """An optimizer of ``optax`` or ``optax.contrib``, after other transforms if there are any."""

    def __init__(self, name, *before, **settings):
        self.name, self.before, self.settings = name, before, settings
        self._compiled = None

    def start(self, blocks):
        optax = require("optax")
        transform, update = self._compiled = self._compiled or self._compile(optax)
        theta = [optax.tree_utils.tree_cast(block, "float64") for block in blocks]
        state = transform.init(theta)

        def step(gradients):
            nonlocal theta, state
            theta, state = update(gradients, state, theta)
            averages = hasattr(state, "z")
            answer = optax.contrib.schedule_free_eval_params(state, theta) if averages else theta
            return [*map(np.array, theta)], [*map(np.array, answer)]

        return step

    def _compile(self, optax):
        jax = require("jax")
        transform = self.build(optax)

        @jax.jit
        def update(gradients, state, theta):
            updates, state = transform.update(gradients, state, theta)
            return optax.apply_updates(theta, updates), state

        return transform, update

    def build(self, optax):
        """Return the transform."""
        home = optax if hasattr(optax, self.name) else optax.contrib
        transform = getattr(home, self.name)(**self.settings)
        return optax.chain(*(part.build(optax) for part in self.before), transform) if self.before else transform

    def __repr__(self):
        return " + ".join([*map(repr, self.before), f"optax.{self.name}({_shown(self.settings)})"])


def _shown(settings):
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())


class McMahan2013:
    """Algorithm 1 of the paper on FTRL-Proximal, entry by entry.

    The paper starts at zero. So that another start is kept, z begins where the paper's w is that start.
    """

    def __init__(self, alpha, beta, lambda_1=0.0, lambda_2=0.0):
        self.settings = {"alpha": alpha, "beta": beta, "lambda_1": lambda_1, "lambda_2": lambda_2}

    def start(self, blocks):
        alpha, beta, lambda_1, lambda_2 = self.settings.values()
        w = [np.array(block) for block in blocks]
        n = [np.zeros_like(block) for block in blocks]
        z = [-beta / alpha * block for block in blocks]

        def step(gradients):
            for i, g in enumerate(gradients):
                sigma = (np.sqrt(n[i] + g**2) - np.sqrt(n[i])) / alpha
                z[i] = z[i] + g - sigma * w[i]
                n[i] = n[i] + g**2
                leader = -(z[i] - np.sign(z[i]) * lambda_1) / ((beta + np.sqrt(n[i])) / alpha + lambda_2)
                w[i] = np.where(np.abs(z[i]) <= lambda_1, 0.0, leader)
            return list(w), list(w)

        return step

    def __repr__(self):
        return f"McMahan2013({_shown(self.settings)})"


class Case(NamedTuple):
    """An optimizer of ours, and the reference that it equals."""

    ours: Optimizer
    reference: object

    def __str__(self):
        return f"{self.ours!r} = {self.reference!r}".replace("\n", "").replace("  ", "")


class CorrectedEpsilon(Schedule):
    """The epsilon of a root that is corrected, for a rule that adds it to the uncorrected root."""

    def __init__(self, epsilon, beta_2=0.999):
        self.epsilon = epsilon
        self.beta_2 = beta_2

    def __call__(self, step, epoch):
        return self.epsilon * (1 - self.beta_2 ** (step + 1)) ** 0.5


def decays(strength):
    """Return the optax transform that adds a share of θ."""
    return Optax("add_decayed_weights", weight_decay=strength)


CASES = [
    Case(SGD(0.1), Torch("SGD", lr=0.1)),
    Case(SGD(0.1, momentum=0.9), Torch("SGD", lr=0.1, momentum=0.9)),
    Case(SGD(0.1, momentum=0.8, dampening=0.3), Torch("SGD", lr=0.1, momentum=0.8, dampening=0.3)),
    Case(SGD(0.1, momentum=0.8, nesterov=True), Torch("SGD", lr=0.1, momentum=0.8, nesterov=True)),
    Case(Chain([WeightDecay(0.1), SGD(0.1)]), Torch("SGD", lr=0.1, weight_decay=0.1)),
    Case(Chain([SGD(0.1), WeightDecay(0.1)]), Optax("sgd", decays(0.1), learning_rate=0.1)),
    Case(SGD(0.1, momentum=0.9, nesterov=True), Optax("sgd", learning_rate=0.1, momentum=0.9, nesterov=True)),
    # Signs
    Case(Signum(momentum=0.0), Optax("sign_sgd", learning_rate=0.001)),
    Case(Signum(), Optax("signum", learning_rate=0.001)),
    Case(Signum(0.01, momentum=0.5), Optax("signum", learning_rate=0.01, beta=0.5)),
    Case(Chain([Sign(), SGD(0.01)]), Optax("sign_sgd", learning_rate=0.01)),
    Case(Lion(), Optax("lion", learning_rate=0.001, weight_decay=0.0)),
    Case(Lion(0.01, beta_1=0.95, beta_2=0.98), Optax("lion", learning_rate=0.01, b1=0.95, b2=0.98, weight_decay=0.0)),
    Case(Chain([Lion(0.01), WeightDecay(0.001)]), Optax("lion", learning_rate=0.01)),
    Case(Rprop(), Torch("Rprop")),
    Case(
        Rprop(0.1, shrink=0.3, grow=1.5, min_step=1e-3, max_step=0.2),
        Torch("Rprop", lr=0.1, etas=(0.3, 1.5), step_sizes=(1e-3, 0.2)),
    ),
    # Norms of blocks
    Case(LARS(), Optax("lars", learning_rate=0.1)),
    Case(
        LARS(1.0, momentum=0.5, nesterov=True, weight_decay=0.01, trust_coefficient=0.1),
        Optax("lars", learning_rate=1.0, momentum=0.5, nesterov=True, weight_decay=0.01, trust_coefficient=0.1),
    ),
    Case(
        Chain([TrustRatio(0.1), SGD(0.1)]),
        Optax("sgd", Optax("scale_by_trust_ratio", trust_coefficient=0.1), learning_rate=0.1),
    ),
    Case(NovoGrad(), Optax("novograd", learning_rate=0.01)),
    Case(
        NovoGrad(0.02, beta_1=0.5, beta_2=0.9, epsilon=0.01, weight_decay=0.1),
        Optax("novograd", learning_rate=0.02, b1=0.5, b2=0.9, eps=0.01, weight_decay=0.1),
    ),
    # Divided by the size of gradients so far
    Case(Adagrad(), Torch("Adagrad")),
    Case(
        Adagrad(0.1, lr_decay=0.1, initial_accumulator_value=0.1, epsilon=0.01),
        Torch("Adagrad", lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1, eps=0.01),
    ),
    Case(Chain([WeightDecay(0.1), Adagrad(0.1)]), Torch("Adagrad", lr=0.1, weight_decay=0.1)),
    Case(
        Adagrad(0.1, initial_accumulator_value=0.1 + 1e-3, epsilon=0.0), Optax("adagrad", learning_rate=0.1, eps=1e-3)
    ),
    Case(RMSprop(), Torch("RMSprop")),
    Case(RMSprop(0.001, rho=0.9, epsilon=0.01), Torch("RMSprop", lr=0.001, alpha=0.9, eps=0.01)),
    Case(RMSprop(0.001, centered=True, epsilon=0.01), Torch("RMSprop", lr=0.001, centered=True, eps=0.01)),
    Case(RMSprop(momentum=0.5), Torch("RMSprop", momentum=0.5)),
    Case(RMSprop(momentum=0.5, centered=True, epsilon=0.01), Torch("RMSprop", momentum=0.5, centered=True, eps=0.01)),
    Case(Chain([WeightDecay(0.1), RMSprop()]), Torch("RMSprop", weight_decay=0.1)),
    Case(RMSprop(rho=0.9, epsilon=0.0, epsilon_root=1e-3), Optax("rmsprop", learning_rate=0.01, eps=1e-3)),
    Case(
        RMSprop(rho=0.9, epsilon=0.0, epsilon_root=1e-3, centered=True, momentum=0.5),
        Optax("rmsprop", learning_rate=0.01, eps=1e-3, centered=True, momentum=0.5),
    ),
    Case(
        Chain([DivideByRMS(0.9, corrected=True), SGD(0.01)]),
        Optax("rmsprop", learning_rate=0.01, eps_in_sqrt=False, bias_correction=True),
    ),
    Case(
        Chain([DivideByRMS(0.9, 0.0, centered=True, epsilon_root=1e-3, corrected=True), SGD(0.01)]),
        Optax("rmsprop", learning_rate=0.01, eps=1e-3, centered=True, bias_correction=True),
    ),
    Case(Adadelta(), Torch("Adadelta")),
    Case(Adadelta(0.5, rho=0.7, epsilon=1e-3), Torch("Adadelta", lr=0.5, rho=0.7, eps=1e-3)),
    Case(Chain([WeightDecay(0.1), Adadelta()]), Torch("Adadelta", weight_decay=0.1)),
    Case(Adadelta(), Optax("adadelta", learning_rate=1.0)),
    Case(FTRL(), McMahan2013(0.1, 1.0)),
    Case(FTRL(0.5, beta=0.1, l1=0.1), McMahan2013(0.5, 0.1, lambda_1=0.1)),
    Case(FTRL(0.5, l2=0.1), McMahan2013(0.5, 1.0, lambda_2=0.1)),
    Case(FTRL(0.5, l1=1.0, l2=0.5), McMahan2013(0.5, 1.0, lambda_1=1.0, lambda_2=0.5)),
    # Adam
    Case(Adam(), Torch("Adam", lr=0.01)),
    Case(Adam(0.001, beta_1=0.5, beta_2=0.9, epsilon=0.01), Torch("Adam", lr=0.001, betas=(0.5, 0.9), eps=0.01)),
    Case(Adam(beta_1=0.0), Torch("Adam", lr=0.01, betas=(0.0, 0.999))),
    Case(Adam(beta_2=0.9, amsgrad=True), Torch("Adam", lr=0.01, betas=(0.9, 0.9), amsgrad=True)),
    Case(Chain([WeightDecay(0.1), Adam()]), Torch("Adam", lr=0.01, weight_decay=0.1)),
    Case(Adam(), Optax("adam", learning_rate=0.01)),
    Case(AdamW(), Torch("AdamW", lr=0.01)),
    Case(
        AdamW(0.001, beta_1=0.8, beta_2=0.9, epsilon=0.01, weight_decay=0.1, amsgrad=True),
        Torch("AdamW", lr=0.001, betas=(0.8, 0.9), eps=0.01, weight_decay=0.1, amsgrad=True),
    ),
    Case(AdamW(weight_decay=1e-4), Optax("adamw", learning_rate=0.01)),
    Case(Chain([ClipNorm(0.1), Adam()]), Optax("adam", Optax("clip_by_global_norm", max_norm=0.1), learning_rate=0.01)),
    Case(Chain([ClipValue(0.01), Adam()]), Optax("adam", Optax("clip", max_delta=0.01), learning_rate=0.01)),
    Case(RAdam(), Torch("RAdam", lr=0.01)),
    Case(RAdam(0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01), Torch("RAdam", lr=0.1, betas=(0.8, 0.95), eps=0.01)),
    Case(RAdam(beta_2=0.6), Torch("RAdam", lr=0.01, betas=(0.9, 0.6))),
    Case(Chain([WeightDecay(0.1), RAdam()]), Torch("RAdam", lr=0.01, weight_decay=0.1)),
    Case(Chain([RAdam(), WeightDecay(0.1)]), Torch("RAdam", lr=0.01, weight_decay=0.1, decoupled_weight_decay=True)),
    Case(
        RAdam(epsilon=CorrectedEpsilon(0.01), threshold=4.5),
        Optax("radam", learning_rate=0.01, eps=0.01, threshold=4.5),
    ),
    Case(OptimisticAdam(), Optax("optimistic_adam_v2", learning_rate=0.01, nesterov=False)),
    Case(
        OptimisticAdam(0.02, optimism=0.5, beta_1=0.5, beta_2=0.9, epsilon=0.01),
        Optax("optimistic_adam_v2", learning_rate=0.02, beta=0.5, b1=0.5, b2=0.9, eps=0.01, nesterov=False),
    ),
    Case(Chain([NAdam(momentum_decay=1e6), Optimism()]), Optax("optimistic_adam_v2", learning_rate=0.01)),
    Case(Chain([SGD(0.1), Optimism(0.5)]), Optax("optimistic_gradient_descent", learning_rate=0.1, beta=0.5)),
    Case(LAMB(), Optax("lamb", learning_rate=0.01)),
    Case(
        LAMB(0.001, beta_1=0.8, beta_2=0.9, epsilon=0.01, weight_decay=0.1),
        Optax("lamb", learning_rate=0.001, b1=0.8, b2=0.9, eps=0.01, weight_decay=0.1),
    ),
    # Looking ahead
    Case(NAdam(), Torch("NAdam", lr=0.01)),
    Case(
        NAdam(0.001, beta_1=0.8, beta_2=0.9, epsilon=0.01, momentum_decay=1.0),
        Torch("NAdam", lr=0.001, betas=(0.8, 0.9), eps=0.01, momentum_decay=1.0),
    ),
    Case(Chain([WeightDecay(0.1), NAdam()]), Torch("NAdam", lr=0.01, weight_decay=0.1)),
    Case(NAdam(momentum_decay=1e6), Optax("nadam", learning_rate=0.01)),
    Case(NAdamW(), Torch("NAdam", lr=0.01, weight_decay=0.01, decoupled_weight_decay=True)),
    Case(NAdamW(momentum_decay=1e6, weight_decay=1e-4), Optax("nadamw", learning_rate=0.01)),
    Case(
        NAdamW(0.001, beta_1=0.8, beta_2=0.9, epsilon=0.01, momentum_decay=1e6, weight_decay=0.1),
        Optax("nadamw", learning_rate=0.001, b1=0.8, b2=0.9, eps=0.01, weight_decay=0.1),
    ),
    Case(Adan(), Optax("adan", learning_rate=0.01)),
    Case(
        Adan(0.1, beta_1=0.9, beta_2=0.8, beta_3=0.95, epsilon=0.01, epsilon_root=1e-4),
        Optax("adan", learning_rate=0.1, b1=0.9, b2=0.8, b3=0.95, eps=0.01, eps_root=1e-4),
    ),
    Case(Chain([Adan(), WeightDecay(0.1)]), Optax("adan", learning_rate=0.01, weight_decay=0.1)),
    # Other measures of the spread
    Case(Adamax(), Torch("Adamax", lr=0.01)),
    Case(Adamax(0.02, beta_1=0.5, beta_2=0.9, epsilon=0.01), Torch("Adamax", lr=0.02, betas=(0.5, 0.9), eps=0.01)),
    Case(Chain([WeightDecay(0.1), Adamax()]), Torch("Adamax", lr=0.01, weight_decay=0.1)),
    Case(Adamax(), Optax("adamax", learning_rate=0.01)),
    Case(AdamaxW(weight_decay=1e-4), Optax("adamaxw", learning_rate=0.01)),
    Case(
        AdamaxW(0.001, beta_1=0.5, beta_2=0.9, epsilon=0.01, weight_decay=0.1),
        Optax("adamaxw", learning_rate=0.001, b1=0.5, b2=0.9, eps=0.01, weight_decay=0.1),
    ),
    Case(AdaBelief(), Optax("adabelief", learning_rate=0.01)),
    Case(
        AdaBelief(0.001, beta_1=0.8, beta_2=0.9, epsilon=0.01, epsilon_root=1e-4),
        Optax("adabelief", learning_rate=0.001, b1=0.8, b2=0.9, eps=0.01, eps_root=1e-4),
    ),
    Case(Yogi(), Optax("yogi", learning_rate=0.01)),
    Case(Yogi(0.1, beta_1=0.8, beta_2=0.9, epsilon=0.01), Optax("yogi", learning_rate=0.1, b1=0.8, b2=0.9, eps=0.01)),
    Case(
        Yogi(0.1, initial_accumulator_value=0.1),
        Optax("sgd", Optax("scale_by_yogi", initial_accumulator_value=0.1), learning_rate=0.1),
    ),
    # Averages that predict
    Case(ASGD(), Torch("ASGD")),
    Case(ASGD(0.1, lambd=0.1, power=0.5, t0=50), Torch("ASGD", lr=0.1, lambd=0.1, alpha=0.5, t0=50)),
    Case(Chain([WeightDecay(0.1), ASGD(0.1)]), Torch("ASGD", lr=0.1, weight_decay=0.1)),
    Case(ScheduleFreeSGD(), Optax("schedule_free_sgd")),
    Case(
        ScheduleFreeSGD(0.1, beta=0.5, weight_power=1.0),
        Optax("schedule_free_sgd", learning_rate=0.1, b1=0.5, weight_lr_power=1.0),
    ),
    Case(
        Chain([WeightDecay(0.1), SGD(0.1), ScheduleFree()]),
        Optax("schedule_free_sgd", learning_rate=0.1, weight_decay=0.1),
    ),
    Case(ScheduleFreeAdamW(), Optax("schedule_free_adamw", learning_rate=0.01)),
    Case(
        ScheduleFreeAdamW(0.02, beta_1=0.5, beta_2=0.95, epsilon=0.01, weight_decay=0.1, weight_power=1.0),
        Optax(
            "schedule_free_adamw",
            learning_rate=0.02,
            b1=0.5,
            b2=0.95,
            eps=0.01,
            weight_decay=0.1,
            weight_lr_power=1.0,
        ),
    ),
    # Without a rate to tune
    Case(DoG(), Optax("dog")),
    Case(
        DoG(0.5, initial_distance=0.01, relative=False, epsilon=1e-3),
        Optax("dog", learning_rate=0.5, init_step=("distance", 0.01), eps=1e-3),
    ),
    Case(Chain([WeightDecay(0.1), DoG()]), Optax("dog", weight_decay=0.1)),
    Case(Prodigy(), Optax("prodigy")),
    Case(
        Prodigy(0.5, beta_1=0.8, beta_2=0.99, epsilon=0.01, initial_distance=1e-3, distance_factor=0.5),
        Optax("prodigy", learning_rate=0.5, betas=(0.8, 0.99), eps=0.01, estim_lr0=1e-3, estim_lr_coef=0.5),
    ),
    Case(
        Prodigy(0.5, weight_decay=0.1, safeguard_warmup=True),
        Optax("prodigy", learning_rate=0.5, weight_decay=0.1, safeguard_warmup=True),
    ),
]
