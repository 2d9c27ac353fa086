"""Nets of several outputs, factorizations and embeddings, and the slips of back-propagation in them."""

import numpy as np
from scipy.special import expit, softmax

from sk_analytic import AnalyticClassifier

from .patients import data
from .registry import classifier, fault, plain, regressor

draw = np.random.default_rng(80)


class Digits:
    """A classifier of 4 classes with one hidden layer of tanh: W1, b1, W2, b2."""

    X = data(n=36, p=5, seed=81)
    y = draw.integers(0, 4, 36)
    params = {
        "W1": draw.normal(size=(5, 6)),
        "b1": draw.normal(size=6),
        "W2": draw.normal(size=(6, 4)),
        "b2": draw.normal(size=4),
    }
    sample_weight = draw.uniform(0.3, 2, 36)
    activation = staticmethod(np.tanh)
    slope = staticmethod(lambda z, h: 1 - h * h)

    @classmethod
    def layers(cls, params, X):
        z = X @ params["W1"] + params["b1"]
        h = cls.activation(z)
        return z, h, h @ params["W2"] + params["b2"]

    @classmethod
    def forward(cls, params, X):
        return cls.layers(params, X)[2]

    @classmethod
    def vjp(cls, params, X):
        z, h, out = cls.layers(params, X)

        def pullback(d):
            back = d @ params["W2"].T * cls.slope(z, h)
            return {"W1": X.T @ back, "b1": back.sum(axis=0), "W2": h.T @ d, "b2": d.sum(axis=0)}

        return out, pullback

    @classmethod
    def gradient(cls, params, X, y, sample_weight=None):
        out, pullback = cls.vjp(params, X)
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        return pullback((softmax(out, axis=1) - np.eye(4)[y]) * weight[:, None] / len(X))


class Deep:
    """Two hidden layers and two outputs: A, a, B, b, C, c."""

    X = data(n=30, p=4, seed=82)
    y = draw.normal(size=(30, 2))
    params = {
        "A": draw.normal(size=(4, 5)),
        "a": draw.normal(size=5),
        "B": draw.normal(size=(5, 6)) * 0.6,
        "b": draw.normal(size=6),
        "C": draw.normal(size=(6, 2)),
        "c": draw.normal(size=2),
    }
    slope = staticmethod(lambda h: 1 - h * h)

    @staticmethod
    def layers(params, X):
        h = np.tanh(X @ params["A"] + params["a"])
        k = np.tanh(h @ params["B"] + params["b"])
        return h, k, k @ params["C"] + params["c"]

    @classmethod
    def forward(cls, params, X):
        return cls.layers(params, X)[2]

    @classmethod
    def vjp(cls, params, X):
        h, k, out = cls.layers(params, X)

        def pullback(d):
            back = d @ params["C"].T * cls.slope(k)
            first = back @ params["B"].T * (1 - h * h)
            return {
                "A": X.T @ first,
                "a": first.sum(axis=0),
                "B": h.T @ back,
                "b": back.sum(axis=0),
                "C": k.T @ d,
                "c": d.sum(axis=0),
            }

        return out, pullback


class Switch:
    """A binary classifier of rectified units, one score: W1, b1, w2, b2."""

    X = data(n=40, p=4, seed=83)
    y = draw.integers(0, 2, 40)
    params = {"W1": draw.normal(size=(4, 5)), "b1": draw.normal(size=5), "w2": draw.normal(size=5), "b2": 0.1}
    slope = staticmethod(lambda z: (z > 0).astype(float))

    @classmethod
    def forward(cls, params, X):
        return np.maximum(X @ params["W1"] + params["b1"], 0) @ params["w2"] + params["b2"]

    @classmethod
    def vjp(cls, params, X):
        z = X @ params["W1"] + params["b1"]

        def pullback(d):
            back = np.outer(d, params["w2"]) * cls.slope(z)
            return {"W1": X.T @ back, "b1": back.sum(axis=0), "w2": np.maximum(z, 0).T @ d, "b2": float(d.sum())}

        return cls.forward(params, X), pullback

    @classmethod
    def gradient(cls, params, X, y):
        out, pullback = cls.vjp(params, X)
        return pullback((expit(out) - y) / len(X))


class Ratings:
    """A matrix factorization of ratings: X = (user, item), U (6, 3), V (5, 3), mean ()."""

    X = np.column_stack([draw.integers(0, 6, 60), draw.integers(0, 5, 60)]).astype(float)
    y = draw.normal(size=60)
    params = {"U": draw.normal(size=(6, 3)), "V": draw.normal(size=(5, 3)), "mean": 0.3}

    @staticmethod
    def forward(params, X):
        user, item = X.astype(int).T
        return np.sum(params["U"][user] * params["V"][item], axis=1) + params["mean"]

    @classmethod
    def vjp(cls, params, X, users=None, items=None):
        user, item = X.astype(int).T

        def pullback(d):
            U, V = np.zeros((6, 3)), np.zeros((5, 3))
            np.add.at(U, user, d[:, None] * params["V"][item])
            np.add.at(V, item, d[:, None] * params["U"][user])
            return {"U": U, "V": V, "mean": float(d.sum())}

        return cls.forward(params, X), pullback


class Radial:
    """Radial units: centers (4, 2), log_width (), w (4,)."""

    X = draw.normal(size=(30, 2))
    y = draw.normal(size=30)
    params = {"centers": draw.normal(size=(4, 2)), "log_width": 0.2, "w": draw.normal(size=4)}

    @staticmethod
    def parts(params, X):
        gap = X[:, None] - params["centers"]
        square = np.exp(2 * params["log_width"])
        return gap, square, np.exp(-0.5 * np.sum(gap**2, axis=2) / square)

    @classmethod
    def forward(cls, params, X):
        return cls.parts(params, X)[2] @ params["w"]

    @classmethod
    def vjp(cls, params, X):
        gap, square, unit = cls.parts(params, X)

        def pullback(d):
            back = np.outer(d, params["w"]) * unit
            return {
                "centers": np.einsum("nj,njp->jp", back, gap) / square,
                "log_width": float(np.sum(back * np.sum(gap**2, axis=2)) / square),
                "w": unit.T @ d,
            }

        return cls.forward(params, X), pullback


class Labels:
    """Linear scores of three labels that may all be there, weighted: W (4, 3), b (3,)."""

    X = data(n=40, p=4, seed=84)
    y = draw.integers(0, 2, size=(40, 3))
    params = {"W": draw.normal(size=(4, 3)), "b": draw.normal(size=3)}
    sample_weight = draw.uniform(0.3, 2, 40)

    @staticmethod
    def forward(params, X):
        return X @ params["W"] + params["b"]

    @classmethod
    def gradient(cls, params, X, y, sample_weight):
        d = (expit(cls.forward(params, X)) - y) * sample_weight[:, None] / len(X)
        return {"W": X.T @ d, "b": d.sum(axis=0)}

    @classmethod
    def vjp(cls, params, X):
        return cls.forward(params, X), lambda d: {"W": X.T @ d, "b": d.sum(axis=0)}


class Codes:
    """An autoencoder of plain functions with a code of two: E (4, 2), D (2, 4)."""

    X = data(n=30, p=4, seed=85)
    y = None
    params = {"E": draw.normal(size=(4, 2)) * 0.5, "D": draw.normal(size=(2, 4)) * 0.5}

    @staticmethod
    def loss(params, X):
        return 0.5 * float(np.mean(np.sum((np.tanh(X @ params["E"]) @ params["D"] - X) ** 2, axis=1)))

    @staticmethod
    def gradient(params, X):
        h = np.tanh(X @ params["E"])
        d = (h @ params["D"] - X) / len(X)
        return {"E": X.T @ (d @ params["D"].T * (1 - h * h)), "D": h.T @ d}


class Memory:
    """A recurrent net read after each of five steps, two outputs summed up: Wx (3,), Wh (3, 3), V (3, 2)."""

    X = data(n=24, p=5, seed=86)
    y = draw.normal(size=(24, 2))
    params = {"Wx": draw.normal(size=3), "Wh": draw.normal(size=(3, 3)) * 0.6, "V": draw.normal(size=(3, 2))}

    @staticmethod
    def states(params, X):
        states = [np.zeros((len(X), 3))]
        for t in range(X.shape[1]):
            states.append(np.tanh(np.outer(X[:, t], params["Wx"]) + states[-1] @ params["Wh"]))
        return states

    @classmethod
    def forward(cls, params, X):
        return sum(cls.states(params, X)[1:]) @ params["V"]

    @classmethod
    def vjp(cls, params, X, first=0, last=5, through=1.0):
        states = cls.states(params, X)

        def pullback(d):
            later, gx, gh = np.zeros((len(X), 3)), np.zeros(3), np.zeros((3, 3))
            for t in reversed(range(first, last)):
                back = (d @ params["V"].T + later) * (1 - states[t + 1] ** 2)
                gx = gx + back.T @ X[:, t]
                gh = gh + states[t].T @ back
                later = through * back @ params["Wh"].T
            return {"Wx": gx, "Wh": gh, "V": sum(states[1:]).T @ d}

        return cls.forward(params, X), pullback


def mutated(vjp, change):
    """A vjp whose pullback's result goes through ``change(grads, params, X)``."""

    def faulty(params, X):
        out, pullback = vjp(params, X)
        return out, lambda d: change(dict(pullback(d)), params, X)

    return faulty


# A classifier of digits.


@fault("W1 b1", "activation_derivative", says="tanh")
def digits_logistic_derivative_of_tanh():
    class Faulty(Digits):
        slope = staticmethod(lambda z, h: h * (1 - h))

    return classifier(Digits, vjp=Faulty.vjp)


@fault("W1 b1", "activation_derivative")
def digits_derivative_left_out_with_weights():
    class Faulty(Digits):
        slope = staticmethod(lambda z, h: np.ones_like(h))

    return classifier(Digits, Digits.sample_weight, gradient=Faulty.gradient)


@fault("b1", "left_at_zero")
def digits_hidden_bias_of_zeros():
    return classifier(Digits, vjp=mutated(Digits.vjp, lambda g, p, X: {**g, "b1": np.zeros(6)}))


@fault("b2", "left_at_zero", says="axis")
def digits_bias_summed_over_classes():
    def gradient(params, X, y):
        out, pullback = Digits.vjp(params, X)
        d = (softmax(out, axis=1) - np.eye(4)[y]) / len(X)
        return {**pullback(d), "b2": np.full(4, d.sum(axis=1).sum())}

    return classifier(Digits, gradient=gradient)


@fault("W1 b1 W2 b2", "output_derivative", says="P + Y")
def digits_labels_added():
    def gradient(params, X, y):
        out, pullback = Digits.vjp(params, X)
        return pullback((softmax(out, axis=1) + np.eye(4)[y]) / len(X))

    return classifier(Digits, gradient=gradient)


@fault("W1 b1 W2 b2", "output_derivative")
def digits_labels_left_out():
    def gradient(params, X, y):
        out, pullback = Digits.vjp(params, X)
        return pullback(softmax(out, axis=1) / len(X))

    return classifier(Digits, gradient=gradient)


@fault("W1 b1 W2 b2", "output_derivative")
def digits_scores_instead_of_probabilities():
    def gradient(params, X, y):
        out, pullback = Digits.vjp(params, X)
        return pullback((out - np.eye(4)[y]) / len(X))

    return classifier(Digits, gradient=gradient)


@fault("W1 b1 W2 b2", "forward_applies_link")
def digits_forward_of_probabilities():
    return classifier(
        Digits, forward=lambda params, X: softmax(Digits.forward(params, X), axis=1), gradient=Digits.gradient
    )


@fault("W1 b1 W2 b2", "forward_applies_link")
def digits_forward_of_log_probabilities_in_vjp():
    def vjp(params, X):
        out, pullback = Digits.vjp(params, X)
        return softmax(out, axis=1), pullback

    return {"estimator": AnalyticClassifier(vjp=vjp, init=Digits.params), "X": Digits.X, "y": Digits.y}


@fault("W1 b1 W2 b2", "label_coding output_derivative", says="class")
def digits_labels_from_one():
    return classifier(Digits, gradient=lambda params, X, y: Digits.gradient(params, X, (y - 1) % 4))


@fault("W1 b1 W2 b2", "sample_weight_ignored")
def digits_weights_ignored():
    return classifier(
        Digits, Digits.sample_weight, gradient=lambda params, X, y, sample_weight: Digits.gradient(params, X, y)
    )


@fault("W2", "transposed")
def digits_output_weights_reshaped():
    return classifier(
        Digits, vjp=mutated(Digits.vjp, lambda g, p, X: {**g, "W2": g["W2"].ravel(order="F").reshape(6, 4)})
    )


@fault("b2", "mean_not_sum")
def digits_bias_averaged():
    return classifier(Digits, vjp=mutated(Digits.vjp, lambda g, p, X: {**g, "b2": g["b2"] / len(X)}))


@fault("W1 b1 W2 b2", "fixed_divisor", says="32")
def digits_divided_by_a_batch_of_32():
    def gradient(params, X, y):
        return {k: g * len(X) / 32 for k, g in Digits.gradient(params, X, y).items()}

    return classifier(Digits, gradient=gradient)


# Two hidden layers.


@fault("A a B b", "activation_derivative")
def deep_second_derivative_left_out():
    class Faulty(Deep):
        slope = staticmethod(np.ones_like)

    return regressor(Deep, vjp=Faulty.vjp)


@fault("A a", "activation_derivative")
def deep_first_layer_without_the_second_derivative():
    def vjp(params, X):
        h, k, out = Deep.layers(params, X)

        def pullback(d):
            first = (d @ params["C"].T) @ params["B"].T * (1 - h * h)
            return {**Deep.vjp(params, X)[1](d), "A": X.T @ first, "a": first.sum(axis=0)}

        return out, pullback

    return regressor(Deep, vjp=vjp)


@fault("A a B b C c", "output_left_out")
def deep_first_output_alone():
    def vjp(params, X):
        out, pullback = Deep.vjp(params, X)
        return out, lambda d: pullback(d * [1, 0])

    return regressor(Deep, vjp=vjp)


@fault("B", "transposed blocks_swapped")
def deep_weights_transposed():
    return regressor(Deep, vjp=mutated(Deep.vjp, lambda g, p, X: {**g, "B": g["B"].T.reshape(5, 6)}))


@fault("C", "sign")
def deep_sign_of_the_output_weights():
    return regressor(Deep, vjp=mutated(Deep.vjp, lambda g, p, X: {**g, "C": -g["C"]}))


@fault("A", "one_row")
def deep_last_feature_left_out():
    return regressor(Deep, vjp=mutated(Deep.vjp, lambda g, p, X: {**g, "A": g["A"] * [[1], [1], [1], [0]]}))


@fault("A a B b C c", "factor")
def deep_mean_over_outputs():
    def vjp(params, X):
        out, pullback = Deep.vjp(params, X)
        return out, lambda d: pullback(d / 2)

    return regressor(Deep, vjp=vjp)


@fault("B b", "clipped")
def deep_gradient_clipped_by_entry():
    change = {"B": 0.02, "b": 0.02}
    return regressor(
        Deep,
        vjp=mutated(Deep.vjp, lambda g, p, X: {**g, **{k: np.clip(g[k], -m, m) for k, m in change.items()}}),
    )


# Rectified units.


@fault("W1 b1", "unit_sign")
def switch_mask_forgotten():
    class Faulty(Switch):
        slope = staticmethod(np.ones_like)

    return classifier(Switch, vjp=Faulty.vjp)


@fault("W1 b1", "unit_sign")
def switch_slope_of_a_leaky_unit():
    class Faulty(Switch):
        slope = staticmethod(lambda z: np.where(z > 0, 1.0, 0.01))

    return classifier(Switch, gradient=Faulty.gradient)


@fault("W1 b1 w2 b2", "label_coding", says="-1")
def switch_labels_of_minus_one_expected():
    def gradient(params, X, y):
        out, pullback = Switch.vjp(params, X)
        return pullback(-y * expit(-y * out) / len(X))

    return classifier(Switch, gradient=gradient)


@fault("W1 b1 w2 b2", "forward_applies_link")
def switch_forward_of_probabilities():
    return classifier(Switch, forward=lambda params, X: expit(Switch.forward(params, X)), gradient=Switch.gradient)


@fault("W1 b1 w2 b2", "output_derivative", says="P + Y")
def switch_labels_added():
    def gradient(params, X, y):
        out, pullback = Switch.vjp(params, X)
        return pullback((expit(out) + y) / len(X))

    return classifier(Switch, gradient=gradient)


@fault("W1 b1 w2 b2", "some_samples", says="X[:, 0]")
def switch_wrong_for_negative_features():
    def vjp(params, X):
        out, pullback = Switch.vjp(params, X)
        return out, lambda d: pullback(d * np.where(X[:, 0] < 0, 0.5, 1.0))

    return classifier(Switch, vjp=vjp)


# A factorization.


@fault("U", "left_at_zero")
def ratings_users_left_at_zero():
    return regressor(Ratings, vjp=mutated(Ratings.vjp, lambda g, p, X: {**g, "U": np.zeros((6, 3))}))


@fault("U V", "penalty")
def ratings_penalty_of_its_own():
    return regressor(
        Ratings, vjp=mutated(Ratings.vjp, lambda g, p, X: {**g, "U": g["U"] + 0.1 * p["U"], "V": g["V"] + 0.1 * p["V"]})
    )


@fault("U V", "some_samples")
def ratings_last_of_repeated_rows_wins():
    def vjp(params, X):
        user, item = X.astype(int).T

        def pullback(d):
            U, V = np.zeros((6, 3)), np.zeros((5, 3))
            U[user] += d[:, None] * params["V"][item]
            V[item] += d[:, None] * params["U"][user]
            return {"U": U, "V": V, "mean": float(d.sum())}

        return Ratings.forward(params, X), pullback

    return regressor(Ratings, vjp=vjp)


@fault("V", "factor")
def ratings_items_doubled():
    return regressor(Ratings, vjp=mutated(Ratings.vjp, lambda g, p, X: {**g, "V": 2 * g["V"]}))


@fault("U V mean", "output_derivative missing_factor")
def ratings_residual_times_itself():
    def gradient(params, X, y):
        out, pullback = Ratings.vjp(params, X)
        return pullback((out - y) * out / len(X))

    return regressor(Ratings, gradient=gradient)


# Radial units.


@fault("log_width", "factor")
def radial_square_of_the_width_halved():
    return regressor(Radial, vjp=mutated(Radial.vjp, lambda g, p, X: {**g, "log_width": g["log_width"] / 2}))


@fault("log_width", "parametrization missing_factor")
def radial_width_instead_of_its_logarithm():
    return regressor(
        Radial, vjp=mutated(Radial.vjp, lambda g, p, X: {**g, "log_width": g["log_width"] / np.exp(p["log_width"])})
    )


@fault("centers", "sign")
def radial_sign_of_the_centers():
    return regressor(Radial, vjp=mutated(Radial.vjp, lambda g, p, X: {**g, "centers": -g["centers"]}))


@fault("centers", "missing_factor")
def radial_centers_without_weights():
    def vjp(params, X):
        gap, square, unit = Radial.parts(params, X)

        def pullback(d):
            back = d[:, None] * unit
            return {**Radial.vjp(params, X)[1](d), "centers": np.einsum("nj,njp->jp", back, gap) / square}

        return Radial.forward(params, X), pullback

    return regressor(Radial, vjp=vjp)


@fault("centers", "shifted permuted")
def radial_centers_one_on():
    return regressor(
        Radial, vjp=mutated(Radial.vjp, lambda g, p, X: {**g, "centers": np.roll(g["centers"], 1, axis=0)})
    )


# Several labels.


@fault("W b", "sample_weight_ignored")
def labels_weights_ignored():
    def gradient(params, X, y, sample_weight):
        return Labels.gradient(params, X, y, np.ones(len(X)))

    return classifier(Labels, Labels.sample_weight, gradient=gradient)


@fault("W b", "sample_weight_misused")
def labels_weights_by_their_roots():
    def gradient(params, X, y, sample_weight):
        return Labels.gradient(params, X, y, np.sqrt(sample_weight))

    return classifier(Labels, Labels.sample_weight, gradient=gradient)


@fault("W b", "output_left_out one_column one_entry")
def labels_last_left_out():
    def vjp(params, X):
        out, pullback = Labels.vjp(params, X)
        return out, lambda d: pullback(d * [1, 1, 0])

    return classifier(Labels, Labels.sample_weight, vjp=vjp)


@fault("W b", "output_derivative")
def labels_softmax_of_labels():
    def gradient(params, X, y, sample_weight):
        d = (softmax(Labels.forward(params, X), axis=1) - y) * sample_weight[:, None] / len(X)
        return {"W": X.T @ d, "b": d.sum(axis=0)}

    return classifier(Labels, Labels.sample_weight, gradient=gradient)


@fault("W b", "factor")
def labels_mean_over_labels():
    def gradient(params, X, y, sample_weight):
        return {k: g / 3 for k, g in Labels.gradient(params, X, y, sample_weight).items()}

    return classifier(Labels, Labels.sample_weight, gradient=gradient)


# An autoencoder, a recurrent net.


@fault("E", "activation_derivative")
def codes_derivative_left_out():
    def gradient(params, X):
        d = (np.tanh(X @ params["E"]) @ params["D"] - X) / len(X)
        return {**Codes.gradient(params, X), "E": X.T @ (d @ params["D"].T)}

    return plain(Codes, gradient=gradient)


@fault("E D", "blocks_swapped", says="swapped")
def codes_swapped():
    def gradient(params, X):
        g = Codes.gradient(params, X)
        return {"E": g["D"].T, "D": g["E"].T}

    return plain(Codes, gradient=gradient)


@fault("D", "rounded")
def codes_rounded_for_printing():
    def gradient(params, X):
        g = Codes.gradient(params, X)
        return {**g, "D": np.round(g["D"], 2)}

    return plain(Codes, gradient=gradient)


@fault("E D", "rescaled")
def codes_normalized():
    def gradient(params, X):
        return {k: g / np.linalg.norm(g) for k, g in Codes.gradient(params, X).items()}

    return plain(Codes, gradient=gradient)


@fault("E D", "sum_not_mean")
def codes_summed():
    return plain(Codes, gradient=lambda params, X: {k: len(X) * g for k, g in Codes.gradient(params, X).items()})


@fault("Wx", "first_step")
def memory_first_step_missing():
    return regressor(Memory, vjp=lambda params, X: Memory.vjp(params, X, first=1))


@fault("Wx Wh", "through_block", says="Wh")
def memory_no_gradient_through_time():
    return regressor(Memory, vjp=lambda params, X: Memory.vjp(params, X, through=0.0))


@fault("Wh", "transposed")
def memory_recurrent_weights_transposed():
    return regressor(Memory, vjp=mutated(Memory.vjp, lambda g, p, X: {**g, "Wh": g["Wh"].T}))


@fault("V", "output_left_out one_column")
def memory_one_output_left_out():
    return regressor(Memory, vjp=mutated(Memory.vjp, lambda g, p, X: {**g, "V": g["V"] * [1, 0]}))
