"""Likelihoods that people write for themselves, with weights and conventions of their own, and their slips."""

import numpy as np
from scipy.special import digamma, expit, gammaln, log_expit, logsumexp, softmax

from .patients import data
from .registry import altered, density, fault, plain, regressor

draw = np.random.default_rng(100)


class Counts:
    """Negative binomial counts, plain functions: w (4,), b (), log_alpha ()."""

    X = data(n=40, p=4, seed=101) * 0.5
    y = draw.negative_binomial(2, 0.4, 40).astype(float)
    params = {"w": draw.normal(size=4) * 0.4, "b": 0.5, "log_alpha": -0.3}

    @staticmethod
    def parts(params, X):
        return np.exp(X @ params["w"] + params["b"]), np.exp(-params["log_alpha"])

    @classmethod
    def loss(cls, params, X, y):
        mu, r = cls.parts(params, X)
        log_likelihood = gammaln(y + r) - gammaln(r) + r * np.log(r / (r + mu)) + y * np.log(mu / (r + mu))
        return -float(np.mean(log_likelihood))

    @classmethod
    def gradient(cls, params, X, y, with_digamma=True):
        mu, r = cls.parts(params, X)
        d = (mu - y) * r / (r + mu) / len(X)
        by_r = np.log(r / (r + mu)) + 1 - (r + y) / (r + mu)
        if with_digamma:
            by_r = by_r + digamma(y + r) - digamma(r)
        return {"w": X.T @ d, "b": float(d.sum()), "log_alpha": float(np.mean(by_r)) * r}


class Grades:
    """Ordinal regression of 4 grades: w (3,), cuts (3,)."""

    X = data(n=40, p=3, seed=102)
    y = draw.integers(0, 4, 40)
    params = {"w": draw.normal(size=3), "cuts": np.array([-1.0, 0.2, 1.3])}

    @staticmethod
    def sides(params, X, y):
        cuts = np.concatenate([[-np.inf], params["cuts"], [np.inf]])
        s = X @ params["w"]
        return expit(cuts[y + 1] - s), expit(cuts[y] - s)

    @classmethod
    def loss(cls, params, X, y):
        upper, lower = cls.sides(params, X, y)
        return -float(np.mean(np.log(upper - lower)))

    @classmethod
    def gradient(cls, params, X, y):
        upper, lower = cls.sides(params, X, y)
        up, low = upper * (1 - upper) / (upper - lower), lower * (1 - lower) / (upper - lower)
        cuts = np.zeros(5)
        np.add.at(cuts, y + 1, -up)
        np.add.at(cuts, y, low)
        return {"w": X.T @ (up - low) / len(X), "cuts": cuts[1:4] / len(X)}


class Mixture:
    """A mixture of three Gaussians: logits (3,), means (3, 2), log_scales (3,)."""

    X = np.concatenate([draw.normal(size=(15, 2)) + c for c in ([0, 0], [2, 1], [-1, 2])])
    y = None
    params = {
        "logits": np.array([0.2, -0.3, 0.1]),
        "means": draw.normal(size=(3, 2)),
        "log_scales": draw.normal(size=3) * 0.2,
    }

    @staticmethod
    def joint(params, X):
        square = np.sum((X[:, None] - params["means"]) ** 2, axis=2)
        scale = params["log_scales"]
        weights = params["logits"] - logsumexp(params["logits"])
        return square, weights - 2 * scale - 0.5 * square / np.exp(2 * scale)

    @classmethod
    def forward(cls, params, X):
        return logsumexp(cls.joint(params, X)[1], axis=1)

    @classmethod
    def gradient(cls, params, X, responsible=None):
        square, joint = cls.joint(params, X)
        r = softmax(joint, axis=1) if responsible is None else responsible(joint)
        variance = np.exp(2 * params["log_scales"])
        means = np.einsum("nk,nkp->kp", r, X[:, None] - params["means"]) / variance[:, None]
        return {
            "logits": softmax(params["logits"]) - r.mean(axis=0),
            "means": -means / len(X),
            "log_scales": -(r * (square / variance - 2)).mean(axis=0),
        }


class Boltzmann:
    """A restricted Boltzmann machine with an enumerated partition function: a (5,), b (3,), W (5, 3)."""

    X = draw.integers(0, 2, size=(30, 5)).astype(float)
    y = None
    params = {"a": draw.normal(size=5) * 0.5, "b": draw.normal(size=3) * 0.5, "W": draw.normal(size=(5, 3)) * 0.7}
    every = np.array(np.meshgrid(*[[0.0, 1.0]] * 5)).reshape(5, -1).T

    @staticmethod
    def free(params, X):
        return X @ params["a"] + np.logaddexp(0, X @ params["W"] + params["b"]).sum(axis=1)

    @classmethod
    def forward(cls, params, X):
        return cls.free(params, X) - logsumexp(cls.free(params, cls.every))

    @classmethod
    def gradient(cls, params, X, negative=1.0):
        def moments(V, weight):
            h = expit(V @ params["W"] + params["b"]) * weight[:, None]
            return {"a": weight @ V, "b": h.sum(axis=0), "W": V.T @ h}

        seen = moments(X, np.full(len(X), 1 / len(X)))
        model = moments(cls.every, softmax(cls.free(params, cls.every)))
        return {k: negative * model[k] - seen[k] for k in seen}


class Process:
    """The marginal likelihood of a Gaussian process, a total over all rows: log_length, log_noise, log_height."""

    X = np.sort(draw.uniform(0, 4, 16))[:, None]
    y = np.sin(2 * X[:, 0]) + 0.2 * draw.normal(size=16)
    params = {"log_length": -0.2, "log_noise": -1.0, "log_height": 0.3}

    @staticmethod
    def parts(params, X):
        square = (X - X.T) ** 2
        K = np.exp(2 * params["log_height"] - 0.5 * square / np.exp(2 * params["log_length"]))
        noise = np.exp(2 * params["log_noise"])
        return square, K, K + noise * np.eye(len(X)), noise

    @classmethod
    def loss(cls, params, X, y):
        C = cls.parts(params, X)[2]
        return 0.5 * float(y @ np.linalg.solve(C, y) + np.linalg.slogdet(C)[1])

    @classmethod
    def gradient(cls, params, X, y, trace=1.0):
        square, K, C, noise = cls.parts(params, X)
        inverse = np.linalg.inv(C)
        alpha = inverse @ y
        G = 0.5 * (trace * inverse - np.outer(alpha, alpha))
        return {
            "log_length": float(np.sum(G * K * square)) / np.exp(2 * params["log_length"]),
            "log_noise": 2 * noise * float(np.trace(G)),
            "log_height": 2 * float(np.sum(G * K)),
        }


class Clicks:
    """Logistic regression as most people write it, a mean by weight: w (4,), b ()."""

    X = data(n=40, p=4, seed=103)
    y = draw.integers(0, 2, 40).astype(float)
    params = {"w": draw.normal(size=4), "b": 0.2}
    sample_weight = draw.uniform(0.2, 3, 40)

    @staticmethod
    def loss(params, X, y, sample_weight):
        s = X @ params["w"] + params["b"]
        return float(np.average(np.logaddexp(0, s) - y * s, weights=sample_weight))

    @staticmethod
    def by_row(params, X, y):
        return expit(X @ params["w"] + params["b"]) - y

    @classmethod
    def gradient(cls, params, X, y, sample_weight):
        d = cls.by_row(params, X, y) * sample_weight / sample_weight.sum()
        return {"w": X.T @ d, "b": float(d.sum())}


class Signs:
    """Logistic regression on labels -1 and +1, plain functions: w (4,), b ()."""

    X = data(n=40, p=4, seed=104)
    y = draw.choice([-1.0, 1.0], 40)
    params = {"w": draw.normal(size=4), "b": 0.2}

    @staticmethod
    def loss(params, X, y):
        return -float(np.mean(log_expit(y * (X @ params["w"] + params["b"]))))

    @staticmethod
    def gradient(params, X, y):
        d = -y * expit(-y * (X @ params["w"] + params["b"])) / len(X)
        return {"w": X.T @ d, "b": float(d.sum())}


class Zeros:
    """Counts with too many zeros, weighted, the loss and gradient in one call: w (3,), b (), logit ()."""

    X = data(n=40, p=3, seed=105) * 0.5
    y = draw.poisson(1.2, 40) * draw.integers(0, 2, 40).astype(float)
    params = {"w": draw.normal(size=3) * 0.5, "b": 0.4, "logit": -0.5}
    sample_weight = draw.uniform(0.3, 2, 40)

    @staticmethod
    def forward(params, X):
        return X @ params["w"] + params["b"]

    @classmethod
    def loss_and_gradient(cls, params, X, y, sample_weight, sees=lambda w, y: w):
        s, zero = cls.forward(params, X), params["logit"]
        mu = np.exp(s)
        none = np.logaddexp(log_expit(zero), log_expit(-zero) - mu)
        some = log_expit(-zero) - mu + y * s - gammaln(y + 1)
        loss = -float(np.mean(sample_weight * np.where(y == 0, none, some)))
        p, w = expit(zero), sees(sample_weight, y) / len(X)
        at_zero = np.exp(log_expit(-zero) - mu - none)
        d = w * np.where(y == 0, mu * at_zero, mu - y)
        by_logit = -w * np.where(y == 0, p * (1 - p) * (1 - np.exp(-mu)) / np.exp(none), -p)
        return loss, {"w": X.T @ d, "b": float(d.sum()), "logit": float(by_logit.sum())}


class Student:
    """Regression with Student's errors, weighted by a mean: w (3,), log_scale (), log_nu ()."""

    X = data(n=40, p=3, seed=106)
    y = draw.standard_t(3, 40)
    params = {"w": draw.normal(size=3), "log_scale": 0.1, "log_nu": 1.2}
    sample_weight = draw.uniform(0.3, 2, 40)

    @staticmethod
    def parts(params, X, y):
        scale, nu = np.exp(params["log_scale"]), np.exp(params["log_nu"])
        z = (y - X @ params["w"]) / scale
        return z, scale, nu

    @classmethod
    def loss(cls, params, X, y, sample_weight):
        z, scale, nu = cls.parts(params, X, y)
        rows = 0.5 * (nu + 1) * np.log1p(z * z / nu) + np.log(scale) + 0.5 * np.log(nu) - gammaln((nu + 1) / 2)
        return float(sample_weight @ (rows + gammaln(nu / 2))) / float(sample_weight.sum())

    @classmethod
    def gradient(cls, params, X, y, sample_weight, halves=0.5):
        (z, scale, nu), share = cls.parts(params, X, y), sample_weight / sample_weight.sum()
        pull = (nu + 1) * z / (nu + z * z)
        by_nu = 0.5 * np.log1p(z * z / nu) - 0.5 * (nu + 1) * z * z / (nu * (nu + z * z)) + 0.5 / nu
        by_nu = by_nu - halves * digamma((nu + 1) / 2) + halves * digamma(nu / 2)
        return {
            "w": -X.T @ (share * pull) / scale,
            "log_scale": float(share @ (1 - pull * z)),
            "log_nu": float(share @ by_nu) * nu,
        }


class Hazards:
    """Cox's partial likelihood, which is no sum over rows: w (4,)."""

    X = data(n=30, p=4, seed=107)
    y = draw.exponential(1.0, 30)
    params = {"w": draw.normal(size=4) * 0.5}

    @staticmethod
    def loss(params, X, y):
        order = np.argsort(-y)
        s = (X @ params["w"])[order]
        return float(np.sum(np.logaddexp.accumulate(s) - s))

    @staticmethod
    def gradient(params, X, y, cumulative=np.cumsum):
        order = np.argsort(-y)
        X = X[order]
        e = np.exp(X @ params["w"])
        return {"w": np.sum(np.cumsum(e[:, None] * X, axis=0) / np.cumsum(e)[:, None] - X, axis=0)}


class Couplings:
    """The pseudolikelihood of an Ising model, a symmetric matrix and fields: J (4, 4), h (4,)."""

    X = draw.choice([-1.0, 1.0], size=(30, 4))
    y = None
    params = {"J": draw.normal(size=(4, 4)) * 0.4, "h": draw.normal(size=4) * 0.3}

    @staticmethod
    def loss(params, X):
        return -float(np.mean(log_expit(2 * X * (X @ params["J"] + params["h"])).sum(axis=1)))

    @staticmethod
    def gradient(params, X):
        d = -2 * X * expit(-2 * X * (X @ params["J"] + params["h"])) / len(X)
        return {"J": X.T @ d, "h": d.sum(axis=0)}


# Negative binomial counts.


@fault("log_alpha", "some_samples missing_term")
def counts_digamma_forgotten():
    return plain(Counts, gradient=lambda params, X, y: Counts.gradient(params, X, y, with_digamma=False))


@fault("log_alpha", "parametrization")
def counts_dispersion_instead_of_its_logarithm():
    return plain(Counts, gradient=altered(Counts.gradient, log_alpha=lambda g, p: g / np.exp(p["log_alpha"])))


@fault("log_alpha", "sign")
def counts_sign_of_the_dispersion():
    return plain(Counts, gradient=altered(Counts.gradient, log_alpha=lambda g, p: -g))


@fault("w b", "sample_factor")
def counts_gradient_of_poisson():
    def gradient(params, X, y):
        mu = Counts.parts(params, X)[0]
        d = (mu - y) / len(X)
        return {**Counts.gradient(params, X, y), "w": X.T @ d, "b": float(d.sum())}

    return plain(Counts, gradient=gradient)


@fault("w b log_alpha", "some_samples class_left_out rows_left_out", says="y")
def counts_zeros_skipped():
    def gradient(params, X, y):
        some = y > 0
        return {k: g * some.mean() for k, g in Counts.gradient(params, X[some], y[some]).items()}

    return plain(Counts, gradient=gradient)


@fault("w b log_alpha", "fixed_divisor", says="100")
def counts_divided_by_a_hundred():
    return plain(
        Counts, gradient=lambda params, X, y: {k: g * len(X) / 100 for k, g in Counts.gradient(params, X, y).items()}
    )


# Grades.


@fault("cuts", "sign")
def grades_sign_of_the_cuts():
    return plain(Grades, gradient=altered(Grades.gradient, cuts=lambda g, p: -g))


@fault("cuts", "cumulative_sum")
def grades_cuts_summed_up():
    return plain(Grades, gradient=altered(Grades.gradient, cuts=lambda g, p: np.cumsum(g)))


@fault("cuts", "shifted permuted")
def grades_cuts_one_off():
    return plain(Grades, gradient=altered(Grades.gradient, cuts=lambda g, p: np.roll(g, 1)))


@fault("w cuts", "class_left_out some_samples", says="y")
def grades_lowest_left_out():
    def gradient(params, X, y):
        some = y > 0
        return {k: g * some.mean() for k, g in Grades.gradient(params, X[some], y[some]).items()}

    return plain(Grades, gradient=gradient)


@fault("w cuts", "rows_left_out")
def grades_first_half_of_the_rows():
    def gradient(params, X, y):
        half = len(X) // 2
        return {k: g / 2 for k, g in Grades.gradient(params, X[:half], y[:half]).items()}

    return plain(Grades, gradient=gradient)


# A mixture.


@fault("logits", "data_independent_term")
def mixture_softmax_of_the_logits_forgotten():
    def gradient(params, X):
        g = Mixture.gradient(params, X)
        return {**g, "logits": g["logits"] - softmax(params["logits"])}

    return density(Mixture, gradient=gradient)


@fault("logits means log_scales", "unexplained")
def mixture_hard_assignments():
    def hard(joint):
        return np.eye(3)[joint.argmax(axis=1)]

    return density(Mixture, gradient=lambda params, X: Mixture.gradient(params, X, hard))


@fault("means", "missing_factor")
def mixture_means_divided_by_the_scale_once():
    def gradient(params, X):
        g = Mixture.gradient(params, X)
        return {**g, "means": g["means"] * np.exp(params["log_scales"])[:, None]}

    return density(Mixture, gradient=gradient)


@fault("means", "sign")
def mixture_sign_of_the_means():
    def gradient(params, X):
        g = Mixture.gradient(params, X)
        return {**g, "means": -g["means"]}

    return density(Mixture, gradient=gradient)


@fault("log_scales", "constant_term")
def mixture_normalizer_forgotten():
    def gradient(params, X):
        g = Mixture.gradient(params, X)
        return {**g, "log_scales": g["log_scales"] - 2 / 3}

    return density(Mixture, gradient=gradient)


@fault("means", "permuted shifted")
def mixture_components_in_another_order():
    def gradient(params, X):
        g = Mixture.gradient(params, X)
        return {**g, "means": g["means"][[2, 0, 1]]}

    return density(Mixture, gradient=gradient)


@fault("means", "projected")
def mixture_means_centered():
    def gradient(params, X):
        g = Mixture.gradient(params, X)
        return {**g, "means": g["means"] - g["means"].mean(axis=0)}

    return density(Mixture, gradient=gradient)


@fault("logits means log_scales", "log_forgotten output_derivative")
def mixture_logarithm_forgotten():
    return density(Mixture, forward=lambda params, X: np.exp(Mixture.forward(params, X)), gradient=Mixture.gradient)


# A restricted Boltzmann machine.


@fault("a b W", "sign")
def boltzmann_phases_swapped():
    return density(Boltzmann, gradient=lambda params, X: {k: -g for k, g in Boltzmann.gradient(params, X).items()})


@fault("a b W", "data_independent_term")
def boltzmann_negative_phase_forgotten():
    return density(Boltzmann, gradient=lambda params, X: Boltzmann.gradient(params, X, negative=0.0))


@fault("W", "one_column some_entries")
def boltzmann_last_unit_left_out():
    def gradient(params, X):
        g = Boltzmann.gradient(params, X)
        return {**g, "W": g["W"] * [1, 1, 0]}

    return density(Boltzmann, gradient=gradient)


@fault("a", "constant_gradient")
def boltzmann_mean_of_the_data_alone():
    def gradient(params, X):
        return {**Boltzmann.gradient(params, X), "a": 0.5 - X.mean(axis=0)}

    return density(Boltzmann, gradient=gradient)


# A Gaussian process.


@fault("log_length log_noise log_height", "unexplained missing_term")
def process_without_the_determinant():
    return plain(Process, gradient=lambda params, X, y: Process.gradient(params, X, y, trace=0.0))


@fault("log_noise", "factor")
def process_variance_instead_of_deviation():
    return plain(Process, gradient=altered(Process.gradient, log_noise=lambda g, p: g / 2))


@fault("log_length", "parametrization")
def process_length_instead_of_its_logarithm():
    return plain(Process, gradient=altered(Process.gradient, log_length=lambda g, p: g / np.exp(p["log_length"])))


@fault("log_length log_noise log_height", "sign")
def process_log_likelihood():
    return plain(Process, gradient=lambda params, X, y: {k: -g for k, g in Process.gradient(params, X, y).items()})


@fault("log_height", "left_at_zero")
def process_height_forgotten():
    return plain(Process, gradient=altered(Process.gradient, log_height=lambda g, p: 0.0 * g))


# Weights.


def _clicks(gradient, **given):
    return plain(Clicks, gradient=gradient, sample_weight=Clicks.sample_weight, **given)


@fault("w b", "sample_weight_ignored")
def clicks_plain_mean():
    def gradient(params, X, y, sample_weight):
        d = Clicks.by_row(params, X, y) / len(X)
        return {"w": X.T @ d, "b": float(d.sum())}

    return _clicks(gradient)


@fault("w b", "sample_weight_misused", says="number of samples")
def clicks_divided_by_the_number_of_rows():
    def gradient(params, X, y, sample_weight):
        d = Clicks.by_row(params, X, y) * sample_weight / len(X)
        return {"w": X.T @ d, "b": float(d.sum())}

    return _clicks(gradient)


@fault("w b", "sample_weight_misused", says="twice")
def clicks_weighted_twice():
    def gradient(params, X, y, sample_weight):
        return Clicks.gradient(params, X, y, sample_weight**2)

    return _clicks(gradient)


@fault("w b", "sample_weight_ignored", says="does not accept sample_weight")
def clicks_gradient_without_weights():
    def gradient(params, X, y):
        d = Clicks.by_row(params, X, y) / len(X)
        return {"w": X.T @ d, "b": float(d.sum())}

    return _clicks(gradient)


@fault("w b", "sample_weight_misused sum_not_mean", says="sum")
def clicks_weighted_sum():
    def gradient(params, X, y, sample_weight):
        d = Clicks.by_row(params, X, y) * sample_weight
        return {"w": X.T @ d, "b": float(d.sum())}

    return _clicks(gradient)


@fault("w", "sample_weight_ignored")
def clicks_weights_in_the_bias_alone():
    def gradient(params, X, y, sample_weight):
        return {**Clicks.gradient(params, X, y, sample_weight), "w": X.T @ Clicks.by_row(params, X, y) / len(X)}

    return _clicks(gradient)


@fault("w log_scale log_nu", "sample_weight_ignored")
def student_weights_ignored():
    def gradient(params, X, y, sample_weight):
        return Student.gradient(params, X, y, np.ones(len(X)))

    return plain(Student, gradient=gradient, sample_weight=Student.sample_weight)


@fault("log_nu", "data_independent_term")
def student_halves_of_the_digamma_forgotten():
    def gradient(params, X, y, sample_weight):
        return Student.gradient(params, X, y, sample_weight, halves=1.0)

    return plain(Student, gradient=gradient, sample_weight=Student.sample_weight)


@fault("w", "missing_factor")
def student_scale_forgotten():
    def gradient(params, X, y, sample_weight):
        g = Student.gradient(params, X, y, sample_weight)
        return {**g, "w": g["w"] * np.exp(params["log_scale"])}

    return plain(Student, gradient=gradient, sample_weight=Student.sample_weight)


@fault("w log_scale log_nu", "sample_weight_misused", says="square roots")
def student_weights_by_their_roots():
    def gradient(params, X, y, sample_weight):
        g = Student.gradient(params, X, y, np.sqrt(sample_weight))
        share = np.sqrt(sample_weight).sum() / sample_weight.sum()
        return {k: v * share for k, v in g.items()}

    return plain(Student, gradient=gradient, sample_weight=Student.sample_weight)


@fault("w b logit", "sample_weight_ignored")
def zeros_weights_ignored():
    def loss_and_gradient(params, X, y, sample_weight):
        return Zeros.loss_and_gradient(params, X, y, sample_weight, sees=lambda w, y: np.ones_like(w))

    return regressor(Zeros, Zeros.sample_weight, loss_and_gradient=loss_and_gradient)


@fault("w b logit", "class_left_out some_samples", says="y")
def zeros_skipped():
    def loss_and_gradient(params, X, y, sample_weight):
        return Zeros.loss_and_gradient(params, X, y, sample_weight, sees=lambda w, y: w * (y > 0))

    return regressor(Zeros, Zeros.sample_weight, loss_and_gradient=loss_and_gradient)


@fault("w b logit", "sample_weight_misused", says="twice")
def zeros_weighted_twice():
    def loss_and_gradient(params, X, y, sample_weight):
        return Zeros.loss_and_gradient(params, X, y, sample_weight, sees=lambda w, y: w * w)

    return regressor(Zeros, Zeros.sample_weight, loss_and_gradient=loss_and_gradient)


@fault("logit", "sign")
def zeros_sign_of_the_logit():
    def loss_and_gradient(params, X, y, sample_weight):
        loss, g = Zeros.loss_and_gradient(params, X, y, sample_weight)
        return loss, {**g, "logit": -g["logit"]}

    return regressor(Zeros, Zeros.sample_weight, loss_and_gradient=loss_and_gradient)


# Labels.


@fault("w b", "label_coding", says="0/1")
def signs_labels_of_zero_and_one_expected():
    def gradient(params, X, y):
        d = (expit(X @ params["w"] + params["b"]) - y) / len(X)
        return {"w": X.T @ d, "b": float(d.sum())}

    return plain(Signs, gradient=gradient)


@fault("w b", "missing_factor")
def signs_inner_derivative_forgotten():
    def gradient(params, X, y):
        d = -expit(-y * (X @ params["w"] + params["b"])) / len(X)
        return {"w": X.T @ d, "b": float(d.sum())}

    return plain(Signs, gradient=gradient)


# Losses that are no sums over rows, and couplings.


@fault("w", "sum_not_mean factor")
def hazards_doubled():
    return plain(Hazards, gradient=lambda params, X, y: {"w": 2 * Hazards.gradient(params, X, y)["w"]})


@fault("w", "other_targets")
def hazards_sorted_the_other_way():
    return plain(Hazards, gradient=lambda params, X, y: Hazards.gradient(params, X, -y))


@fault("w", "one_entry")
def hazards_first_feature_forgotten():
    return plain(Hazards, gradient=lambda params, X, y: {"w": Hazards.gradient(params, X, y)["w"] * [0, 1, 1, 1]})


@fault("J", "projected")
def couplings_made_symmetric():
    return plain(Couplings, gradient=lambda params, X: _couplings(params, X, lambda J: (J + J.T) / 2))


@fault("J", "some_entries one_entry")
def couplings_diagonal_left_out():
    return plain(Couplings, gradient=lambda params, X: _couplings(params, X, lambda J: J * (1 - np.eye(4))))


@fault("J", "transposed")
def couplings_transposed():
    return plain(Couplings, gradient=lambda params, X: _couplings(params, X, np.transpose))


def _couplings(params, X, change):
    g = Couplings.gradient(params, X)
    return {**g, "J": change(g["J"])}
