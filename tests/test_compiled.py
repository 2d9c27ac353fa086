"""The compiled engine: the same numbers as NumPy's, compiled once for all processes, and only where it pays."""

import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from sk_analytic import get_optimizer, get_optimizer_names
from sk_analytic.optimizers import (
    Adam,
    Chain,
    ClipBlockNorm,
    ClipNorm,
    PerBlock,
    Rule,
    WeightDecay,
    use_engine,
)
from sk_analytic.optimizers.engine import numba_kernel
from sk_analytic.parameters import Layout

if os.environ.get("SK_ANALYTIC_REQUIRE_PARITY"):
    import numba  # noqa: F401
else:
    pytest.importorskip("numba", reason="needs numba")

OPTIMIZERS = {name: get_optimizer(name) for name in get_optimizer_names() if hasattr(get_optimizer(name), "place")}
OPTIMIZERS["a long chain"] = Chain(
    [ClipNorm(0.5), WeightDecay(0.1), ClipBlockNorm(0.3), Adam(amsgrad=True), WeightDecay(0.01)]
)
OPTIMIZERS["by block"] = Chain([ClipNorm(1.0), PerBlock({"W": Adam(1e-3)}, default=get_optimizer("sgd"))])
THETA = {"W": np.ones((90, 200)), "b": np.ones(7), "deep": [np.ones(3), np.ones((2, 2))]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Each run of the tests has a cache of its own, and each test a process that has loaded nothing, as it seems."""
    monkeypatch.setattr(numba_kernel, "_loaded", {})
    monkeypatch.setattr(numba_kernel, "_failures", [])
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "numba"))


def trained(optimizer, engine, dtype, theta=None, steps=8):
    """Return θ, as a vector, after some steps on the same random gradients."""
    layout = Layout.of(THETA if theta is None else theta, dtype)
    rng = np.random.default_rng(0)
    vector = rng.standard_normal(layout.size).astype(dtype)
    with use_engine(engine):
        state = optimizer.init(vector, blocks=layout)
    for step in range(steps):
        gradient = rng.standard_normal(layout.size).astype(dtype)
        optimizer.update(state, vector, gradient, missing=(1,) if step == 3 else ())
    return vector


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_both_engines_give_the_same_numbers(name, dtype):
    """Every rule and a long chain, over several blocks, one of them once without a gradient: a few ulps at most."""
    ours, reference = (trained(OPTIMIZERS[name], engine, dtype) for engine in ("numba", "numpy"))
    assert ours.dtype == dtype
    assert np.isfinite(reference).all()
    np.testing.assert_allclose(ours, reference, rtol=4 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_nested_equals_flat(name, engine):
    """θ as a nested structure and θ as its vector are the same to the last bit."""
    optimizer, rng = get_optimizer(name), np.random.default_rng(0)
    layout = Layout.of(THETA)
    vector = layout.flatten(THETA)
    nested = layout.views(vector.copy(), writeable=True)
    with use_engine(engine):
        of_vector, of_nested = optimizer.init(vector, blocks=layout), optimizer.init(nested)
    for _ in range(5):
        gradient = rng.standard_normal(layout.size)
        optimizer.update(of_vector, vector, gradient)
        optimizer.update(of_nested, nested, layout.views(gradient))
    np.testing.assert_array_equal(layout.flatten(nested), vector)


def test_going_over_in_the_middle_is_not_seen(monkeypatch):
    """A run that begins with NumPy and goes over to numba ends at the same bits."""
    optimizer = OPTIMIZERS["a long chain"]
    monkeypatch.setattr(numba_kernel, "SECONDS_TO_LOAD", 1e-4)
    monkeypatch.setattr(numba_kernel, "SECONDS_TO_COMPILE", 1e-4)
    ours = trained(optimizer, "auto", np.float64, steps=20)
    assert numba_kernel._loaded
    np.testing.assert_array_equal(ours, trained(optimizer, "numpy", np.float64, steps=20))


def test_gradients_of_another_kind_are_taken():
    """A read-only, strided or float32 gradient does what its writable float64 copy does."""
    gradient = np.arange(10.0)
    results = []
    for given in (gradient, gradient.astype(np.float32), np.repeat(gradient, 2)[::2], np.arange(10.0)):
        given.flags.writeable = False
        theta = np.ones(10)
        optimizer = Adam()
        with use_engine("numba"):
            state = optimizer.init(theta)
        optimizer.update(state, theta, given)
        results.append(theta)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def in_process(code, **environment):
    """Run some code in a process of its own and return what it prints."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


STEP = """
import numpy as np
from sk_analytic.optimizers import Adam, Chain, ClipNorm, use_engine
from sk_analytic.optimizers.engine import numba_kernel
theta = np.ones(100)
optimizer = Chain([ClipNorm(0.5), Adam()])
with use_engine("numba"):
    state = optimizer.init(theta)
for _ in range(3):
    optimizer.update(state, theta, np.ones(100))
stats = [function.stats for function in numba_kernel._loaded.values()]
print(sum(len(s.cache_misses) for s in stats), sum(len(s.cache_hits) for s in stats), theta.sum())
"""


def test_a_second_process_compiles_nothing(tmp_path):
    """What one process compiled, the next one loads; both get the same numbers."""
    first, second = (in_process(STEP, NUMBA_CACHE_DIR=str(tmp_path)).split() for _ in range(2))
    assert first[:2] == ["2", "0"]
    assert second[:2] == ["0", "2"]
    assert first[2] == second[2]


RULE = """
import numpy as np
from sk_analytic.optimizers import Rule, use_engine
from sk_analytic.optimizers.engine import numba_kernel
class Mine(Rule):
    def __init__(self, learning_rate=0.5):
        self.learning_rate = learning_rate
    def coefficients(self, now):
        return (2.0,)
    @staticmethod
    def formula(g, theta, factor):
        return {formula}
theta = np.zeros(1)
with use_engine("numba"):
    state = Mine().init(theta)
Mine().update(state, theta, np.ones(1))
print(theta[0], *(len(f.stats.cache_misses) for f in numba_kernel._loaded.values()))
"""


def test_an_edited_formula_runs_anew(tmp_path):
    """The cache goes by what a formula does: an edit is seen, and undoing it finds what was compiled before."""
    before, after = "factor * g", "factor * g + g"
    results = [
        in_process(RULE.format(formula=formula), NUMBA_CACHE_DIR=str(tmp_path)) for formula in (before, after, before)
    ]
    assert results == ["-1.0 1", "-1.5 1", "-1.0 0"]


def test_the_cache_is_the_users_own(tmp_path):
    """Nobody else may write what is run later."""
    in_process(STEP, NUMBA_CACHE_DIR=str(tmp_path))
    assert stat.S_IMODE((tmp_path / "sk_analytic").stat().st_mode) == 0o700


def test_a_cached_module_of_another_text_is_not_run(tmp_path):
    """What lies under the right name is compared with what should, and replaced."""
    first = in_process(STEP, NUMBA_CACHE_DIR=str(tmp_path))
    texts = {path: path.read_text() for path in (tmp_path / "sk_analytic").glob("pass_*.py")}
    assert len(texts) == 2
    for path in texts:
        path.write_text("raise SystemExit('this was run')")
    assert in_process(STEP, NUMBA_CACHE_DIR=str(tmp_path)).split()[-1] == first.split()[-1]
    assert {path: path.read_text() for path in texts} == texts


def test_a_small_fit_does_not_even_import_numba(tmp_path):
    """Nothing is compiled or loaded where that would take longer than the fit."""
    code = """
import sys
from sklearn.datasets import load_iris
from sk_analytic import AnalyticClassifier
X, y = load_iris(return_X_y=True)
AnalyticClassifier(max_iter=100, tol=None).fit(X, y)
print("numba" in sys.modules)
"""
    assert in_process(code, NUMBA_CACHE_DIR=str(tmp_path)) == "False"


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    """Where the cache folder is a file, passes are compiled all the same."""
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    assert in_process(STEP, NUMBA_CACHE_DIR=str(blocked), XDG_CACHE_HOME=str(blocked)).startswith("2 0")


def test_without_numba_numpy_runs(monkeypatch):
    """With numba hidden "auto" is NumPy, and asking for numba names the extra."""
    monkeypatch.setattr(numba_kernel, "is_installed", lambda: False)
    assert np.isfinite(trained(Adam(), "auto", np.float64)).all()
    with pytest.raises(ImportError, match=r"pip install numba"), use_engine("numba"):
        pass


SAME = """
import warnings
import numpy as np
from sk_analytic.optimizers import Adam, Chain, ClipNorm, use_engine
rng = np.random.default_rng(0)
gradients = rng.standard_normal((6, 50))
def trained(engine, optimizer):
    theta = np.ones(50)
    with use_engine(engine):
        state = optimizer.init(theta)
    for g in gradients:
        optimizer.update(state, theta, g)
    return theta
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for optimizer in (Adam(0.1), Chain([ClipNorm(1.0), Adam(0.1)])):
        assert (trained("numba", optimizer) == trained("numpy", optimizer)).all()
print(sum("numba failed" in str(w.message) and "SK_ANALYTIC_ENGINE=numpy" in str(w.message) for w in caught))
"""


def break_import(folder):
    """A numba that cannot be imported, as one that is older than its NumPy."""
    (folder / "numba").mkdir()
    (folder / "numba" / "__init__.py").write_text("raise ImportError('Numba needs NumPy 1.26 or less')")
    return {"PYTHONPATH": str(folder)}


def switch_off(folder):
    """Numba's own switch."""
    return {"NUMBA_DISABLE_JIT": "1"}


def damage(pattern, content):
    """Return a break that ruins the files that a process has left in the cache."""

    def ruin(folder):
        in_process(SAME, NUMBA_CACHE_DIR=str(folder))
        files = list(folder.rglob(pattern))
        assert files
        for file in files:
            file.write_bytes(content)
        return {}

    return ruin


FAULTS = {
    "numba cannot be imported": (break_import, "1"),
    "its compiler is disabled": (switch_off, "1"),
    "garbage in its index": (damage("*.nbi", b"garbage"), "01"),
    "garbage in its code": (damage("*.nbc", b"garbage"), "01"),
    "its code is empty": (damage("*.nbc", b""), "01"),
    "our text is cut off": (damage("pass_*.py", b"def kern"), "0"),
    "our text was exchanged": (damage("pass_*.py", b"raise SystemExit(7)"), "0"),
}


@pytest.mark.parametrize(("fault", "warned"), FAULTS.values(), ids=FAULTS)
def test_whatever_is_wrong_with_numba_costs_neither_a_fit_nor_a_number(fault, warned, tmp_path):
    """NumPy takes over, with one warning a process; nothing stays in the temporary folder."""
    (tmp_path / "tmp").mkdir()
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")} | fault(tmp_path)
    assert in_process(SAME, **environment) in warned
    assert list((tmp_path / "tmp").glob("sk_analytic_*")) == []


def test_the_environment_chooses_the_engine_for_threads_and_processes(tmp_path):
    """Where `use_engine` chose none; a name that does not exist is an error that says where it stands."""
    code = """
import sys, threading
import numpy as np
from sk_analytic.optimizers import Adam
def run():
    theta, optimizer = np.ones(3), Adam()
    optimizer.update(optimizer.init(theta), theta, np.ones(3))
thread = threading.Thread(target=run)
thread.start()
thread.join()
print("numba" in sys.modules)
"""
    for engine, expected in (("numpy", "False"), ("numba", "True"), ("", "False")):
        environment = {"NUMBA_CACHE_DIR": str(tmp_path), "SK_ANALYTIC_ENGINE": engine}
        assert in_process(code, **environment) == expected


def test_a_wrong_name_in_the_environment_says_where_it_is(monkeypatch):
    """The message names the variable."""
    monkeypatch.setenv("SK_ANALYTIC_ENGINE", "cuda")
    with pytest.raises(
        ValueError, match="Unknown engine 'cuda', which the environment variable SK_ANALYTIC_ENGINE names"
    ):
        Adam().init(np.ones(3))


def test_an_unknown_engine_is_refused():
    """The message lists those that there are."""
    with (
        pytest.raises(ValueError, match="Unknown engine 'cupy'. There are: 'auto', 'numpy', 'numba'"),
        use_engine("cupy"),
    ):
        pass


class Odd(Rule):
    """A rule whose formula uses a call that has no expression in a loop."""

    def __init__(self, learning_rate=0.1):
        self.learning_rate = learning_rate

    @staticmethod
    def formula(g, theta):
        return np.arctan(g)


def test_a_call_without_an_expression_stays_with_numpy():
    """A formula that goes beyond the common words still runs, uncompiled."""
    np.testing.assert_array_equal(trained(Odd(), "numba", np.float64), trained(Odd(), "numpy", np.float64))
