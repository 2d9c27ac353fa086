r"""
=============================================
A factorization machine with sparse gradients
=============================================

Recommender data are triples: a user, an item, and a rating. A factorization machine [1]_
describes each user and each item by a bias and a short vector, and predicts the rating

.. math:: \hat y = m + b_u + c_i + p_u^\top q_i.

The tables :math:`b, c, p, q` have one row per user or item, but a minibatch contains few
of the users and items. The gradient of all other rows is zero. This example returns the
gradient of the rows in the minibatch only. The cost of a step then does not depend on the
size of the tables.

.. [1] S. Rendle (2010). Factorization machines. IEEE International Conference on Data
       Mining, 995-1000.
"""

# %%
# Data
# ----
# Ratings of 1500 users for 800 items are simulated from known tables, with noise of
# standard deviation 0.5. A sample of ``X`` consists of the number of a user and the number
# of an item.

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
# The gradient
# ------------
# A ridge penalty keeps rows with few ratings small. ``alpha`` would penalize, and thus
# change, every row in every step. Like most implementations, this example penalizes the
# rows of each sample instead, once per rating. The loss of a sample is
#
# .. math::
#     \ell = \tfrac12 (\hat y - y)^2
#            + \tfrac{\lambda}{2} \left(b_u^2 + c_i^2 + |p_u|^2 + |q_i|^2\right).
#
# With the residual :math:`d = \hat y - y`, its derivatives are
#
# .. math::
#     \frac{\partial\ell}{\partial m} = d, \quad
#     \frac{\partial\ell}{\partial b_u} = d + \lambda b_u, \quad
#     \frac{\partial\ell}{\partial c_i} = d + \lambda c_i, \quad
#     \frac{\partial\ell}{\partial p_u} = d \, q_i + \lambda p_u, \quad
#     \frac{\partial\ell}{\partial q_i} = d \, p_u + \lambda q_i.
#
# ``loss_and_gradient`` returns a pair ``(rows, values)`` for each table instead of an
# array. A row number may occur several times: its values are summed, so the function need
# not collect the samples of a user or an item.


def init(rng, rank):
    return {
        "mean": 0.0,
        "user": np.zeros(n_users),
        "item": np.zeros(n_items),
        "p": rng.normal(scale=0.1, size=(n_users, rank)),
        "q": rng.normal(scale=0.1, size=(n_items, rank)),
    }


def look_up(params, X):
    """The numbers of users and items, and their rows of the four tables."""
    u, i = X.T.astype(int)
    return u, i, params["user"][u], params["item"][i], params["p"][u], params["q"][i]


def forward(params, X):
    _, _, b, c, p, q = look_up(params, X)
    return params["mean"] + b + c + (p * q).sum(axis=1)


def loss_and_gradient(params, X, y, ridge):
    u, i, b, c, p, q = look_up(params, X)
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
# The gradient check converts the pairs to arrays and compares each table. A few samples
# are enough:

machine = AnalyticRegressor(
    forward,
    loss_and_gradient=loss_and_gradient,
    init=init,
    model_params={"rank": rank, "ridge": 0.02},
    optimizer=Adagrad(learning_rate=0.3),
    batch_size=500,
    max_iter=20,
    tol=None,
    random_state=0,
)
report = check_gradient(machine, X_train[:200], y_train[:200], random_state=0)
print(report)

# %%
# What the vectors add
# --------------------
# With ``rank=0``, there are no vectors, and the model consists of the biases. Their error
# is about twice the standard deviation of the noise. With vectors, it is close to the noise:


def held_out_error(model):
    return root_mean_squared_error(y_test, model.predict(X_test))


biases = clone(machine).set_params(model_params__rank=0).fit(X_train, y_train)
machine.fit(X_train, y_train)
error, error_of_biases = held_out_error(machine), held_out_error(biases)
print(f"biases only: {error_of_biases:.3f}, with vectors: {error:.3f}, noise: {noise}")

# %%
# What sparse gradients save
# --------------------------
# The cost of a step should depend on the number of samples in a batch, here 500, and not
# on the size of the table. The function below measures steps with the same gradient, as a
# pair and as an array that consists mostly of zeros:


def seconds_per_step(n_rows, as_array, n_steps=5):
    theta = {"table": np.zeros((n_rows, 8))}
    rows, values = rng.integers(n_rows, size=500), rng.normal(size=(500, 8))
    if as_array:
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
as_array = [seconds_per_step(size, as_array=True) for size in sizes]
as_pairs = [seconds_per_step(size, as_array=False) for size in sizes]

_, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
names = ["biases only", "with vectors"]
left.bar(names, [error_of_biases, error], color=["0.7", "C0"], width=0.5)
left.axhline(noise, color="k", linestyle="--", label="noise")
left.set(ylabel="held-out root mean squared error")
left.legend()
right.loglog(sizes, 1e3 * np.array(as_array), "C1s-", label="array with zeros")
right.loglog(sizes, 1e3 * np.array(as_pairs), "C0o-", label="pair (rows, values)")
right.set(xlabel="rows of the table", ylabel="time per Adagrad step (ms)")
right.legend()
plt.show()

# %%
# Adagrad does not change a row whose gradient is zero, so the pair and the array give the
# same table. :doc:`/guide/sparse` describes how other optimizers treat the missing rows.

print(f"held-out root mean squared error {error:.3f}")
