"""Gradients of some rows, step by step beside torch's optimizers with sparse gradients."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from references import require

from sk_analytic.optimizers import SGD, Adagrad, Adam, Schedule


class UncorrectedEpsilon(Schedule):
    """SparseAdam adds its epsilon to the root before that is corrected; Adam, here as in the paper, after it."""

    def __init__(self, epsilon, beta_2=0.999):
        self.epsilon = epsilon
        self.beta_2 = beta_2

    def __call__(self, step, epoch):
        return self.epsilon / (1 - self.beta_2 ** (step + 1)) ** 0.5


STEPS, SHAPE = 100, (20, 3)

CASES = {
    "SparseAdam": (Adam(0.05, epsilon=UncorrectedEpsilon(1e-8)), {"lr": 0.05}),
    "SparseAdam with other settings": (
        Adam(0.1, beta_1=0.5, beta_2=0.9, epsilon=UncorrectedEpsilon(0.01, beta_2=0.9)),
        {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.01},
    ),
    "SGD": (SGD(0.1), {"lr": 0.1}),
    "Adagrad": (Adagrad(0.1), {"lr": 0.1}),
    "Adagrad with other settings": (
        Adagrad(0.1, lr_decay=0.1, initial_accumulator_value=0.1, epsilon=0.01),
        {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.1, "eps": 0.01},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_that_of_torch(name):
    """θ agrees to 1e-12 after each step, rows that come repeatedly and steps without rows included."""
    torch = require("torch")
    ours, settings = CASES[name]
    rng = np.random.default_rng(0)
    theta = {"table": rng.normal(size=SHAPE)}
    state = ours.init(theta)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    checked = torch.sparse.check_sparse_tensor_invariants.is_enabled()
    torch.sparse.check_sparse_tensor_invariants.enable()
    try:
        tensor = torch.tensor(theta["table"], requires_grad=True)
        reference = getattr(torch.optim, name.split()[0])([tensor], **settings)
        for number in range(STEPS):
            rows = rng.integers(0, SHAPE[0], 0 if number == 5 else 6)
            values = rng.normal(size=(len(rows), SHAPE[1])) + theta["table"][rows]
            tensor.grad = torch.sparse_coo_tensor(rows[None], values, SHAPE)
            reference.step()
            ours.update(state, theta, {"table": (rows, values)})
            assert_allclose(theta["table"], tensor.detach().numpy(), rtol=1e-12, atol=1e-12)
    finally:
        torch.set_default_dtype(before)
        if not checked:
            torch.sparse.check_sparse_tensor_invariants.disable()
