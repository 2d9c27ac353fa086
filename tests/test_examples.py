"""The examples do what they tell: their mathematics, their figures, their pictures."""

import importlib.util
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

EXAMPLES = Path(__file__).parents[1] / "examples"


def load_example(name):
    """Import an example by its path, without running it."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def nade():
    return load_example("nade_digits")


@pytest.fixture(scope="module")
def trained(nade):
    """The density of the main job, trained once: 60 epochs, seed 0."""
    return nade.train(nade.load_images()[0])


@pytest.fixture
def no_window(monkeypatch):
    """Draw into files, whatever display the machine has."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    yield
    plt.close("all")


def draw_params(n_features, n_hidden, seed=0, scale=1.0):
    """Parameters of order one, so that no unit of the model is idle."""
    rng = np.random.default_rng(seed)
    shapes = [(n_features,), (n_hidden,), (n_features, n_hidden), (n_features, n_hidden)]
    return tuple(rng.normal(scale=scale, size=shape) for shape in shapes)


def all_images(n_features):
    return np.array(list(itertools.product([0.0, 1.0], repeat=n_features)))


def held_out_figures(text):
    """The two figures that the example prints, in nats."""
    pattern = r"^ +(NADE|independent pixels) +(\d+\.\d\d)$"
    return {name: float(nats) for name, nats in re.findall(pattern, text, flags=re.MULTILINE)}


@pytest.mark.parametrize("block", range(4), ids=["b", "c", "U", "W"])
def test_nade_gradient_is_the_slope_of_the_forward(nade, block):
    """Each entry of the gradient is the central difference of the mean negative log-likelihood."""
    params = draw_params(64, 50, scale=0.3)
    X = nade.load_images()[0][:40]
    entries = np.random.default_rng(block).choice(params[block].size, size=12, replace=False)

    def loss(entry, step):
        moved = [leaf.copy() for leaf in params]
        moved[block].flat[entry] += step
        return -nade.NADE().forward(moved, X).mean()

    slopes = [(loss(entry, 1e-5) - loss(entry, -1e-5)) / 2e-5 for entry in entries]
    assert_allclose(nade.NADE().gradient(params, X)[block].flat[entries], slopes, atol=1e-8)


def test_nade_gradient_has_the_structure_of_the_parameters(nade):
    """init and gradient both return (b, c, U, W), with the shapes (D,), (H,), (D, H), (D, H)."""
    params = nade.NADE(n_hidden=50).init(64, np.random.default_rng(0))
    grads = nade.NADE().gradient(params, nade.load_images()[0][:3])
    shapes = [(64,), (50,), (64, 50), (64, 50)]
    assert [leaf.shape for leaf in params] == shapes
    assert [leaf.shape for leaf in grads] == shapes


def test_nade_reads_what_it_is_given_and_writes_none_of_it(nade):
    """Read-only rows and parameters serve, in any memory order, and are the same afterwards."""
    params, X = draw_params(6, 4), np.asfortranarray(all_images(6))
    given = [*params, X]
    before = [array.copy() for array in given]
    for array in given:
        array.flags.writeable = False
    nade.NADE().forward(params, X)
    nade.NADE().gradient(params, X)
    nade.NADE().sample(params, 5, np.random.default_rng(0))
    for array, copy in zip(given, before, strict=True):
        assert_array_equal(array, copy)


def test_nade_is_a_normalized_density(nade):
    """The probabilities of all 2^6 images of six pixels sum to one."""
    density = np.exp(nade.NADE().forward(draw_params(6, 4), all_images(6)))
    assert density.min() > 0
    assert density.sum() == pytest.approx(1, rel=1e-12)


def test_nade_first_pixel_sees_only_the_hidden_biases(nade):
    """Summed over all other pixels, the first is ink with probability sigmoid(b_1 + U_1 . sigmoid(c))."""
    b, c, U, W = draw_params(6, 4)
    X = all_images(6)
    ink = np.exp(nade.NADE().forward((b, c, U, W), X[X[:, 0] == 1])).sum()
    hidden = 1 / (1 + np.exp(-c))
    assert ink == pytest.approx(1 / (1 + np.exp(-b[0] - U[0] @ hidden)), rel=1e-12)


def test_nade_is_finite_at_extreme_scores(nade):
    """A pixel that the model holds for impossible costs its log-odds, neither infinity nor NaN."""
    b, c, U, W = draw_params(6, 4, scale=0.0)
    params = (b - 1e4, c, U, W)
    X = np.array([[1.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    assert_allclose(nade.NADE().forward(params, X), [-1e4, 0])
    assert all(np.isfinite(leaf).all() for leaf in nade.NADE().gradient(params, X))


def test_nade_samples_as_often_as_its_density_says(nade):
    """Each image of six pixels is drawn with its probability, to five standard errors of the count."""
    params, X, n = draw_params(6, 4), all_images(6), 40_000
    drawn = nade.NADE().sample(params, n, np.random.default_rng(0))
    assert drawn.shape == (n, 6)
    counts = np.bincount((drawn @ 2 ** np.arange(5, -1, -1)).astype(int), minlength=64)
    expected = n * np.exp(nade.NADE().forward(params, X))
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected) + 1).all()


def test_nade_baseline_counts_ink_with_laplace_smoothing(nade):
    """A pixel that was blank in all n rows of training is ink with probability 1 / (n + 2)."""
    X_train, X_test = np.array([[0.0, 1], [0, 0]]), np.array([[1.0, 0]])
    assert_allclose(nade.independent_pixels(X_train, X_test), np.log(1 / 4) + np.log(1 / 2))


def test_nade_reaches_the_measured_likelihood(nade, trained):
    """Sixty epochs, all of them run, bring held-out digits below 17.9 nats; pixels alone need 25.30."""
    X_train, X_test = nade.load_images()
    assert trained.n_iter_ == 60
    assert 17.5 < -trained.score(X_test) < 17.9
    assert -nade.independent_pixels(X_train, X_test).mean() == pytest.approx(25.30, abs=0.005)


def test_nade_samples_look_like_digits(nade, trained):
    """Pixels of sampled digits are ink as often as real ones, nearly, and pairs of them go together alike."""
    X_train, _ = nade.load_images()
    drawn = trained.sample(2000, random_state=0)
    assert drawn.shape == (2000, 64)
    assert set(np.unique(drawn)) == {0, 1}
    assert_allclose(drawn.mean(axis=0), X_train.mean(axis=0), atol=0.2)
    pairs = np.triu_indices(64, k=1)
    assert np.corrcoef(np.cov(drawn.T)[pairs], np.cov(X_train.T)[pairs])[0, 1] > 0.95


@pytest.mark.usefixtures("no_window")
def test_nade_main_prints_both_figures_and_writes_the_picture(nade, tmp_path, capsys):
    """After a few epochs the model already beats independent pixels, and a PNG shows its digits."""
    picture = tmp_path / "digits.png"
    nade.main(["--epochs", "5", "--seed", "1", "--output", str(picture)])
    figures = held_out_figures(capsys.readouterr().out)
    assert figures["independent pixels"] == 25.30
    assert 17 < figures["NADE"] < 25
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_nade_main_does_its_work_without_matplotlib(nade, tmp_path, capsys, monkeypatch):
    """Where matplotlib is missing, both figures are printed and the missing picture is explained."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    picture = tmp_path / "digits.png"
    nade.main(["--epochs", "1", "--output", str(picture)])
    text = capsys.readouterr().out
    assert held_out_figures(text).keys() == {"NADE", "independent pixels"}
    assert "matplotlib is not installed" in text
    assert not picture.exists()


def test_a_density_on_a_cluster_survives_a_worker(tmp_path):
    """Its gradient is right, and the curve is the same whether a worker is killed or not."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    example = load_example("density_on_a_cluster")
    X = example.load(0, 200)
    params = {"a": 0.3, "m": np.array([-1.5, 0.8]), "s": np.array([0.2, -0.1])}
    log_density, pullback = example.vjp(params, X)
    d = np.random.default_rng(0).normal(size=200)
    grads = pullback(d)
    for name, block in params.items():
        for index in np.ndindex(np.shape(block)):
            ends = []
            for step in (1e-6, -1e-6):
                moved = {**params, name: np.array(block, float)}
                moved[name][index] += step
                ends.append(d @ example.vjp(moved, X)[0])
            assert_allclose(np.asarray(grads[name])[index], (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-6)
    assert log_density.shape == (200,)
    picture = tmp_path / "curve.png"
    command = [sys.executable, str(EXAMPLES / "density_on_a_cluster.py"), "--rows", "20000", "--output", str(picture)]
    ran = subprocess.run(command, env={**os.environ, "MPLBACKEND": "agg"}, capture_output=True, text=True, check=True)
    assert "loss curves identical to the last bit: True" in ran.stdout
    assert picture.stat().st_size > 1000
