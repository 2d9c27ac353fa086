r"""
=============================================
A factorization machine with sparse gradients
=============================================

Recommender data are pairs: a user, an item, and a rating. A factorization machine [1]_
describes each user and each item by a bias and a short vector, and predicts

.. math:: \hat y = m + b_u + c_i + p_u^\top q_i.

The tables :math:`b, c, p, q` have one row per user or item, but a minibatch touches few
of these rows. The gradient of all other rows is zero. This example returns the gradient
of the touched rows only. The cost of a step then depends on the number of touched rows,
even for tables of a million rows.

.. [1] S. Rendle (2010). Factorization machines. IEEE International Conference on Data
       Mining, 995-1000.
"""

# %%
# Data
# ----
# Ratings of 1500 users for 800 items are simulated from known tables, with noise of
# standard deviation 0.5. ``X`` holds the number of the user and the number of the item.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split

from sk_analytic import AnalyticRegressor, check_gradient
from sk_analytic.optimizers import Adagrad

n_users, n_items, rank, noise = 1500, 800, 3, 0.5
rng = np.random.default_rng(0)
true_user = rng.normal(scale=0.5, size=n_users)
true_item = rng.normal(scale=0.5, size=n_items)
true_p = rng.normal(scale=0.7, size=(n_users, rank))
true_q = rng.normal(scale=0.7, size=(n_items, rank))

user = rng.integers(n_users, size=60_000)
item = rng.integers(n_items, size=60_000)
rating = (
    3.5 + true_user[user] + true_item[item] + (true_p[user] * true_q[item]).sum(axis=1)
)
rating += noise * rng.normal(size=len(rating))
X_train, X_test, y_train, y_test = train_test_split(
    np.stack([user, item], axis=1), rating, test_size=0.2, random_state=0
)

# %%
# The adjoint
# -----------
# Let :math:`d` be the derivative of the loss with respect to the prediction of one
# sample, which the loss provides. The sample contributes
#
# .. math::
#     \frac{\partial L}{\partial m} = d, \qquad
#     \frac{\partial L}{\partial b_u} = \frac{\partial L}{\partial c_i} = d, \qquad
#     \frac{\partial L}{\partial p_u} = d \, q_i, \qquad
#     \frac{\partial L}{\partial q_i} = d \, p_u.
#
# Instead of an array, the pullback returns a pair ``(rows, values)`` for each table.
# Rows may repeat: their values are summed, so nothing has to be collected per user or
# item. A ridge term keeps rows with few ratings small. ``alpha`` would touch every row,
# so the pull :math:`\lambda p_u` is added to the values of the touched rows, once per
# rating, as in most implementations. That makes it a term of the loss of each sample,
# which ``loss_and_gradient`` can express:
#
# .. math::
#     \ell = \tfrac12 (\hat y - y)^2
#            + \tfrac{\lambda}{2} \left(b_u^2 + c_i^2 + |p_u|^2 + |q_i|^2\right).


def init(rng, rank):
    return {
        "mean": 0.0,
        "user": np.zeros(n_users),
        "item": np.zeros(n_items),
        "p": rng.normal(scale=0.1, size=(n_users, rank)),
        "q": rng.normal(scale=0.1, size=(n_items, rank)),
    }


def touched(params, X):
    u, i = X.T.astype(int)
    return u, i, params["user"][u], params["item"][i], params["p"][u], params["q"][i]


def forward(params, X):
    _, _, b, c, p, q = touched(params, X)
    return params["mean"] + b + c + (p * q).sum(axis=1)


def loss_and_gradient(params, X, y, ridge):
    u, i, b, c, p, q = touched(params, X)
    residual = params["mean"] + b + c + (p * q).sum(axis=1) - y
    size = b**2 + c**2 + (p**2).sum(axis=1) + (q**2).sum(axis=1)
    d = residual[:, None]
    gradient = {
        "mean": residual.mean(),
        "user": (u, (residual + ridge * b) / len(X)),
        "item": (i, (residual + ridge * c) / len(X)),
        "p": (u, (d * q + ridge * p) / len(X)),
        "q": (i, (d * p + ridge * q) / len(X)),
    }
    return 0.5 * np.mean(residual**2 + ridge * size), gradient


# %%
# The check writes out the pairs and compares every table. It needs few samples:

machine = AnalyticRegressor(
    forward,
    loss_and_gradient=loss_and_gradient,
    init=init,
    model_params={"rank": rank, "ridge": 0.02},
    optimizer="adagrad",
    batch_size=200,
    max_iter=20,
    tol=None,
    random_state=0,
).set_params(optimizer__learning_rate=0.3)
report = check_gradient(machine, X_train[:200], y_train[:200], random_state=0)
print(report)

# %%
# What the vectors add
# --------------------
# With ``rank=0`` there are no vectors, and the model consists of biases. The vectors
# explain the rest, nearly down to the noise:


def held_out_error(model, X):
    return root_mean_squared_error(y_test, model.predict(X))


biases = clone(machine).set_params(model_params__rank=0).fit(X_train, y_train)
machine.fit(X_train, y_train)
error = held_out_error(machine, X_test)
print(f"biases only: {held_out_error(biases, X_test):.3f}, noise: {noise}")

# %%
# What sparse gradients save
# --------------------------
# The cost of a step should depend on the 200 rows in a batch, and not on the size of the
# table. The loop below takes steps with the same gradient, once as a pair and once as an
# array full of zeros.


def seconds_per_step(n_rows, written_out, n_steps=5):
    theta = {"table": np.zeros((n_rows, 8))}
    rows, values = rng.integers(n_rows, size=200), rng.normal(size=(200, 8))
    if written_out:
        gradient = np.zeros((n_rows, 8))
        np.add.at(gradient, rows, values)
    else:
        gradient = rows, values
    optimizer = Adagrad(learning_rate=0.1)
    state = optimizer.init(theta)
    optimizer.update(state, theta, {"table": gradient})
    seconds = []
    for _ in range(n_steps):
        begin = time.perf_counter()
        optimizer.update(state, theta, {"table": gradient})
        seconds.append(time.perf_counter() - begin)
    return np.median(seconds)


sizes = [1_000, 10_000, 100_000, 1_000_000]
written_out = [seconds_per_step(size, written_out=True) for size in sizes]
as_pairs = [seconds_per_step(size, written_out=False) for size in sizes]

_, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
names = ["biases only", "with vectors"]
left.bar(names, [held_out_error(biases, X_test), error], color=["0.7", "C0"], width=0.5)
left.axhline(noise, color="k", linestyle="--", label="noise")
left.set(ylabel="held-out root mean squared error")
left.legend()
right.loglog(sizes, 1e3 * np.array(written_out), "C1s-", label="zeros written out")
right.loglog(sizes, 1e3 * np.array(as_pairs), "C0o-", label="pair (rows, values)")
right.set(xlabel="rows of the table", ylabel="milliseconds per step of Adagrad")
right.legend()
plt.show()

# %%
# Adagrad does not change a row with a zero gradient, so both ways give the same tables.
# Other optimizers update missing rows lazily; see :doc:`/guide/sparse`.

print(f"held-out root mean squared error {error:.3f}")
