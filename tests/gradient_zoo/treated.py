"""Right gradients that were treated afterwards, belong to other parameters or data, or come from faulty callables."""

import numpy as np
from scipy.special import expit, softmax

from .curves import Arrhenius, Decay, Growth, Kinetics, Plane, Spline, Wave, with_column
from .likelihoods import Boltzmann, Clicks, Counts, Couplings, Grades, Hazards, Mixture, Signs
from .nets import Codes, Deep, Digits, Labels, Memory, Radial, Ratings, Switch, mutated
from .patients import Gaussian, Hidden, Nade, Poisson, Softmax, TwoOutputs, data
from .registry import altered, classifier, density, fault, plain, regressor

draw = np.random.default_rng(120)


class Filter:
    """A recurrent filter read after each step with weights of its own: u (), v (), w (5,)."""

    X = data(n=24, p=5, seed=121)
    y = draw.normal(size=24)
    params = {"u": 0.8, "v": 0.6, "w": draw.normal(size=5)}

    @staticmethod
    def states(params, X):
        states = [np.zeros(len(X))]
        for t in range(X.shape[1]):
            states.append(np.tanh(params["u"] * X[:, t] + params["v"] * states[-1]))
        return states

    @classmethod
    def forward(cls, params, X):
        return np.stack(cls.states(params, X)[1:], axis=1) @ params["w"]

    @classmethod
    def vjp(cls, params, X, last=5, through=1.0):
        states = cls.states(params, X)

        def pullback(d):
            later, u, v = np.zeros(len(X)), 0.0, 0.0
            for t in reversed(range(last)):
                back = (d * params["w"][t] + later) * (1 - states[t + 1] ** 2)
                u, v, later = u + float(back @ X[:, t]), v + float(back @ states[t]), through * back * params["v"]
            return {"u": u, "v": v, "w": np.stack(states[1:], axis=1).T @ d}

        return cls.forward(params, X), pullback


# Treated afterwards.


@fault("W", "clipped")
def boltzmann_clipped():
    def gradient(params, X):
        g = Boltzmann.gradient(params, X)
        return {**g, "W": np.clip(g["W"], -0.05, 0.05)}

    return density(Boltzmann, gradient=gradient)


@fault("w", "clipped")
def hazards_clipped():
    return plain(Hazards, gradient=lambda params, X, y: {"w": np.clip(Hazards.gradient(params, X, y)["w"], -4, 4)})


@fault("W1 b1 W2 b2", "rescaled")
def digits_clipped_by_the_norm():
    def gradient(params, X, y):
        g = Digits.gradient(params, X, y)
        norm = np.sqrt(sum(np.sum(v**2) for v in g.values()))
        return {k: v * 0.1 / norm for k, v in g.items()}

    return classifier(Digits, gradient=gradient)


@fault("w", "rounded", says="2 decimals")
def hazards_rounded_to_two_decimals():
    return plain(Hazards, gradient=lambda params, X, y: {"w": np.round(Hazards.gradient(params, X, y)["w"], 2)})


@fault("W1 W2", "rounded", says="3 decimals")
def hidden_rounded_to_three_decimals():
    return regressor(gradient=altered(Hidden.gradient, W1=lambda g, p: np.round(g, 3), W2=lambda g, p: np.round(g, 3)))


@fault("W b", "rounded", says="4 decimals")
def softmax_rounded_to_four_decimals():
    return classifier(
        gradient=lambda params, X, y: {k: np.round(g, 4) for k, g in Softmax.gradient(params, X, y).items()}
    )


@fault("W b", "rounded", says="1 decimal")
def labels_rounded_to_one_decimal():
    def gradient(params, X, y, sample_weight):
        return {k: np.round(g, 1) for k, g in Labels.gradient(params, X, y, sample_weight).items()}

    return classifier(Labels, Labels.sample_weight, gradient=gradient)


@fault("W", "projected")
def softmax_centered_over_classes_and_features():
    return classifier(gradient=altered(Softmax.gradient, W=lambda g, p: g - g.mean(axis=0)))


@fault("w", "projected")
def plane_averaged_over_features():
    return with_column(Plane, w=lambda p, X: np.repeat(X.mean(axis=1, keepdims=True), 3, axis=1))


@fault("W1", "slice_factors", says="axis 0")
def hidden_features_scaled():
    scale = np.array([[1.0], [2], [0.5], [4], [3]])
    return regressor(gradient=altered(Hidden.gradient, W1=lambda g, p: g * scale))


@fault("W", "slice_factors output_left_out")
def labels_scaled_by_label():
    return classifier(
        Labels, Labels.sample_weight, vjp=mutated(Labels.vjp, lambda g, p, X: {**g, "W": g["W"] * [1, 2, 3]})
    )


# Another model, other parameters, other data.


@fault("b", "not_in_loss")
def softmax_bias_not_in_forward():
    def gradient(params, X, y):
        return {**Softmax.gradient({**params, "b": 0.0}, X, y), "b": Softmax.delta(params, X, y).mean(axis=0)}

    return classifier(forward=lambda params, X: X @ params["W"], gradient=gradient)


@fault("offset", "not_in_loss")
def spline_offset_not_in_forward():
    return regressor(
        Spline,
        Spline.sample_weight,
        forward=lambda params, X: Spline.basis(X) @ params["coef"],
        jacobian=Spline.jacobian,
    )


@fault("w b log_alpha", "stale_parameters constant_gradient")
def counts_parameters_of_a_closure():
    return plain(Counts, gradient=lambda params, X, y: Counts.gradient(Counts.params, X, y))


@fault("A B a b", "activation_derivative stale_parameters")
def deep_old_output_weights():
    old = Deep.params["C"].copy()

    def vjp(params, X):
        out, pullback = Deep.vjp(params, X)
        return out, lambda d: {**Deep.vjp({**params, "C": old}, X)[1](d), "C": pullback(d)["C"]}

    return regressor(Deep, vjp=vjp)


@fault("w b", "constant_gradient stale_parameters")
def clicks_gradient_at_zero():
    def gradient(params, X, y, sample_weight):
        return Clicks.gradient({"w": np.zeros(4), "b": 0.0}, X, y, sample_weight)

    return plain(Clicks, gradient=gradient, sample_weight=Clicks.sample_weight)


@fault("w b", "block_ignored", says="b")
def signs_bias_left_out():
    return plain(Signs, gradient=lambda params, X, y: Signs.gradient({**params, "b": 0.0}, X, y))


@fault("J h", "block_ignored", says="h")
def couplings_fields_left_out():
    return plain(Couplings, gradient=lambda params, X: Couplings.gradient({**params, "h": np.zeros(4)}, X))


@fault("A a B b C c", "other_inputs", says="centered")
def deep_centered_in_the_gradient():
    def vjp(params, X):
        return Deep.forward(params, X), Deep.vjp(params, X - X.mean(axis=0))[1]

    def gradient(params, X, y):
        out, pullback = Deep.vjp(params, X - X.mean(axis=0))
        return pullback((out - y) / len(X))

    return regressor(Deep, gradient=gradient)


@fault("w log_scale", "other_inputs", says="standardized")
def tail_standardized_in_the_loss_alone():
    def loss(params, X, y):
        z = (y - (X - X.mean(axis=0)) / X.std(axis=0) @ params["w"]) / np.exp(params["log_scale"])
        return float(np.mean(0.5 * z * z) + params["log_scale"])

    def gradient(params, X, y):
        scale = np.exp(params["log_scale"])
        z = (y - X @ params["w"]) / scale
        return {"w": -X.T @ z / scale / len(X), "log_scale": 1 - float(np.mean(z * z))}

    return {
        "loss": loss,
        "gradient": gradient,
        "params": {"w": np.array([0.5, -0.3, 0.8]), "log_scale": 0.2},
        "X": data(n=40, p=3, seed=122),
        "y": np.random.default_rng(123).normal(size=40),
    }


@fault("w", "feature_scaling other_inputs slice_factors")
def signs_features_scaled_in_the_gradient():
    shift, scale = np.array([0.2, -0.1, 0.3, 0.1]), np.array([2.0, 0.5, 1.5, 3.0])

    def gradient(params, X, y):
        d = -y * expit(-y * (X @ params["w"] + params["b"])) / len(X)
        return {"w": ((X - shift) / scale).T @ d, "b": float(d.sum())}

    return plain(Signs, gradient=gradient)


@fault("w", "feature_scaling")
def poisson_features_shifted_in_the_gradient():
    def loss_and_gradient(params, X, y, sample_weight):
        loss, g = Poisson.loss_and_gradient(params, X, y, sample_weight)
        delta = sample_weight * (np.exp(Poisson.forward(params, X)) - y) / len(X)
        return loss, {**g, "w": ((X - 0.3) * 2).T @ delta}

    return regressor(Poisson, loss_and_gradient=loss_and_gradient)


@fault("w b", "other_targets", says="sample")
def clicks_labels_one_on():
    def gradient(params, X, y, sample_weight):
        return Clicks.gradient(params, X, np.roll(y, 1), sample_weight)

    return plain(Clicks, gradient=gradient, sample_weight=Clicks.sample_weight)


@fault("w", "other_targets output_derivative", says="broadcast")
def slope_column_of_a_frame_broadcast():
    """y comes as (n, 1), and the gradient subtracts it from (n,)."""
    X = np.random.default_rng(124).normal(size=(30, 1))
    y = 2 * X + 0.3 + 0.1 * np.random.default_rng(125).normal(size=(30, 1))

    def loss(params, X, y):
        return 0.5 * float(np.mean((params["w"] * X + params["b"] - y) ** 2))

    def gradient(params, X, y):
        residual = params["w"] * X[:, 0] + params["b"] - y
        return {"w": float(np.mean(residual * X[:, 0])), "b": float(np.mean(residual))}

    return {"loss": loss, "gradient": gradient, "params": {"w": 0.7, "b": 0.1}, "X": X, "y": y}


# Sums that fit by chance.


@fault("b1", "wrong_axis")
def digits_hidden_bias_summed_over_units():
    def gradient(params, X, y):
        z, h, out = Digits.layers(params, X)
        back = (softmax(out, axis=1) - np.eye(4)[y]) / len(X) @ params["W2"].T * (1 - h * h)
        return {**Digits.gradient(params, X, y), "b1": back.sum(axis=1)}

    return classifier(Digits, gradient=gradient) | {"X": Digits.X[:6], "y": np.array([0, 1, 2, 3, 0, 1])}


@fault("b", "wrong_axis")
def outputs_bias_summed_over_outputs():
    def vjp(params, X):
        return TwoOutputs.forward(params, X), lambda d: {"W": X.T @ d, "b": d.sum(axis=1)}

    params = {"W": np.random.default_rng(126).normal(size=(5, 4)), "b": np.arange(4.0)}
    from sk_analytic import AnalyticRegressor

    estimator = AnalyticRegressor(TwoOutputs.forward, vjp=vjp, init=params)
    return {"estimator": estimator, "X": TwoOutputs.X[:4], "y": np.random.default_rng(127).normal(size=(4, 4))}


@fault("W", "wrong_axis")
def softmax_features_not_transposed():
    def gradient(params, X, y):
        delta = Softmax.delta(params, X, y) / len(X)
        return {"W": X @ delta, "b": delta.sum(axis=0)}

    return classifier(gradient=gradient) | {"X": Softmax.X[:5], "y": np.array([0, 1, 2, 1, 0])}


# Steps of a recursion.


@fault("u v", "last_step")
def filter_loop_stops_before_the_last_step():
    return regressor(Filter, vjp=lambda params, X: Filter.vjp(params, X, last=4))


@fault("1 3 2 0", "last_step one_row one_entry")
def nade_loop_stops_before_the_last_pixel():
    def gradient(params, X):
        b, c, U, W = params
        gb, gc, gU, gW = Nade.gradient((b, c, np.where(np.arange(7)[:, None] < 6, U, 0.0), W), X)
        right = Nade.gradient(params, X)
        gU, gb = right[2].copy(), right[0].copy()
        gU[-1], gb[-1] = 0, 0
        short = _short(params, X)
        return gb, short[1], gU, short[3]

    return density(gradient=gradient)


def _short(params, X):
    """The gradient of all pixels but the last."""
    b, c, U, W = params
    hidden, scores = zip(*Nade.steps(params, X), strict=True)
    delta = (expit(np.stack(scores)) - X.T) / len(X)
    gW, later = np.zeros_like(U), np.zeros((len(X), len(c)))
    for d in reversed(range(6)):
        gW[d] = X[:, d] @ later
        later = later + np.outer(delta[d], U[d]) * hidden[d] * (1 - hidden[d])
    return None, later.sum(axis=0), None, gW


@fault("u v", "through_block", says="v")
def filter_no_gradient_through_time():
    return regressor(Filter, vjp=lambda params, X: Filter.vjp(params, X, through=0.0))


# One column; a factor of each sample.


@fault("W1", "one_column")
def switch_one_unit_forgotten():
    return classifier(Switch, vjp=mutated(Switch.vjp, lambda g, p, X: {**g, "W1": g["W1"] * [1, 1, 0, 1, 1]}))


@fault("U", "one_column")
def ratings_one_factor_doubled():
    return regressor(Ratings, vjp=mutated(Ratings.vjp, lambda g, p, X: {**g, "U": g["U"] * [1, 1, 2]}))


@fault("centers", "one_column")
def radial_second_coordinate_forgotten():
    return regressor(Radial, vjp=mutated(Radial.vjp, lambda g, p, X: {**g, "centers": g["centers"] * [1, 0]}))


@fault("w cuts", "sample_factor unexplained")
def grades_probability_not_divided_by():
    def gradient(params, X, y):
        upper, lower = Grades.sides(params, X, y)
        up, low = upper * (1 - upper), lower * (1 - lower)
        cuts = np.zeros(5)
        np.add.at(cuts, y + 1, -up)
        np.add.at(cuts, y, low)
        return {"w": X.T @ (up - low) / len(X), "cuts": cuts[1:4] / len(X)}

    return plain(Grades, gradient=gradient)


@fault("mean log_scale", "sample_factor missing_factor some_samples")
def gaussian_weighted_by_its_own_density():
    def gradient(params, X):
        weight = np.exp(Gaussian.forward(params, X)) ** 0.3
        z = (X - params["mean"]) / np.exp(params["log_scale"])
        return {
            "mean": -(weight[:, None] * z).mean(axis=0) / np.exp(params["log_scale"]),
            "log_scale": (weight[:, None] * (1 - z * z)).mean(axis=0),
        }

    return density(Gaussian, gradient=gradient)


# Callables.


@fault("W b", "hidden_state")
def labels_buffer_not_cleared():
    buffers = {"W": np.zeros((4, 3)), "b": np.zeros(3)}

    def gradient(params, X, y, sample_weight):
        for k, g in Labels.gradient(params, X, y, sample_weight).items():
            buffers[k] += g
        return {k: b.copy() for k, b in buffers.items()}

    return classifier(Labels, Labels.sample_weight, gradient=gradient)


@fault("W b", "loss_disagrees")
def poissons_loss_of_another_model():
    W, b = np.random.default_rng(128).normal(size=(5, 2)) * 0.3, np.zeros(2)

    def loss(params, X, y):
        return float(np.mean(np.sum(np.exp(X @ params["W"] + params["b"]) - y, axis=1)))

    def loss_and_gradient(params, X, y):
        s = X @ params["W"] + params["b"]
        d = (np.exp(s) - y) / len(X)
        return float(np.mean(np.sum(np.exp(s) - y * s, axis=1))), {"W": X.T @ d, "b": d.sum(axis=0)}

    from sk_analytic import AnalyticRegressor

    estimator = AnalyticRegressor(
        TwoOutputs.forward, loss=loss, loss_and_gradient=loss_and_gradient, init={"W": W, "b": b}
    )
    return {"estimator": estimator, "X": Poisson.X, "y": np.random.default_rng(129).poisson(1.5, (40, 2)).astype(float)}


@fault("Wx Wh V", "forward_vjp_disagree")
def memory_forward_reads_the_last_step_alone():
    return regressor(Memory, forward=lambda params, X: Memory.states(params, X)[-1] @ params["V"], vjp=Memory.vjp)


@fault("E D", "low_precision")
def codes_cast_to_half():
    def gradient(params, X):
        return {k: g.astype(np.float16).astype(float) for k, g in Codes.gradient(params, X).items()}

    return plain(Codes, gradient=gradient)


@fault("w cuts", "not_deterministic")
def grades_on_a_random_half():
    chance = np.random.default_rng(130)

    def gradient(params, X, y):
        some = chance.random(len(X)) < 0.5
        return Grades.gradient(params, X[some], y[some])

    return plain(Grades, gradient=gradient)


@fault("y", "modified_in_place")
def signs_writes_to_the_labels():
    def gradient(params, X, y):
        y *= -1
        return Signs.gradient(params, X, -y)

    return plain(Signs, gradient=gradient)


@fault("a", "gradient_not_finite")
def decay_divides_by_zero():
    def jacobian(params, X):
        J = Decay.jacobian(params, X)
        with np.errstate(all="ignore"):
            return {**J, "a": J["a"] + (X[:, 0] * 0) / (X[:, 0] - X[3, 0])}

    return regressor(Decay, jacobian=jacobian)


@fault("phase", "some_samples", says="X[:, 0]")
def wave_wrong_after_a_time():
    return with_column(Wave, phase=lambda p, X: Wave.jacobian(p, X)["phase"] * np.where(X[:, 0] > 2, -1, 1))


@fault("log_scales", "sum_not_mean")
def mixture_scales_summed():
    def gradient(params, X):
        g = Mixture.gradient(params, X)
        return {**g, "log_scales": g["log_scales"] * len(X)}

    return density(Mixture, gradient=gradient)


@fault("A m E", "other_loss")
def arrhenius_gradient_of_absolute_error():
    def gradient(params, X, y):
        d = np.sign(Arrhenius.forward(params, X) - y) / len(X)
        return {k: float(J @ d) for k, J in Arrhenius.jacobian(params, X).items()}

    return regressor(Arrhenius, gradient=gradient)


@fault("L k x0", "sum_not_mean")
def growth_summed_residuals():
    def gradient(params, X, y):
        d = Growth.forward(params, X) - y
        return {k: float(J @ d) for k, J in Growth.jacobian(params, X).items()}

    return regressor(Growth, gradient=gradient)


@fault("dose k1 k2", "outputs_swapped")
def kinetics_outputs_in_the_other_order():
    def jacobian(params, X):
        return {k: J[:, ::-1] for k, J in Kinetics.jacobian(params, X).items()}

    return regressor(Kinetics, Kinetics.sample_weight, jacobian=jacobian)


@fault("A a B b C c", "outputs_swapped")
def deep_outputs_in_the_other_order():
    def vjp(params, X):
        out, pullback = Deep.vjp(params, X)
        return out, lambda d: pullback(d[:, ::-1])

    return regressor(Deep, vjp=vjp)
