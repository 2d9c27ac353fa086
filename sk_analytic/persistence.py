"""Parameters in files, and the type names in the file of a whole estimator.

`save_params` and `load_params` keep the blocks of θ by name, in files that any language reads. Whole estimators are
saved by pickle, joblib, cloudpickle or `skops.io`. The last stores a function as its import path and builds only types
that it is told to trust, which `trusted_types` lists.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import shutil
import stat
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .elsewhere import structure_on_host
from .exceptions import ParameterStructureError
from .importable import unreachable
from .parameters import Layout
from .trust import trusted_items
from .typing import Array, Params
from .validation import nearest

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None  # type: ignore[assignment]

__all__ = ["load_params", "save_params", "trusted_types"]

PathLike: TypeAlias = str | os.PathLike[str]
Blocks: TypeAlias = dict[str, Array]


def save_params(path: PathLike, params: Params | Any) -> None:
    """Write the parameters of a model to a file, as named arrays.

    Parameters
    ----------
    path : str or path-like
        A path that ends in ``.npz`` (NumPy's format, without pickles) or ``.safetensors``. The file is created, or
        replaces an older one, only when it is complete. The permissions of an older file are kept. If the path is a
        symbolic link, its target is replaced.
    params : structure or fitted estimator
        Parameters in any structure that an estimator accepts, or an estimator with ``params_``. Arrays are stored under
        their usual names, such as ``"W"`` or ``"layers.0.W"``, and keep their dtype.

    Raises
    ------
    ValueError
        If the path has another ending.
    ParameterStructureError
        If a leaf is not a real number or an array of real numbers, or the format does not support its name or dtype.
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
    file_format = _format_of(path)
    structure = _structure_of(params)
    layout = Layout.of(structure)
    arrays = [np.ascontiguousarray(leaf) for leaf in layout.leaves(structure, "params")]
    blocks = zip(layout.names, layout.shapes, arrays, strict=True)
    named = {name: array.reshape(shape) for name, shape, array in blocks}
    for name, array in named.items():
        _require_storable(file_format, name, array, named)
    with replacing(path) as unfinished:
        file_format.write(unfinished, named)


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
        New arrays and floats in the structure and dtype of ``like``. Without ``like``, a dict of arrays by name.

    Raises
    ------
    ValueError
        If the path has another ending, or the file is damaged or not in the format of its ending.
    ParameterStructureError
        If a parameter is missing from the file or from ``like``, has another shape, or is not an array of real numbers.
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
    blocks = _read(path, _format_of(path))
    if like is None:
        Layout.of(blocks, role=os.fspath(path))  # for its errors
        return blocks
    layout = Layout.of(_structure_of(like))
    return layout.to_structure(_vector_of(blocks, layout, path))


def _structure_of(params: Any) -> Any:
    """The parameters of an estimator, or the structure itself."""
    if not hasattr(params, "get_params"):
        return structure_on_host(params)
    if not hasattr(params, "params_"):
        raise TypeError(
            f"This {type(params).__name__} is not fitted, so it has no params_. Call fit first, or pass the parameters."
        )
    return structure_on_host(params.params_)


def _vector_of(blocks: Blocks, layout: Layout, path: PathLike) -> Array:
    """Check the blocks of a file, and return them in the order of a layout."""
    absent = [name for name in layout.names if name not in blocks]
    unknown = [name for name in blocks if name not in layout.names]
    if absent or unknown:
        name = (absent or unknown)[0]
        lack = f"lacks the parameter {name!r}" if absent else f"has a parameter {name!r} that was not requested"
        raise ParameterStructureError(
            f"{os.fspath(path)} {lack}.{nearest(name, blocks if absent else layout.names)} It has: "
            f"{', '.join(blocks) or 'none'}. Requested: {', '.join(layout.names)}."
        )
    return layout.flatten(layout.unflatten([blocks[name] for name in layout.names]), os.fspath(path))


class _Format(NamedTuple):
    """A format of files: how it is read and written, and what it cannot hold."""

    ending: str
    read: Callable[[PathLike], Blocks]
    write: Callable[[PathLike, Blocks], None]
    objection: Callable[[str, Array, Iterable[str]], str | None]


def _format_of(path: PathLike) -> _Format:
    """The format of a path, by its ending."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"path must be a str or path-like; got one of type {type(path).__name__}. It is the first argument: "
            "save_params(path, params), load_params(path, like=...)."
        )
    ending = Path(path).suffix
    if ending not in _FORMATS:
        raise ValueError(f"path must end in {' or '.join(_FORMATS)}, the supported formats; got {os.fspath(path)!r}.")
    return _FORMATS[ending]


def _require_storable(file_format: _Format, name: str, array: Array, names: Iterable[str]) -> None:
    """Raise if a file of the format would not give a block back as it is."""
    try:
        name.encode()
    except UnicodeEncodeError:
        objection: str | None = "it is not valid Unicode"
    else:
        objection = file_format.objection(name, array, names)
    if objection is not None:
        shown = repr(name if len(name) <= 40 else f"{name[:40]}...")
        raise ParameterStructureError(f"Parameter {shown} cannot be saved in a {file_format.ending} file: {objection}.")


def _read(path: PathLike, file_format: _Format) -> Blocks:
    """Read a file; whatever is wrong with what is in it is a ValueError that names the file."""
    with open(path, "rb"):  # an error of the file system stays what it is
        pass
    try:
        blocks = file_format.read(path)
        if not blocks:
            raise ValueError("it has no arrays.")
        return blocks
    except ImportError:
        raise
    except Exception as error:
        what = "plain arrays" if file_format.ending == ".npz" else "tensors"
        raise ValueError(
            f"{os.fspath(path)} is not a {file_format.ending} file of {what}, or it is damaged: "
            f"{str(error) or type(error).__name__}"
        ) from error


def _read_npz(path: PathLike) -> Blocks:
    # Not by np.load, which takes the block "x" for "x.npy", and a pickle for an array.
    blocks: Blocks = {}
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        _require_all_members(file, len(archive.infolist()))
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in blocks:
                raise ValueError(f"its member {member.filename!r} is not an array, or occurs twice.")
            content = io.BytesIO(archive.read(member))
            blocks[name] = np.lib.format.read_array(content, allow_pickle=False)
            if content.read(1):
                raise ValueError(f"its member {member.filename!r} has bytes after the array.")
    return blocks


def _require_all_members(file: Any, found: int) -> None:
    """Raise if a zip archive was written with another number of members; `zipfile` does not look."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - 0x10000 - 22))
    end = file.read().rpartition(b"PK\x05\x06")[2]
    expected = int.from_bytes(end[6:8], "little")
    if expected not in (found, 0xFFFF):  # which stands for more
        raise ValueError(f"it was written with {expected} arrays and has {found}.")


def _write_npz(path: PathLike, blocks: Blocks) -> None:
    # Not by np.savez, which has parameters of its own among the names.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in blocks.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _objection_of_npz(name: str, array: Array, names: Iterable[str]) -> str | None:
    member = f"{name}.npy"
    if zipfile.ZipInfo(member).filename != member:
        return "zip archives do not support this name"
    if len(member.encode()) > 0xFFFF:
        return f"its name is longer than {0xFFFF - len('.npy')} bytes"
    if member in names:
        return f"there is also a parameter {member!r}, and NumPy would confuse the two"
    return None


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "A .safetensors file requires safetensors, which is not installed: pip install safetensors, or in a clone "
            'pip install -e ".[io]". A path that ends in .npz has no extra requirement.'
        ) from error
    return safetensors


def _read_safetensors(path: PathLike) -> Blocks:
    blocks: Blocks = _safetensors().numpy.load_file(path)
    return blocks


def _write_safetensors(path: PathLike, blocks: Blocks) -> None:
    Path(path).write_bytes(_safetensors().numpy.save(blocks))


def _objection_of_safetensors(name: str, array: Array, names: Iterable[str]) -> str | None:
    if name == "__metadata__":
        return "the format reserves this name. Rename the parameter, or save to a path that ends in .npz"
    if array.dtype.itemsize > 8:
        return f"the format does not support dtype {array.dtype}. Save to a path that ends in .npz"
    return None


_FORMATS = {
    ".npz": _Format(".npz", _read_npz, _write_npz, _objection_of_npz),
    ".safetensors": _Format(".safetensors", _read_safetensors, _write_safetensors, _objection_of_safetensors),
}


# Files that are replaced at once.


def require_place(path: Path) -> None:
    """Raise if a file cannot be written at a path."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: the folder {path.parent} does not exist.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} cannot be written: it is a folder. Pass the path of a file in it.")
    if path.exists() and not path.is_file():
        raise OSError(
            f"{path} cannot be written: it is a device or a pipe, which cannot be replaced. Pass the path of a file."
        )


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces ``path`` in one step if writing succeeds.

    The permissions of what is replaced are kept. A link stays, and the file behind it is replaced. Temporary files that
    a killed write to the same path has left are removed.
    """
    with temporary(path) as unfinished:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        path = os.path.realpath(path)
        if os.path.exists(path):
            with suppress(PermissionError):  # of a file system that has no permissions
                shutil.copymode(path, unfinished)
        os.replace(unfinished, path)


@contextmanager
def temporary(path: PathLike) -> Iterator[Path]:
    """Yield the path of a temporary file next to the target of a path, which is always removed at the end."""
    path = Path(os.path.realpath(path))
    require_place(path)
    _remove_left_over(path)
    unfinished, lock = path.with_name(f".{path.name}-{uuid.uuid4().hex}"), None
    try:
        lock = _create(unfinished, like=path)
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def _create(unfinished: Path, like: Path) -> int | None:
    """Create a file, and lock it as long as the returned descriptor is open; with no more permissions than another."""
    mode = stat.S_IMODE(like.stat().st_mode) | stat.S_IWUSR if like.exists() else 0o666
    lock = None
    while not unfinished.exists():  # another process may take it for left over, before it is locked
        if lock is not None:
            os.close(lock)
        lock = os.open(unfinished, os.O_RDWR | os.O_CREAT, mode)
        if fcntl is None:
            os.close(lock)
            return None
        _is_abandoned(lock)
    return lock


def _remove_left_over(path: Path) -> None:
    """Remove the temporary files of writes to a path whose process was killed."""
    pattern = re.compile(re.escape(f".{path.name}-") + "[0-9a-f]{32}")
    for name in filter(pattern.fullmatch, os.listdir(path.parent)):
        left_over = path.with_name(name)
        with suppress(OSError):  # another process has finished or removed it
            if fcntl is None:
                left_over.unlink()  # fails while it is open
                continue
            descriptor = os.open(left_over, os.O_RDWR)
            try:
                if _is_abandoned(descriptor):
                    left_over.unlink()
            finally:
                os.close(descriptor)


def _is_abandoned(descriptor: int) -> bool | None:
    """Lock a file as long as it is open, if nobody else has; None if the file system cannot tell."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


# Files of whole estimators by skops.


def trusted_types(*functions: Callable[..., Any] | type) -> list[str]:
    """List the type names that `skops.io.load` must trust to load an estimator of this package.

    These are the classes of this package, and the few of NumPy and scipy that a fitted estimator contains. All of them
    hold data and settings: building them runs no code from the file. Your own functions run when the loaded model is
    used. Pass those that you trust, and their names are added.

    Parameters
    ----------
    *functions : function or type
        Your functions and classes: a model, a `Loss`, a `Schedule`, a named tuple. A class is trusted with its
        methods. For a partial, pass its function and :class:`functools.partial`.

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
            raise TypeError(f"trusted_types accepts only functions and classes; got {function!r}.")
        reason = unreachable(function)
        if reason:
            raise TypeError(f"trusted_types got {reason}, which skops cannot load.")
    held = (np.dtype, frozenset, OptimizeResult, LbfgsInvHessProduct)
    names = {f"{item.__module__}.{item.__name__}" for item in (*held, *trusted_items(), *functions)}
    for cls in filter(inspect.isclass, functions):
        names |= {f"{cls.__module__}.{cls.__name__}.{name}" for name, _ in inspect.getmembers(cls, inspect.isfunction)}
    return sorted(names)
