"""What a user would write or take instead of a fit of ours: each a function of a problem.

Each maker returns a function that fits from scratch and returns the final parameters in our order.
"""

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from . import peers
from .ours import SEED, estimator, on_engine, order

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def ours(problem, engine="numpy", **settings):
    """Our estimator."""
    return on_engine(engine, lambda: estimator(problem, **settings).fit(problem.X, problem.y).params_)


def bare(problem, adam=None):
    """A loop in NumPy, with the same callables and Adam written out, block by block."""
    X, y, size, rate = problem.X, problem.y, problem.batch_size, problem.rate
    n = len(y)
    loss_and_gradient = problem.model.loss_and_gradient
    adam = adam or adam_of_the_paper

    def fit():
        params = tuple(np.array(block) for block in problem.start)
        means = [np.zeros_like(block) for block in params]
        squares = [np.zeros_like(block) for block in params]
        t = 0
        losses = []
        for epoch in range(problem.epochs):
            rows = order(epoch, n)
            total = 0.0
            for start in range(0, n, size):
                batch = rows[start : start + size]
                loss, grads = loss_and_gradient(params, X[batch], y[batch])
                total += loss * len(batch)
                t += 1
                params = adam(params, grads, means, squares, t, rate)
            losses.append(total / n)
        return params

    return fit


def adam_of_the_paper(params, grads, means, squares, t, rate):
    """A step as the paper writes it."""
    new = []
    for i, (block, g) in enumerate(zip(params, grads, strict=True)):
        means[i] = BETA_1 * means[i] + (1 - BETA_1) * g
        squares[i] = BETA_2 * squares[i] + (1 - BETA_2) * g**2
        mean = means[i] / (1 - BETA_1**t)
        square = squares[i] / (1 - BETA_2**t)
        new.append(block - rate * mean / (np.sqrt(square) + EPSILON))
    return tuple(new)


def adam_in_place(params, grads, means, squares, t, rate):
    """A step that saves temporaries, with both corrections in the rate."""
    correction = (1 - BETA_2**t) ** 0.5
    step = rate * correction / (1 - BETA_1**t)
    for block, g, mean, square in zip(params, grads, means, squares, strict=True):
        mean *= BETA_1
        mean += (1 - BETA_1) * g
        square *= BETA_2
        square += (1 - BETA_2) * g * g
        block -= step * mean / (np.sqrt(square) + EPSILON * correction)
    return params


def mlp(problem, **settings):
    """scikit-learn's multilayer perceptron of the same shape, from the same start."""
    kind = MLPClassifier if problem.n_classes else MLPRegressor
    made = {
        "hidden_layer_sizes": (problem.start[0].shape[1],),
        "alpha": 0.0,
        "batch_size": problem.batch_size,
        "learning_rate_init": problem.rate,
        "max_iter": problem.epochs,
        "tol": 0.0,
        "n_iter_no_change": problem.epochs + 1,
        "random_state": SEED,
    }

    def fit():
        fitted = kind(**(made | settings)).fit(problem.X, problem.y)
        (W, V), (b, c) = fitted.coefs_, fitted.intercepts_
        return (W, b, V, c) if problem.n_classes else (W, b, V[:, 0], c[0])

    return fit


def _torch_network(problem):
    """Return the problem's network, and its criterion."""
    torch = peers.find("torch")
    W, b, V, c = (np.asarray(block) for block in problem.start)
    V, c = V.reshape(len(V), -1), c.reshape(-1)
    network = torch.nn.Sequential(torch.nn.Linear(*W.shape), torch.nn.ReLU(), torch.nn.Linear(*V.shape))
    network = network.to(torch.tensor(W).dtype)
    with torch.no_grad():
        for parameter, block in zip(network.parameters(), (W.T, b, V.T, c), strict=True):
            parameter.copy_(torch.tensor(block))
    return network


def _torch_criterion(problem):
    torch = peers.find("torch")
    return torch.nn.CrossEntropyLoss() if problem.n_classes else _half_squared_error()


def _half_squared_error():
    torch = peers.find("torch")

    class HalfSquaredError(torch.nn.Module):
        def forward(self, prediction, y):
            return 0.5 * torch.nn.functional.mse_loss(prediction.squeeze(1), y)

    return HalfSquaredError()


def _torch_parameters(problem, network):
    W, b, V, c = (parameter.detach().numpy() for parameter in network.parameters())
    return (W.T, b, V.T, c) if problem.n_classes else (W.T, b, V[0], c[0])


def torch_loop(problem, **adam):
    """The loop of torch's tutorials, over tensors in memory."""
    torch = peers.find("torch")
    X, y, size = torch.tensor(problem.X), torch.tensor(problem.y), problem.batch_size
    n = len(y)
    criterion = _torch_criterion(problem)

    def fit():
        network = _torch_network(problem)
        optimizer = torch.optim.Adam(network.parameters(), lr=problem.rate, **adam)
        losses = []
        for epoch in range(problem.epochs):
            rows = torch.from_numpy(order(epoch, n))
            total = 0.0
            for start in range(0, n, size):
                batch = rows[start : start + size]
                optimizer.zero_grad()
                loss = criterion(network(X[batch]), y[batch])
                loss.backward()
                optimizer.step()
                total += loss.item() * len(batch)
            losses.append(total / n)
        return _torch_parameters(problem, network)

    return fit


def skorch_net(problem):
    """skorch's estimator around the same network; it draws its own order."""
    torch, skorch = peers.find("torch", "skorch")
    kind = skorch.NeuralNetClassifier if problem.n_classes else skorch.NeuralNetRegressor

    def fit():
        network = _torch_network(problem)
        net = kind(
            network,
            criterion=_torch_criterion(problem),
            optimizer=torch.optim.Adam,
            lr=problem.rate,
            batch_size=problem.batch_size,
            max_epochs=problem.epochs,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        )
        net.fit(problem.X, problem.y)
        return _torch_parameters(problem, net.module_)

    return fit


def jax_loop(problem):
    """One compiled step of jax and optax, called batch by batch; the rows are gathered within it."""
    jax, optax = peers.find("jax", "optax")
    jnp = jax.numpy
    X, y, size = jnp.array(problem.X), jnp.array(problem.y), problem.batch_size
    n = len(y)
    transform = optax.adam(problem.rate)

    def loss(params, X, y):
        W, b, V, c = params
        prediction = jnp.maximum(X @ W + b, 0) @ V + c
        if problem.n_classes:
            return optax.softmax_cross_entropy_with_integer_labels(prediction, y).mean()
        return 0.5 * jnp.mean((prediction - y) ** 2)

    @jax.jit
    def step(params, state, batch):
        value, grads = jax.value_and_grad(loss)(params, X[batch], y[batch])
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    def fit():
        params = tuple(jnp.array(block) for block in problem.start)
        state = transform.init(params)
        losses = []
        for epoch in range(problem.epochs):
            rows = order(epoch, n)
            values = []
            for start in range(0, n, size):
                batch = rows[start : start + size]
                params, state, value = step(params, state, batch)
                values.append(value * len(batch))
            losses.append(float(sum(values)) / n)
        return tuple(np.asarray(block) for block in params)

    return fit
