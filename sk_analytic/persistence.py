"""Parameters in files, and the names that a file of a whole estimator may hold.

`save_params` and `load_params` keep the blocks of θ by name, in files that any language reads. Whole estimators are
saved by pickle, joblib, cloudpickle or `skops.io`. The last stores a function as its import path and builds only types
that it is told to trust, which `trusted_types` lists.
"""

import os
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np

from .exceptions import ParameterStructureError
from .importable import unreachable
from .parameters import Layout
from .trust import trusted_items
from .typing import Array, Params
from .validation import nearest

__all__ = ["load_params", "save_params", "trusted_types"]

PathLike: TypeAlias = str | os.PathLike[str]
Blocks: TypeAlias = dict[str, Array]


def save_params(path: PathLike, params: Params | Any) -> None:
    """Write the parameters of a model to a file, block by block.

    Parameters
    ----------
    path : str or path-like
        A path that ends in ``.npz`` (NumPy's format, without pickles) or ``.safetensors``. The file is created, or
        replaces an older one, only when it is complete.
    params : structure or fitted estimator
        Parameters in any structure that an estimator takes, or an estimator with ``params_``. Blocks have their usual
        names, such as ``"W"`` or ``"layers.0.W"``, and keep their dtype.

    Raises
    ------
    ValueError
        If the path has another ending.
    ParameterStructureError
        If a leaf is not a real number or an array of real numbers.
    ImportError
        If safetensors is not installed; the message names the extra.

    See Also
    --------
    load_params : Read the parameters from the file.

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
    """Read parameters from a file written by `save_params` or any other program.

    Parameters
    ----------
    path : str or path-like
        A path that ends in ``.npz`` or ``.safetensors``. Nothing in the file is executed: pickled objects are refused.
    like : structure or fitted estimator, default=None
        Parameters in the structure to return, or an estimator with ``params_``. Not modified.

    Returns
    -------
    params : structure, or dict of str to ndarray
        New arrays and floats in the structure and dtype of ``like``. Without ``like``, a dict of the blocks by name.

    Raises
    ------
    ValueError
        If the path has another ending, or the file is not in the format of its ending.
    ParameterStructureError
        If a block is missing from the file or from ``like``, has another shape, or is not an array of real numbers.
    ImportError
        If safetensors is not installed; the message names the extra.

    See Also
    --------
    save_params : Write the parameters to a file.

    Examples
    --------
    Loaded parameters can start another training, or replace those of a fitted estimator:

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
    """Check the blocks of a file, and return them in the order of a layout."""
    absent = [name for name in layout.names if name not in blocks]
    unknown = [name for name in blocks if name not in layout.names]
    if absent or unknown:
        name = (absent or unknown)[0]
        lack = f"lacks the block {name!r}" if absent else f"has a block {name!r} that is not asked for"
        raise ParameterStructureError(
            f"{os.fspath(path)} {lack}.{nearest(name, blocks if absent else layout.names)} It has: "
            f"{', '.join(blocks) or 'none'}. Requested: {', '.join(layout.names)}."
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
    """Raise if a file cannot be written at a path."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} cannot be written: it is a folder. Name a file in it.")


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Give a temporary path to write to, which replaces ``path`` in one step, and only if writing succeeds."""
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
    """List the type names that `skops.io.load` must trust to load an estimator of this package.

    These are the classes of this package, and the few of NumPy and scipy that a fitted estimator holds. All of them
    hold data and settings: building them runs no code from the file. Your own functions run when the loaded model is
    used. Pass those that you trust, and their names are added.

    Parameters
    ----------
    *functions : function or type
        Your functions and classes: a `Loss`, a `Schedule`, a named tuple. For a partial, pass its function and
        :class:`functools.partial`.

    Returns
    -------
    names : list of str
        For ``skops.io.load(file, trusted=names)``, in alphabetical order.

    Raises
    ------
    TypeError
        If a function has no import path, such as a lambda, or an argument is not a function or class.

    Examples
    --------
    >>> from sk_analytic import trusted_types
    >>> "sk_analytic.optimizers.rules.adam.Adam" in trusted_types()
    True
    """
    from scipy.optimize import LbfgsInvHessProduct, OptimizeResult

    for function in functions:
        if not isinstance(function, FunctionType | type):
            raise TypeError(f"trusted_types takes functions and classes; got {function!r}.")
        reason = unreachable(function)
        if reason:
            raise TypeError(f"trusted_types got {reason}, which skops cannot load.")
    held = (np.dtype, frozenset, OptimizeResult, LbfgsInvHessProduct)
    return sorted({f"{item.__module__}.{item.__name__}" for item in (*held, *trusted_items(), *functions)})
