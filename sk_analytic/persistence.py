"""θ to and from files, and what a file of a whole estimator may name.

`save_params` and `load_params` keep the blocks of θ by name, in files that any language reads. Whole estimators are
for pickle, joblib, cloudpickle and `skops.io`; the last stores a function as its import path and builds only what it
is told to trust, for which `trusted_types` has the names.
"""

import functools
import os
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, TypeAlias

import numpy as np

from .exceptions import ParameterStructureError
from .hyperparameters import nearest
from .parameters import Layout
from .typing import Array, Params

__all__ = ["load_params", "save_params", "trusted_types"]

PathLike: TypeAlias = str | os.PathLike[str]
Blocks: TypeAlias = dict[str, Array]


def save_params(path: PathLike, params: Params | Any) -> None:
    """Write the parameters of a model to a file, block by block.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.npz`` (NumPy's, without pickles) or ``.safetensors``. The file appears, or takes the place of an
        older one, when it is complete.
    params : structure or fitted estimator
        Parameters in any structure that an estimator takes, or an estimator, for its ``params_``. Blocks are named
        as everywhere, ``"W"`` or ``"layers.0.W"``, and keep their dtype.

    Raises
    ------
    ValueError
        For another ending of the path.
    ParameterStructureError
        For a leaf that is no real number or array of them.
    ImportError
        If safetensors is not installed; the message names the extra.

    See Also
    --------
    load_params : The way back.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sk_analytic import load_params, save_params
    >>> params = {"layers": [np.eye(2), np.zeros(2)], "scale": 0.5}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_params(f"{folder}/params.npz", params)
    ...     by_name = load_params(f"{folder}/params.npz")
    >>> list(by_name)
    ['layers.0', 'layers.1', 'scale']
    """
    _, write = _format_of(path)
    structure = _structure_of(params)
    layout = Layout.of(structure)
    arrays = [np.ascontiguousarray(leaf) for leaf in layout.leaves(structure, "params")]
    blocks = zip(layout.names, layout.shapes, arrays, strict=True)
    with replacing(path) as unfinished:
        write(unfinished, {name: array.reshape(shape) for name, shape, array in blocks})


def load_params(path: PathLike, like: Params | Any = None) -> Any:
    """Read parameters from a file that `save_params`, or anyone else, has written.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.npz`` or ``.safetensors``. Nothing in it is executed: pickled objects are refused.
    like : structure or fitted estimator, default=None
        Parameters of the structure to return, or an estimator, for its ``params_``. It is only read.

    Returns
    -------
    params : structure, or dict of str to ndarray
        In the structure of ``like``: new arrays of its dtype, and floats where it has floats. The blocks by name
        where there is no ``like``.

    Raises
    ------
    ValueError
        For another ending of the path, and for a file that is not what its ending says.
    ParameterStructureError
        For a block that the file lacks or ``like`` does not have, for one of another shape, and for what is no
        array of real numbers.
    ImportError
        If safetensors is not installed; the message names the extra.

    See Also
    --------
    save_params : Writes the file.

    Examples
    --------
    What was loaded starts another training, or takes the place of what was learned:

    >>> import tempfile
    >>> import numpy as np
    >>> from sk_analytic import AnalyticRegressor, load_params, save_params
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> model = AnalyticRegressor(optimizer="lbfgs", tol=1e-8).fit(X, 2 * X[:, 0] + 1)
    >>> other = AnalyticRegressor(optimizer="lbfgs").fit(X, X[:, 0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_params(f"{folder}/line.npz", model)
    ...     other.params_ = load_params(f"{folder}/line.npz", like=other)
    >>> other.predict([[4.0]]).round(3)
    array([9.])
    """
    read, _ = _format_of(path)
    blocks = read(path)
    if like is None:
        Layout.of(blocks, role=os.fspath(path))  # for its errors
        return blocks
    layout = Layout.of(_structure_of(like))
    return layout.to_structure(_vector_of(blocks, layout, path))


def _structure_of(params: Any) -> Any:
    """The parameters of an estimator, or the structure itself."""
    if not hasattr(params, "get_params"):
        return params
    if not hasattr(params, "params_"):
        raise TypeError(
            f"This {type(params).__name__} is not fitted, so it has no params_: fit it, or give the parameters."
        )
    return params.params_


def _vector_of(blocks: Blocks, layout: Layout, path: PathLike) -> Array:
    """The blocks of a file in the order of a layout, after a look at each."""
    absent = [name for name in layout.names if name not in blocks]
    unknown = [name for name in blocks if name not in layout.names]
    if absent or unknown:
        name = (absent or unknown)[0]
        lack = f"lacks the block {name!r}" if absent else f"has a block {name!r} that is not asked for"
        raise ParameterStructureError(
            f"{os.fspath(path)} {lack}.{nearest(name, blocks if absent else layout.names)} It has: "
            f"{', '.join(blocks) or 'none'}. Asked for are: {', '.join(layout.names)}."
        )
    return layout.flatten(layout.unflatten([blocks[name] for name in layout.names]), os.fspath(path))


def _format_of(path: PathLike) -> tuple[Callable[[PathLike], Blocks], Callable[[PathLike, Blocks], None]]:
    """The reader and the writer of a path's format."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"path must be a str or path-like; got one of type {type(path).__name__}. It comes first: "
            "save_params(path, params), load_params(path, like=...)."
        )
    ending = Path(path).suffix
    if ending not in _FORMATS:
        raise ValueError(
            f"path must end in {' or '.join(_FORMATS)}, the formats that are known; got {os.fspath(path)!r}."
        )
    return _FORMATS[ending]


def _read_npz(path: PathLike) -> Blocks:
    refusal = f"{os.fspath(path)} is no .npz file of plain arrays"
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):  # np.load would take a pickle for one, and advise to load it
            raise ValueError(f"{refusal}: those are zip archives.")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (ValueError, zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"{refusal}: {error}") from error


def _write_npz(path: PathLike, blocks: Blocks) -> None:
    # Not by np.savez, which has parameters of its own among the names.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in blocks.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "A .safetensors file needs safetensors, which is not installed: pip install sk-analytic[io]. "
            "A path that ends in .npz needs nothing more."
        ) from error
    return safetensors


def _read_safetensors(path: PathLike) -> Blocks:
    safetensors = _safetensors()
    try:
        blocks: Blocks = safetensors.numpy.load_file(path)
        return blocks
    except safetensors.SafetensorError as error:
        raise ValueError(f"{os.fspath(path)} is no .safetensors file: {error}") from error


def _write_safetensors(path: PathLike, blocks: Blocks) -> None:
    Path(path).write_bytes(_safetensors().numpy.save(blocks))


_FORMATS = {".npz": (_read_npz, _write_npz), ".safetensors": (_read_safetensors, _write_safetensors)}


def require_place(path: Path) -> None:
    """Raise if no file can stand at a path."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} cannot be written: it is a folder. Name a file in it.")


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Give a path to write to; what was written takes the place of ``path`` at once, and only if it is complete."""
    path = Path(path)
    require_place(path)
    unfinished = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


# Files of whole estimators by skops.


def trusted_types(*functions: Callable[..., Any] | type) -> list[str]:
    """Return the names that `skops.io.load` must trust to load an estimator of this package.

    They are this package's own classes and the few of NumPy and scipy that a fitted estimator holds. All of them
    are data and settings: building them runs no code from the file. Your functions run when the loaded model is
    used; each is a name of its own, which you trust by passing the function.

    Parameters
    ----------
    *functions : function or type
        Your functions, and classes of your own: a `Loss`, a `Schedule`, a named tuple. For a partial that is
        its function, and :class:`functools.partial`.

    Returns
    -------
    names : list of str
        For ``skops.io.load(file, trusted=names)``, in alphabetical order.

    Raises
    ------
    TypeError
        For a function that has no import path, such as a lambda, and for what is no function or class.

    Examples
    --------
    >>> from sk_analytic import trusted_types
    >>> "sk_analytic.optimizers.rules.adam.Adam" in trusted_types()
    True
    """
    for function in functions:
        if not isinstance(function, FunctionType | type):
            raise TypeError(f"trusted_types takes functions and classes; got {function!r}.")
        reason = _unreachable(function)
        if reason:
            raise TypeError(f"trusted_types got {reason}, which skops cannot load.")
    return sorted({f"{item.__module__}.{item.__name__}" for item in (*_own_types(), *functions)})


def _own_types() -> Iterator[Any]:
    """The classes, and the functions of the default models, that a file of an estimator can name."""
    from scipy.optimize import LbfgsInvHessProduct, OptimizeResult

    from . import estimators, losses, optimizers
    from .gradient_check import Finding, GradientReport
    from .model import callables as model
    from .optimizers.state import LinkState, State, StepInfo
    from .training.minibatches import History, Standing

    yield from (np.dtype, frozenset, OptimizeResult, LbfgsInvHessProduct)
    yield from (
        History,
        Standing,
        Layout,
        State,
        LinkState,
        StepInfo,
        GradientReport,
        Finding,
        model.Model,
        model.Receiver,
    )
    for default in (model.LINEAR, model.GAUSSIAN, model.AUTOENCODER):
        yield from default.values()
    for module in (estimators, losses, optimizers):
        yield from (item for item in (getattr(module, name) for name in module.__all__) if isinstance(item, type))


def require_importable(estimator: Any) -> None:
    """Raise if an estimator holds a function or class that could not be found again by its import path.

    skops would write its name all the same, and find nothing, or another function of that name, when it loads.
    """
    for name, value in vars(estimator).items():
        for reason in _unreachable_within(value, set()):
            raise TypeError(
                f"This {type(estimator).__name__} cannot be saved by skops: {name} holds {reason}. skops stores the "
                "import path of a function or class and nothing of its code. Define it at the top level of a module, "
                "or save the estimator by cloudpickle, which copies functions by value."
            )


def _unreachable_within(value: Any, seen: set[int]) -> Iterator[str]:
    """Yield what has no import path, in a value and all that it is made of."""
    if id(value) in seen or isinstance(value, np.ndarray):
        return
    seen.add(id(value))
    reason = _unreachable(value if isinstance(value, FunctionType | type) else type(value))
    if reason:
        yield reason
        return
    for part in _parts(value):
        yield from _unreachable_within(part, seen)


def _parts(value: Any) -> list[Any]:
    """What an object is made of, as far as skops goes into it."""
    if isinstance(value, FunctionType | type):
        return []
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    state = value.__getstate__()
    return _parts(state) if isinstance(state, dict | tuple) else []


def _unreachable(item: Any) -> str | None:
    """Say what a function or class is that its import path does not lead to; None if it does."""
    if not isinstance(item, FunctionType | type) or item.__module__ == "builtins":
        return None
    module = sys.modules.get(item.__module__)
    if getattr(module, item.__name__, None) is item:
        return None
    kind = (
        "a lambda" if item.__name__ == "<lambda>" else "the function" if isinstance(item, FunctionType) else "the class"
    )
    shown = "" if item.__name__ == "<lambda>" else f" {item.__qualname__}"
    code = getattr(item, "__code__", None)
    where = f" ({code.co_filename}, line {code.co_firstlineno})" if code else f" of {item.__module__}"
    return f"{kind}{shown}{where}"
