"""Realistic faults of softmax regression, nets, NADE, counts, survival and curves."""

from functools import partial

import numpy as np
from scipy.special import expit, softmax

from sk_analytic import AnalyticRegressor

from .patients import Curve, Gaussian, Hidden, Nade, Poisson, Recurrent, Relu, Sigmoid, Softmax, Survival, TwoOutputs
from .registry import altered, classifier, density, fault, plain, regressor

# Softmax regression.


@fault("W", "sign")
def softmax_sign_of_weights():
    return classifier(gradient=altered(Softmax.gradient, W=lambda g, p: -g))


@fault("W b", "sum_not_mean")
def softmax_sum_of_rows():
    return classifier(gradient=lambda params, X, y: {k: g * len(X) for k, g in Softmax.gradient(params, X, y).items()})


@fault("W", "sum_not_mean")
def softmax_sum_in_one_block():
    return classifier(
        gradient=lambda params, X, y: {**Softmax.gradient(params, X, y), "W": X.T @ Softmax.delta(params, X, y)}
    )


@fault("b", "left_at_zero")
def softmax_bias_forgotten():
    return classifier(gradient=altered(Softmax.gradient, b=lambda g, p: np.zeros_like(g)))


@fault("W b", "class_left_out")
def softmax_rows_of_a_class_skipped():
    def gradient(params, X, y):
        delta = Softmax.delta(params, X, y) * (y != 1)[:, None]
        return {"W": X.T @ delta / len(X), "b": delta.mean(axis=0)}

    return classifier(gradient=gradient)


@fault("W b", "one_column one_entry some_entries output_left_out")
def softmax_last_class_not_normalized():
    def gradient(params, X, y):
        delta = Softmax.delta(params, X, y)
        delta[:, -1] = 0
        return {"W": X.T @ delta / len(X), "b": delta.mean(axis=0)}

    return classifier(gradient=gradient)


@fault("W", "one_row")
def softmax_first_feature_skipped():
    return classifier(gradient=altered(Softmax.gradient, W=lambda g, p: g * (np.arange(5) > 0)[:, None]))


@fault("W b", "output_derivative other_loss")
def softmax_slope_of_a_logistic_too_much():
    def gradient(params, X, y):
        p = softmax(Softmax.forward(params, X), axis=1)
        delta = (p - np.eye(3)[y]) * p * (1 - p)
        return {"W": X.T @ delta / len(X), "b": delta.mean(axis=0)}

    return classifier(
        gradient=lambda params, X, y: _with_delta(params, X, lambda s: _softmax_delta(s, y) * _logistic_slope(s))
    )


def _softmax_delta(s, y):
    return softmax(s, axis=1) - np.eye(3)[y]


def _logistic_slope(s):
    return expit(s) * (1 - expit(s))


def _with_delta(params, X, delta):
    delta = delta(Softmax.forward(params, X))
    return {"W": X.T @ delta / len(X), "b": delta.mean(axis=0)}


@fault("W b", "mean_not_sum")
def softmax_pullback_divides_by_rows_again():
    def vjp(params, X):
        return Softmax.forward(params, X), lambda d: {"W": X.T @ d / len(X), "b": d.mean(axis=0)}

    return classifier(vjp=vjp)


@fault("W b", "sample_weight_ignored")
def softmax_weights_ignored():
    weights = np.random.default_rng(3).uniform(0.2, 3, 40)
    return classifier(gradient=lambda params, X, y, sample_weight: Softmax.gradient(params, X, y)) | {
        "sample_weight": weights
    }


@fault("W b", "sample_weight_misused")
def softmax_weights_twice():
    weights = np.random.default_rng(4).uniform(0.2, 3, 40)

    def gradient(params, X, y, sample_weight):
        return Softmax.weighted_gradient(params, X, y, sample_weight**2)

    return classifier(gradient=gradient) | {"sample_weight": weights}


@fault("W", "output_derivative")
def softmax_rows_shuffled_against_labels():
    return classifier(gradient=lambda params, X, y: Softmax.gradient(params, X, np.roll(y, 1)))


@fault("W", "penalty")
def softmax_penalty_of_its_own():
    return classifier(gradient=altered(Softmax.gradient, W=lambda g, p: g + 0.01 * p["W"]))


@fault("W b", "rows_left_out")
def softmax_last_row_dropped_by_a_slice():
    def gradient(params, X, y):
        delta = Softmax.delta(params, X, y)[:-1]
        return {"W": X[:-1].T @ delta / len(X), "b": delta.sum(axis=0) / len(X)}

    return classifier(gradient=gradient)


@fault("W b", "rows_left_out")
def softmax_fixed_number_of_rows():
    def gradient(params, X, y):
        delta = Softmax.delta(params, X, y)[:32]
        return {"W": X[:32].T @ delta / len(X), "b": delta.sum(axis=0) / len(X)}

    return classifier(gradient=gradient)


@fault("W", "gradient_not_finite")
def softmax_log_of_zero_in_a_row():
    def gradient(params, X, y):
        grads = Softmax.gradient(params, X, y)
        rows = np.where(X[:, 0] > np.quantile(Softmax.X[:, 0], 0.9), np.inf, 1.0)
        with np.errstate(all="ignore"):
            grads["W"] = grads["W"] + ((rows - rows)[:, None] * X).sum(axis=0)[:, None]
        return grads

    return classifier(gradient=gradient)


# One hidden layer.


@fault("W1 b1", "activation_derivative")
def hidden_activation_derivative_missing():
    class Model(Hidden):
        slope = staticmethod(lambda z, h: np.ones_like(h))

    return regressor(vjp=Model.vjp)


@fault("W1 b1", "activation_derivative")
def hidden_derivative_at_the_output():
    class Model(Hidden):
        slope = staticmethod(lambda z, h: 1 - np.tanh(h) ** 2)

    return regressor(gradient=Model.gradient)


@fault("W1 b1", "activation_derivative")
def hidden_derivative_of_input():
    class Model(Hidden):
        slope = staticmethod(lambda z, h: 1 - z * z)

    return regressor(loss_and_gradient=Model.loss_and_gradient)


@fault("W1 b1", "activation_derivative")
def sigmoid_derivative_of_tanh():
    class Model(Sigmoid):
        slope = staticmethod(lambda z, h: 1 - h * h)

    return regressor(Sigmoid, vjp=Model.vjp)


@fault("W1 b1", "unit_sign")
def relu_mask_missing():
    class Model(Relu):
        slope = staticmethod(lambda z, h: np.ones_like(h))

    return regressor(Relu, vjp=Model.vjp)


@fault("W1 b1", "unit_sign")
def relu_mask_turned_round():
    class Model(Relu):
        slope = staticmethod(lambda z, h: np.where(z > 0, 1.0, 0.1))

    return regressor(Relu, gradient=Model.gradient)


@fault("W1 b1", "unit_sign")
def leaky_slope_forgotten():
    class Model(Relu):
        activation = staticmethod(lambda z: np.where(z > 0, z, 0.2 * z))

    class Faulty(Model):
        slope = staticmethod(lambda z, h: (z > 0).astype(float))

    return regressor(Model, vjp=Faulty.vjp)


@fault("W1 b1 W2 b2", "factor")
def hidden_square_without_half():
    return regressor(gradient=lambda params, X, y: {k: 2 * g for k, g in Hidden.gradient(params, X, y).items()})


@fault("W1 b1 W2 b2", "sign")
def hidden_residual_turned_round():
    return regressor(gradient=lambda params, X, y: {k: -g for k, g in Hidden.gradient(params, X, y).items()})


@fault("W1 b1 W2 b2", "other_loss unexplained")  # b2 alone has a sign, which says too little
def hidden_gradient_of_absolute_error():
    def gradient(params, X, y):
        out, pullback = Hidden.vjp(params, X)
        return pullback(np.sign(out - y) / len(X))

    return regressor(gradient=gradient)


@fault("W1 b1 W2 b2", "class_left_out other_loss")
def hidden_gradient_of_a_clipped_error():
    def gradient(params, X, y):
        out, pullback = Hidden.vjp(params, X)
        return pullback(np.where(out > y, out - y, 0) / len(X))

    return regressor(gradient=gradient)


@fault("b1 W2", "blocks_swapped")
def hidden_blocks_swapped():
    def gradient(params, X, y):
        g = Hidden.gradient(params, X, y)
        return {**g, "b1": g["W2"], "W2": g["b1"]}

    return regressor(gradient=gradient)


@fault("W1 b1", "stale_parameters")
def hidden_old_output_weights():
    old = Hidden.params["W2"].copy()

    def gradient(params, X, y):
        z, h, out = Hidden.layers(params, X)
        d = (out - y) / len(X)
        back = np.outer(d, old) * (1 - h * h)
        return {"W1": X.T @ back, "b1": back.sum(axis=0), "W2": h.T @ d, "b2": float(d.sum())}

    return regressor(gradient=gradient)


@fault("W1 b1", "missing_factor block_ignored")
def hidden_output_weights_left_out():
    def change(params, X, y):
        z, h, out = Hidden.layers(params, X)
        d = (out - y) / len(X)
        back = np.outer(d, np.ones(6)) * (1 - h * h)
        return {"W1": X.T @ back, "b1": back.sum(axis=0), "W2": h.T @ d, "b2": float(d.sum())}

    return regressor(gradient=change)


@fault("W1 b1 W2 b2", "block_ignored")
def hidden_bias_left_out_of_the_gradient():
    def gradient(params, X, y):
        return Hidden.gradient({**params, "b2": 0.0}, X, y)

    return regressor(gradient=gradient)


@fault("W1 b1 W2 b2", "hidden_state")
def hidden_buffer_not_cleared():
    buffers = {k: np.zeros_like(v) for k, v in Hidden.params.items()}

    def gradient(params, X, y):
        for k, g in Hidden.gradient(params, X, y).items():
            buffers[k] = buffers[k] + g
        return dict(buffers)

    return regressor(gradient=gradient)


@fault("W1 b1 W2 b2", "hidden_state")
def hidden_activations_kept_from_the_last_forward():
    kept = {}

    def forward(params, X):
        kept["layers"] = Hidden.layers(params, X)
        return kept["layers"][2]

    def gradient(params, X, y):
        z, h, out = kept["layers"] if len(kept["layers"][0]) == len(X) else Hidden.layers(params, X)
        d = (out - y) / len(X)
        back = np.outer(d, params["W2"]) * (1 - h * h)
        return {"W1": X.T @ back, "b1": back.sum(axis=0), "W2": h.T @ d, "b2": float(d.sum())}

    return regressor(forward=forward, gradient=gradient)


@fault("W1 b1 W2 b2", "forward_vjp_disagree")
def hidden_forward_of_another_activation():
    return regressor(forward=Sigmoid.forward, vjp=Hidden.vjp)


@fault("W1 b1 W2 b2", "loss_disagrees")
def hidden_loss_disagrees_with_loss_and_gradient():
    def loss(params, X, y):
        return float(np.mean(np.abs(Hidden.forward(params, X) - y) ** 3))

    return regressor(loss_and_gradient=Hidden.loss_and_gradient, loss=loss)


@fault("X", "modified_in_place")
def hidden_centers_the_data_in_place():
    def gradient(params, X, y):
        X -= 0.1
        return Hidden.gradient(params, X + 0.1, y)

    return regressor(gradient=gradient)


@fault("W1", "transposed")
def square_hidden_transposed():
    params = {**Hidden.params, "W1": np.random.default_rng(5).normal(size=(6, 6))}
    X = np.random.default_rng(31).normal(size=(40, 6))
    gradient = altered(Hidden.gradient, W1=lambda g, p: g.T)
    estimator = AnalyticRegressor(Hidden.forward, gradient, params)
    return {"estimator": estimator, "X": X, "y": Hidden.y}


@fault("W1", "transposed")
def hidden_reshaped_in_fortran_order():
    return regressor(gradient=altered(Hidden.gradient, W1=lambda g, p: g.ravel().reshape(g.shape, order="F")))


@fault("W1 b1 W2 b2", "low_precision")
def hidden_half_precision_gradient():
    def gradient(params, X, y):
        return {k: np.asarray(g, np.float16).astype(float) for k, g in Hidden.gradient(params, X, y).items()}

    return regressor(gradient=gradient)


# NADE.


@fault("3", "cumulative_sum")
def nade_running_sum_forwards():
    def gradient(params, X):
        b, c, U, _ = params
        gb, gc, gU, gW = Nade.gradient(params, X)
        hidden, scores = zip(*Nade.steps(params, X), strict=True)
        delta = (expit(np.stack(scores)) - X.T) / len(X)
        gW, before = np.zeros_like(U), np.zeros((len(X), 4))
        for d in range(len(b)):
            gW[d] = X[:, d] @ before
            before = before + np.outer(delta[d], U[d]) * hidden[d] * (1 - hidden[d])
        return gb, gc, gU, gW

    return density(gradient=gradient)


@fault("0 1 2", "first_step")
def nade_first_hidden_layer_of_ones():
    def forward(params, X):
        scores = Nade.scores(params, X)
        scores[:, 0] = params[0][0] + params[2][0].sum()
        from scipy.special import log_expit

        return log_expit((2 * X - 1) * scores).sum(axis=1)

    return density(forward=forward, gradient=Nade.gradient)


@fault("0 1 2 3", "log_forgotten")
def nade_probabilities_added_up():
    def forward(params, X):
        return expit((2 * X - 1) * Nade.scores(params, X)).sum(axis=1)

    return density(forward=forward, gradient=Nade.gradient)


@fault("1 2 3", "first_step one_row")
def nade_loop_stops_before_the_first_pixel():
    return density(gradient=partial(_nade_from, start=1))


def _nade_from(params, X, start):
    gb, gc, gU, gW = Nade.gradient(params, X, start=start)
    return gb, gc, gU, gW


@fault("3", "shifted cumulative_sum one_row")
def nade_running_sum_includes_its_own_pixel():
    def gradient(params, X):
        gb, gc, gU, gW = Nade.gradient(params, X)
        return gb, gc, gU, np.roll(gW, 1, axis=0)

    return density(gradient=gradient)


@fault("2 3", "blocks_swapped")
def nade_matrices_in_the_wrong_order():
    def gradient(params, X):
        gb, gc, gU, gW = Nade.gradient(params, X)
        return gb, gc, gW, gU

    return density(gradient=gradient)


@fault("0", "reversed")
def nade_bias_backwards():
    def gradient(params, X):
        gb, gc, gU, gW = Nade.gradient(params, X)
        return gb[::-1].copy(), gc, gU, gW

    return density(gradient=gradient)


# Counts, with a loss of one's own.


def _poisson(change):
    def loss_and_gradient(params, X, y, sample_weight):
        loss, grads = Poisson.loss_and_gradient(params, X, y, sample_weight)
        return loss, change(grads, params, X, y, sample_weight)

    return loss_and_gradient


@fault("w b", "sample_weight_ignored")
def poisson_weights_ignored():
    weights = np.random.default_rng(5).uniform(0.2, 3, 40)

    def change(grads, params, X, y, sample_weight):
        return Poisson.loss_and_gradient(params, X, y, np.ones(len(X)))[1]

    return regressor(Poisson, weights, loss_and_gradient=_poisson(change))


@fault("w b", "class_left_out")
def poisson_zero_counts_skipped():
    def change(grads, params, X, y, sample_weight):
        return Poisson.loss_and_gradient(params, X, y, (y > 0).astype(float))[1]

    return regressor(Poisson, loss_and_gradient=_poisson(change))


@fault("w", "penalty")
def poisson_lasso_left_out_of_the_loss():
    def change(grads, params, X, y, sample_weight):
        return {**grads, "w": grads["w"] + 0.05 * np.sign(params["w"])}

    return regressor(Poisson, loss_and_gradient=_poisson(change))


@fault("w b", "other_loss")
def poisson_named_but_squared_error_meant():
    def gradient(params, X, y):
        s = X @ params["w"] + params["b"]
        return {"w": X.T @ (s - y) / len(X), "b": float(np.mean(s - y))}

    return regressor(Poisson, gradient=gradient, loss="poisson")


@fault("w b", "other_loss")
def poisson_meant_but_the_default_compared_with():
    def gradient(params, X, y):
        delta = (np.exp(X @ params["w"] + params["b"]) - y) / len(X)
        return {"w": X.T @ delta, "b": float(delta.sum())}

    return regressor(Poisson, gradient=gradient)


@fault("w b", "output_derivative other_loss")
def poisson_forgets_the_link():
    def gradient(params, X, y):
        mu = np.exp(X @ params["w"] + params["b"])
        delta = (mu - y) / mu / len(X)
        return {"w": X.T @ delta, "b": float(delta.sum())}

    return regressor(Poisson, gradient=gradient, loss="poisson")


# Survival, plain functions over a tuple.


def _survival(change):
    def gradient(params, X, y):
        return change(*Survival.gradient(params, X, y), params)

    return plain(gradient=gradient)


@fault("1", "parametrization")
def survival_shape_instead_of_its_logarithm():
    return _survival(lambda w, s, params: (w, s / np.exp(params[1])))


@fault("0", "sign")
def survival_sign_of_the_linear_part():
    return _survival(lambda w, s, params: (-w, s))


@fault("0 1", "stale_parameters constant_gradient")
def survival_gradient_at_parameters_in_a_closure():
    return plain(gradient=lambda params, X, y: Survival.gradient(Survival.params, X, y))


@fault("0 1", "rows_left_out")
def survival_every_other_row():
    def gradient(params, X, y):
        w, s = Survival.gradient(params, X[::2], y[::2])
        return w / 2, s / 2

    return plain(gradient=gradient)


@fault("0 1", "mean_not_sum")
def survival_divided_twice():
    def gradient(params, X, y):
        w, s = Survival.gradient(params, X, y)
        return w / len(X), s / len(X)

    return plain(gradient=gradient)


# Curves by Jacobian.


@fault("log_rate", "parametrization")
def curve_rate_instead_of_its_logarithm():
    def jacobian(params, X):
        J = Curve.jacobian(params, X)
        return {**J, "log_rate": J["log_rate"] / np.exp(params["log_rate"])}

    return regressor(Curve, jacobian=jacobian)


@fault("amplitude log_rate offset", "sign")
def curve_jacobian_of_the_residual():
    return regressor(Curve, jacobian=lambda params, X: {k: -J for k, J in Curve.jacobian(params, X).items()})


@fault("amplitude", "parametrization")
def curve_amplitude_in_logarithms():
    def jacobian(params, X):
        J = Curve.jacobian(params, X)
        return {**J, "amplitude": J["amplitude"] * params["amplitude"]}

    return regressor(Curve, jacobian=jacobian)


@fault("offset", "left_at_zero")
def curve_offset_left_at_zero():
    def jacobian(params, X):
        return {**Curve.jacobian(params, X), "offset": np.zeros(len(X))}

    return regressor(Curve, jacobian=jacobian)


@fault("W b", "output_left_out one_column one_entry")
def outputs_one_missing_in_the_jacobian():
    def jacobian(params, X):
        J = {k: np.array(v) for k, v in TwoOutputs.jacobian(params, X).items()}
        J["W"][:, 1] = 0
        J["b"][:, 1] = 0
        return J

    return regressor(TwoOutputs, jacobian=jacobian)


# A density, a recurrent net, scipy's functions.


@fault("log_scale", "parametrization")
def gaussian_scale_instead_of_its_logarithm():
    def gradient(params, X):
        g = Gaussian.gradient(params, X)
        return {**g, "log_scale": g["log_scale"] / np.exp(params["log_scale"])}

    return density(Gaussian, gradient=gradient)


@fault("log_scale", "constant_term")
def gaussian_normalizer_left_out():
    def gradient(params, X):
        g = Gaussian.gradient(params, X)
        return {**g, "log_scale": g["log_scale"] - 1}

    return density(Gaussian, gradient=gradient)


@fault("mean log_scale", "log_forgotten output_derivative")
def gaussian_density_without_logarithm():
    return density(Gaussian, forward=lambda params, X: np.exp(Gaussian.forward(params, X)), gradient=Gaussian.gradient)


@fault("mean log_scale", "sign")
def gaussian_gradient_of_the_log_likelihood():
    def gradient(params, X):
        return {k: -g for k, g in Gaussian.gradient(params, X).items()}

    return density(Gaussian, gradient=gradient)


@fault("Wx", "first_step")
def recurrent_first_step_missing():
    return regressor(Recurrent, vjp=partial(Recurrent.vjp, first=1))


@fault("params", "one_entry")
def scipy_one_entry_wrong():
    from scipy.optimize import rosen, rosen_der

    def gradient(x):
        out = rosen_der(x)
        out[2] *= 0.5
        return out

    return {"loss": rosen, "gradient": gradient, "params": np.array([0.5, 1.2, 0.8, 1.1, 0.9])}


@fault("params", "permuted")
def scipy_entries_in_another_order():
    from scipy.optimize import rosen, rosen_der

    order = [2, 0, 4, 1, 3]
    return {"loss": rosen, "gradient": lambda x: rosen_der(x)[order], "params": np.array([0.5, 1.2, 0.8, 1.1, 0.9])}


@fault("params", "some_entries one_entry")
def covariance_off_diagonal_counted_once():
    A = np.random.default_rng(40).normal(size=(4, 4))
    A = A @ A.T

    def loss(S):
        return 0.5 * float(np.sum((S @ A) * S))

    def gradient(S):
        G = S @ A
        return np.where(np.eye(4, dtype=bool), G, G / 2)

    return {"loss": loss, "gradient": gradient, "params": np.random.default_rng(41).normal(size=(4, 4))}


# More of each kind.


@fault("Wx Wh v", "other_loss class_left_out output_derivative")
def recurrent_gradient_of_huber():
    def gradient(params, X, y):
        out, pullback = Recurrent.vjp(params, X)
        return pullback(np.clip(out - y, -1, 1) / len(X))

    return regressor(Recurrent, gradient=gradient)


@fault("Wx Wh", "last_step through_block unexplained")
def recurrent_last_step_missing():
    def vjp(params, X):
        states = Recurrent.states(params, X)

        def pullback(d):
            short = Recurrent.vjp(params, X[:, :-1])[1](d)
            return {**short, "v": states[-1].T @ d}

        return states[-1] @ params["v"], pullback

    return regressor(Recurrent, vjp=vjp)


@fault("W1 W2", "permuted blocks_swapped transposed")
def hidden_units_in_another_order():
    order = [3, 1, 5, 0, 2, 4]
    return regressor(gradient=altered(Hidden.gradient, W1=lambda g, p: g[:, order], W2=lambda g, p: g[order]))


@fault("a b c", "blocks_swapped")
def keys_permuted():
    target = np.random.default_rng(50).normal(size=(3, 4))

    def loss(params):
        return float(sum(np.sum((params[k] - t) ** 4) for k, t in zip("abc", target, strict=True)))

    def gradient(params):
        right = {k: 4 * (params[k] - t) ** 3 for k, t in zip("abc", target, strict=True)}
        return {"a": right["b"], "b": right["c"], "c": right["a"]}

    return {"loss": loss, "gradient": gradient, "params": {k: np.full(4, 0.3) for k in "abc"}}


@fault("params", "parametrization")
def precision_instead_of_variance():
    samples = np.random.default_rng(51).normal(size=(30, 3))

    def loss(variance):
        return float(np.mean(np.sum(0.5 * np.log(variance) + samples**2 / (2 * variance), axis=1)))

    def gradient(variance):
        by_variance = 0.5 / variance - np.mean(samples**2, axis=0) / (2 * variance**2)
        return -by_variance * variance**2  # by the precision, 1/variance

    return {"loss": loss, "gradient": gradient, "params": np.array([0.5, 1.5, 2.0])}


@fault("params", "parametrization")
def variance_instead_of_standard_deviation():
    samples = np.random.default_rng(52).normal(size=(30, 3))

    def loss(scale):
        return float(np.mean(np.sum(np.log(scale) + samples**2 / (2 * scale**2), axis=1)))

    def gradient(scale):
        return (1 / scale - np.mean(samples**2, axis=0) / scale**3) / (2 * scale)

    return {"loss": loss, "gradient": gradient, "params": np.array([0.5, 1.5, 2.0])}


@fault("params", "gradient_not_finite")
def overflow_of_an_exponential():
    def loss(x):
        return float(np.sum(np.logaddexp(0, x)))

    def gradient(x):
        return np.exp(x) / (1 + np.exp(x))

    return {"loss": loss, "gradient": gradient, "params": np.array([1.0, 800.0, -2.0])}


@fault("W1 b1 W2 b2", "not_deterministic")
def hidden_dropout_in_the_gradient_alone():
    chance = np.random.default_rng(53)

    def gradient(params, X, y):
        out, pullback = Hidden.vjp(params, X)
        return pullback((out - y) / len(X) * (chance.random(len(X)) < 0.8) / 0.8)

    return regressor(gradient=gradient)


@fault("params", "modified_in_place")
def step_taken_in_the_gradient():
    def gradient(x):
        g = 2 * x
        x -= 0.1 * g
        return g

    return {"loss": lambda x: float(np.sum(x * x)), "gradient": gradient, "params": np.array([0.5, 1.5, 2.0])}


@fault("W", "one_column output_left_out")
def outputs_sign_of_one_column():
    def jacobian(params, X):
        J = TwoOutputs.jacobian(params, X)
        return {**J, "W": J["W"] * np.array([1, -1])}

    return regressor(TwoOutputs, jacobian=jacobian)


@fault("W1 b1 W2 b2", "low_precision")
def hidden_cast_to_half_inside():
    def gradient(params, X, y):
        out, pullback = Hidden.vjp(params, X)
        return pullback(((out - y) / len(X)).astype(np.float16).astype(float))

    return regressor(gradient=gradient)


@fault("0 1 2 3", "sign")
def nade_gradient_of_the_log_likelihood():
    return density(gradient=lambda params, X: tuple(-g for g in Nade.gradient(params, X)))


@fault("1 3", "activation_derivative unit_sign")
def nade_logistic_derivative_missing():
    return density(gradient=partial(_nade_slope))


def _nade_slope(params, X):
    return Nade.gradient(params, X, slope=np.ones_like)


@fault("w b", "output_derivative")
def poisson_target_left_out():
    def gradient(params, X, y):
        delta = np.exp(X @ params["w"] + params["b"]) / len(X)
        return {"w": X.T @ delta, "b": float(delta.sum())}

    return regressor(Poisson, gradient=gradient, loss="poisson")


@fault("0 1", "class_left_out")
def survival_censored_rows_skipped():
    def gradient(params, X, y):
        seen = y[:, 1] == 1
        w, s = Survival.gradient(params, X[seen], y[seen])
        return w * seen.mean(), s * seen.mean()

    return plain(gradient=gradient)


@fault("log_rate", "factor")
def curve_rate_in_decades():
    def jacobian(params, X):
        J = Curve.jacobian(params, X)
        return {**J, "log_rate": J["log_rate"] * np.log(10)}

    return regressor(Curve, jacobian=jacobian)


@fault("amplitude", "missing_term")
def curve_offset_in_the_amplitude():
    def jacobian(params, X):
        J = Curve.jacobian(params, X)
        return {**J, "amplitude": J["amplitude"] + params["offset"]}

    return regressor(Curve, jacobian=jacobian)
