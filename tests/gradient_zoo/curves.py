"""Curves of scientists by their Jacobians, and the slips of deriving them: a column of X, a parameter, a power."""

import numpy as np

from .registry import fault, regressor

draw = np.random.default_rng(60)


def noisy(curve, X, params, seed=0):
    """Observations of a curve beside the parameters from which the check starts."""
    clean = curve(params, X)
    return clean + 0.1 * np.random.default_rng(seed).normal(size=clean.shape)


def with_column(curve, **columns):
    """Arguments for a curve some of whose Jacobian's columns are ``columns[block](params, X)``."""

    def jacobian(params, X):
        return {**curve.jacobian(params, X), **{block: column(params, X) for block, column in columns.items()}}

    return regressor(curve, getattr(curve, "sample_weight", None), jacobian=jacobian)


class Enzyme:
    """Michaelis and Menten: v = vmax x / (k + x)."""

    X = draw.uniform(0.2, 5, size=(30, 1))
    params = {"vmax": 2.0, "k": 0.7}

    @staticmethod
    def forward(params, X):
        return params["vmax"] * X[:, 0] / (params["k"] + X[:, 0])

    @staticmethod
    def jacobian(params, X):
        x, vmax, k = X[:, 0], params["vmax"], params["k"]
        return {"vmax": x / (k + x), "k": -vmax * x / (k + x) ** 2}


class Peak:
    """A weighted Gaussian peak on a base line."""

    X = np.linspace(-2, 3, 40)[:, None]
    params = {"height": 1.8, "center": 0.4, "width": 0.8, "base": 0.3}
    sample_weight = draw.uniform(0.3, 2, 40)

    @staticmethod
    def bell(params, X):
        z = (X[:, 0] - params["center"]) / params["width"]
        return z, np.exp(-0.5 * z * z)

    @classmethod
    def forward(cls, params, X):
        return params["height"] * cls.bell(params, X)[1] + params["base"]

    @classmethod
    def jacobian(cls, params, X):
        (z, bell), h, s = cls.bell(params, X), params["height"], params["width"]
        return {"height": bell, "center": h * bell * z / s, "width": h * bell * z * z / s, "base": np.ones(len(X))}


class Power:
    """A power law: a x ** b."""

    X = draw.uniform(0.3, 4, size=(30, 1))
    params = {"a": 1.3, "b": 0.6}

    @staticmethod
    def forward(params, X):
        return params["a"] * X[:, 0] ** params["b"]

    @staticmethod
    def jacobian(params, X):
        x = X[:, 0]
        power = x ** params["b"]
        return {"a": power, "b": params["a"] * power * np.log(x)}


class Decay:
    """Exponential decay with a plain rate: a exp(-k x)."""

    X = draw.uniform(0.1, 3, size=(30, 1))
    params = {"a": 1.7, "k": 0.6}

    @staticmethod
    def forward(params, X):
        return params["a"] * np.exp(-params["k"] * X[:, 0])

    @staticmethod
    def jacobian(params, X):
        e = np.exp(-params["k"] * X[:, 0])
        return {"a": e, "k": -params["a"] * X[:, 0] * e}


class Growth:
    """Logistic growth: L / (1 + exp(-k (x - x0)))."""

    X = np.linspace(-3, 4, 35)[:, None]
    params = {"L": 2.2, "k": 1.1, "x0": 0.5}

    @staticmethod
    def share(params, X):
        return 1 / (1 + np.exp(-params["k"] * (X[:, 0] - params["x0"])))

    @classmethod
    def forward(cls, params, X):
        return params["L"] * cls.share(params, X)

    @classmethod
    def jacobian(cls, params, X):
        s, L, k, x0 = cls.share(params, X), *params.values()
        return {"L": s, "k": L * s * (1 - s) * (X[:, 0] - x0), "x0": -L * k * s * (1 - s)}


class Wave:
    """A damped oscillation: A exp(-g t) cos(w t + phase)."""

    X = np.linspace(0.1, 4, 40)[:, None]
    params = {"A": 1.4, "g": 0.3, "w": 2.1, "phase": 0.4}

    @staticmethod
    def parts(params, X):
        t = X[:, 0]
        return t, np.exp(-params["g"] * t), params["w"] * t + params["phase"]

    @classmethod
    def forward(cls, params, X):
        t, damp, angle = cls.parts(params, X)
        return params["A"] * damp * np.cos(angle)

    @classmethod
    def jacobian(cls, params, X):
        (t, damp, angle), A = cls.parts(params, X), params["A"]
        return {
            "A": damp * np.cos(angle),
            "g": -A * t * damp * np.cos(angle),
            "w": -A * t * damp * np.sin(angle),
            "phase": -A * damp * np.sin(angle),
        }


class Kinetics:
    """Two substances in sequence, A to B to C: two outputs, weighted."""

    X = np.linspace(0.1, 4, 30)[:, None]
    params = {"dose": 1.5, "k1": 1.2, "k2": 0.5}
    sample_weight = draw.uniform(0.5, 2, 30)

    @staticmethod
    def forward(params, X):
        dose, k1, k2 = params["dose"], params["k1"], params["k2"]
        e1, e2 = np.exp(-k1 * X[:, 0]), np.exp(-k2 * X[:, 0])
        return np.column_stack([dose * e1, dose * k1 / (k2 - k1) * (e1 - e2)])

    @staticmethod
    def jacobian(params, X):
        t, dose, k1, k2 = X[:, 0], params["dose"], params["k1"], params["k2"]
        e1, e2, gap = np.exp(-k1 * t), np.exp(-k2 * t), k2 - k1
        return {
            "dose": np.column_stack([e1, k1 / gap * (e1 - e2)]),
            "k1": dose * np.column_stack([-t * e1, k2 / gap**2 * (e1 - e2) - k1 / gap * t * e1]),
            "k2": dose * np.column_stack([0 * t, -k1 / gap**2 * (e1 - e2) + k1 / gap * t * e2]),
        }


class Arrhenius:
    """A rate by temperature and concentration: A c ** m exp(-E / T)."""

    X = np.column_stack([draw.uniform(0.8, 2, 30), draw.uniform(0.3, 2, 30)])
    params = {"A": 2.5, "m": 0.8, "E": 1.1}

    @staticmethod
    def forward(params, X):
        return params["A"] * X[:, 1] ** params["m"] * np.exp(-params["E"] / X[:, 0])

    @classmethod
    def jacobian(cls, params, X):
        f = cls.forward(params, X)
        return {"A": f / params["A"], "m": f * np.log(X[:, 1]), "E": -f / X[:, 0]}


class Exponentials:
    """A sum of three exponentials: amplitudes (3,), rates (3,)."""

    X = np.linspace(0.05, 4, 40)[:, None]
    params = {"amplitudes": np.array([1.0, 0.6, 1.4]), "rates": np.array([0.3, 1.0, 2.5])}

    @staticmethod
    def forward(params, X):
        return np.exp(-X * params["rates"]) @ params["amplitudes"]

    @staticmethod
    def jacobian(params, X):
        e = np.exp(-X * params["rates"])
        return {"amplitudes": e, "rates": -X * e * params["amplitudes"]}


class Spline:
    """A truncated power basis, three outputs, weighted: coef (4, 3), offset (3,)."""

    X = draw.uniform(-1, 1, size=(30, 1))
    params = {"coef": draw.normal(size=(4, 3)), "offset": np.array([0.3, -0.2, 0.5])}
    sample_weight = draw.uniform(0.3, 2, 30)

    @staticmethod
    def basis(X):
        x = X[:, 0]
        return np.column_stack([x, x * x, x**3, np.maximum(x, 0) ** 3])

    @classmethod
    def forward(cls, params, X):
        return cls.basis(X) @ params["coef"] + params["offset"]

    @classmethod
    def jacobian(cls, params, X):
        eye = np.eye(3)
        return {
            "coef": np.einsum("nj,ko->nkjo", cls.basis(X), eye),
            "offset": np.broadcast_to(eye, (len(X), 3, 3)),
        }


class Plane:
    """A linear model of three features by its Jacobian: w (3,), b ()."""

    X = draw.normal(size=(30, 3)) * [1, 0.6, 1.7] + 0.2
    params = {"w": np.array([0.5, -1.2, 0.8]), "b": 0.3}

    @staticmethod
    def forward(params, X):
        return X @ params["w"] + params["b"]

    @staticmethod
    def jacobian(params, X):
        return {"w": X, "b": np.ones(len(X))}


CURVES = (Enzyme, Peak, Power, Decay, Growth, Wave, Kinetics, Arrhenius, Exponentials, Spline, Plane)
for _number, _curve in enumerate(CURVES):
    _curve.y = noisy(_curve.forward, _curve.X, _curve.params, _number)


# A factor is missing or superfluous.


@fault("k", "missing_factor", says="X[:, 0]")
def decay_without_x():
    return with_column(Decay, k=lambda p, X: -p["a"] * np.exp(-p["k"] * X[:, 0]))


@fault("k", "missing_factor", says="a")
def decay_without_its_amplitude():
    return with_column(Decay, k=lambda p, X: -X[:, 0] * np.exp(-p["k"] * X[:, 0]))


@fault("a", "parametrization missing_factor", says="a")
def decay_amplitude_left_in():
    return with_column(Decay, a=lambda p, X: p["a"] * np.exp(-p["k"] * X[:, 0]))


@fault("k", "sign")
def decay_sign_of_the_exponent():
    return with_column(Decay, k=lambda p, X: p["a"] * X[:, 0] * np.exp(-p["k"] * X[:, 0]))


@fault("k", "missing_factor")
def enzyme_denominator_not_squared():
    return with_column(Enzyme, k=lambda p, X: -p["vmax"] * X[:, 0] / (p["k"] + X[:, 0]))


@fault("k", "missing_factor", says="vmax")
def enzyme_without_vmax():
    return with_column(Enzyme, k=lambda p, X: -X[:, 0] / (p["k"] + X[:, 0]) ** 2)


@fault("vmax", "missing_factor", says="X[:, 0]")
def enzyme_numerator_forgotten():
    return with_column(Enzyme, vmax=lambda p, X: 1 / (p["k"] + X[:, 0]))


@fault("k", "sign")
def enzyme_sign_of_k():
    return with_column(Enzyme, k=lambda p, X: p["vmax"] * X[:, 0] / (p["k"] + X[:, 0]) ** 2)


@fault("vmax k", "blocks_swapped", says="swapped")
def enzyme_columns_swapped():
    def jacobian(params, X):
        J = Enzyme.jacobian(params, X)
        return {"vmax": J["k"], "k": J["vmax"]}

    return regressor(Enzyme, jacobian=jacobian)


@fault("width", "parametrization missing_factor", says="width")
def peak_width_not_cubed():
    return with_column(Peak, width=lambda p, X: Peak.jacobian(p, X)["width"] * p["width"])


@fault("center", "missing_factor", says="width")
def peak_center_divided_twice():
    return with_column(Peak, center=lambda p, X: Peak.jacobian(p, X)["center"] / p["width"])


@fault("center", "sign")
def peak_sign_of_the_center():
    return with_column(Peak, center=lambda p, X: -Peak.jacobian(p, X)["center"])


@fault("width", "factor")
def peak_width_halved():
    return with_column(Peak, width=lambda p, X: 0.5 * Peak.jacobian(p, X)["width"])


@fault("base", "left_at_zero")
def peak_base_forgotten():
    return with_column(Peak, base=lambda p, X: np.zeros(len(X)))


@fault("height", "parametrization missing_factor", says="height")
def peak_height_left_in():
    return with_column(Peak, height=lambda p, X: p["height"] * Peak.bell(p, X)[1])


@fault("b", "missing_factor missing_term")
def power_without_logarithm():
    return with_column(Power, b=lambda p, X: p["a"] * X[:, 0] ** p["b"])


@fault("b", "factor")
def power_logarithm_of_base_two():
    return with_column(Power, b=lambda p, X: Power.jacobian(p, X)["b"] / np.log(2))


@fault("b", "missing_factor", says="X[:, 0]")
def power_derived_by_x():
    return with_column(Power, b=lambda p, X: p["a"] * X[:, 0] ** (p["b"] - 1) * np.log(X[:, 0]))


@fault("x0", "missing_factor", says="k")
def growth_without_its_rate():
    return with_column(Growth, x0=lambda p, X: -p["L"] * Growth.share(p, X) * (1 - Growth.share(p, X)))


@fault("k", "missing_term missing_factor")
def growth_offset_forgotten():
    return with_column(Growth, k=lambda p, X: p["L"] * Growth.share(p, X) * (1 - Growth.share(p, X)) * X[:, 0])


@fault("k x0", "missing_factor")
def growth_derivative_of_the_share_missing():
    return with_column(
        Growth,
        k=lambda p, X: p["L"] * Growth.share(p, X) * (X[:, 0] - p["x0"]),
        x0=lambda p, X: -p["L"] * p["k"] * Growth.share(p, X),
    )


@fault("w", "missing_factor", says="X[:, 0]")
def wave_inner_derivative_missing():
    return with_column(Wave, w=lambda p, X: Wave.jacobian(p, X)["phase"])


@fault("w phase", "sign")
def wave_sign_of_the_sine():
    return with_column(Wave, w=lambda p, X: -Wave.jacobian(p, X)["w"], phase=lambda p, X: -Wave.jacobian(p, X)["phase"])


@fault("g", "missing_factor", says="X[:, 0]")
def wave_damping_without_time():
    return with_column(Wave, g=lambda p, X: -Wave.forward(p, X))


@fault("g", "missing_factor", says="A")
def wave_amplitude_squared():
    return with_column(Wave, g=lambda p, X: -p["A"] * X[:, 0] * Wave.forward(p, X))


@fault("k1", "output_left_out")
def kinetics_only_the_first_output():
    return with_column(Kinetics, k1=lambda p, X: Kinetics.jacobian(p, X)["k1"] * [1, 0])


@fault("k1", "output_left_out")
def kinetics_sign_in_one_output():
    return with_column(Kinetics, k1=lambda p, X: Kinetics.jacobian(p, X)["k1"] * [1, -1])


@fault("dose", "parametrization missing_factor", says="dose")
def kinetics_dose_left_in():
    return with_column(Kinetics, dose=Kinetics.forward)


@fault("k1", "missing_factor", says="dose")
def kinetics_without_the_dose():
    return with_column(Kinetics, k1=lambda p, X: Kinetics.jacobian(p, X)["k1"] / p["dose"])


@fault("E", "missing_factor", says="X[:, 0]")
def arrhenius_without_temperature():
    return with_column(Arrhenius, E=lambda p, X: -Arrhenius.forward(p, X))


@fault("E", "missing_factor", says="X[:, 0]")
def arrhenius_temperature_squared():
    return with_column(Arrhenius, E=lambda p, X: -Arrhenius.forward(p, X) / X[:, 0] ** 2)


@fault("E", "missing_factor", says="X[:, 0]")
def arrhenius_times_temperature():
    return with_column(Arrhenius, E=lambda p, X: -Arrhenius.forward(p, X) * X[:, 0])


@fault("E", "parametrization missing_factor", says="E")
def arrhenius_by_the_logarithm_of_E():
    return with_column(Arrhenius, E=lambda p, X: -Arrhenius.forward(p, X) * p["E"] / X[:, 0])


@fault("m", "missing_factor", says="X[:, 1]")
def arrhenius_derived_by_concentration():
    return with_column(Arrhenius, m=lambda p, X: Arrhenius.jacobian(p, X)["m"] / X[:, 1])


@fault("rates", "missing_factor")
def exponentials_without_amplitudes():
    return with_column(Exponentials, rates=lambda p, X: -X * np.exp(-X * p["rates"]))


@fault("rates", "missing_factor", says="X[:, 0]")
def exponentials_without_time():
    return with_column(Exponentials, rates=lambda p, X: -np.exp(-X * p["rates"]) * p["amplitudes"])


@fault("rates", "parametrization")
def exponentials_rates_by_their_logarithms():
    return with_column(Exponentials, rates=lambda p, X: -X * np.exp(-X * p["rates"]) * p["amplitudes"] * p["rates"])


@fault("amplitudes rates", "reversed")
def exponentials_in_the_opposite_order():
    def jacobian(params, X):
        return {k: J[:, ::-1] for k, J in Exponentials.jacobian(params, X).items()}

    return regressor(Exponentials, jacobian=jacobian)


@fault("rates", "one_entry")
def exponentials_one_rate_forgotten():
    return with_column(Exponentials, rates=lambda p, X: Exponentials.jacobian(p, X)["rates"] * [1, 0, 1])


@fault("coef", "one_row")
def spline_cube_derived_as_a_square():
    def coef(params, X):
        J = Spline.jacobian(params, X)["coef"].copy()
        J[:, :, 2] *= X[:, 0][:, None, None]
        return J

    return with_column(Spline, coef=coef)


@fault("coef offset", "output_left_out one_column one_entry")
def spline_last_output_forgotten():
    return with_column(
        Spline,
        coef=lambda p, X: Spline.jacobian(p, X)["coef"] * [1, 1, 0],
        offset=lambda p, X: Spline.jacobian(p, X)["offset"] * [1, 1, 0],
    )


@fault("coef offset", "sample_weight_misused missing_factor")
def spline_weights_once_more():
    weights = np.random.default_rng(61).uniform(0.3, 2, 30)

    def jacobian(params, X, weight):
        return {k: np.einsum("n,n...->n...", weight, J) for k, J in Spline.jacobian(params, X).items()}

    return regressor(Spline, weights, jacobian=jacobian) | {"weight": weights}


@fault("w", "some_samples", says="X[:, 0]")
def plane_mask_on_a_feature():
    return with_column(Plane, w=lambda p, X: X * (X[:, :1] >= 0))


@fault("w b", "some_samples", says="X[:, 1]")
def plane_mask_at_a_threshold():
    def jacobian(params, X):
        keep = 1 - 0.5 * (X[:, 1] > 0.6)
        return {"w": X * keep[:, None], "b": keep}

    return regressor(Plane, jacobian=jacobian)


@fault("w", "shifted permuted other_inputs")
def plane_features_one_place_on():
    return with_column(Plane, w=lambda p, X: np.roll(X, 1, axis=1))


@fault("w", "other_inputs")
def plane_centered_in_the_jacobian():
    return with_column(Plane, w=lambda p, X: X - X.mean(axis=0))


@fault("w", "slice_factors other_inputs feature_scaling")
def plane_scaled_by_constants():
    scale = np.array([2.0, 0.5, 3.0])
    return with_column(Plane, w=lambda p, X: X / scale)


@fault("b", "missing_term missing_factor")
def plane_intercept_takes_a_feature():
    return with_column(Plane, b=lambda p, X: X[:, 0])


@fault("b", "missing_term")
def plane_intercept_with_a_feature_added():
    return with_column(Plane, b=lambda p, X: 1 + 0.5 * X[:, 2])
