"""Whether two settings mean the same, also if one of them was loaded from a file."""

from __future__ import annotations

from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np


def is_same(a: Any, b: Any) -> bool:
    """Whether two values are certainly of one type and equal; functions are, if they run the same code."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, FunctionType):  # by value: cloudpickle copies functions
        return is_same(_code_of(a), _code_of(b))
    if isinstance(a, MethodType):
        return is_same(a.__func__, b.__func__) and is_same(a.__self__, b.__self__)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(is_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if hasattr(a, "get_params") and not isinstance(a, type):
        return is_same(a.get_params(deep=False), b.get_params(deep=False))
    try:
        if hasattr(a, "shape") and hasattr(a, "dtype"):  # an array of another library
            return bool(a.shape == b.shape and a.dtype == b.dtype and (a == b).all())
        return bool(a == b) or is_same(a.__reduce_ex__(2)[1:3], b.__reduce_ex__(2)[1:3])
    except Exception:  # whatever an object of the user's may raise
        return False


def _code_of(function: Any) -> tuple[Any, ...]:
    """What a function does, as far as it can be compared: not where it is written."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return _operations(function.__code__), function.__defaults__, function.__kwdefaults__, cells


def _operations(code: CodeType) -> tuple[Any, ...]:
    """What a code does, with the functions that are defined in it."""
    constants = [_operations(value) if isinstance(value, CodeType) else value for value in code.co_consts]
    return code.co_name, code.co_code, code.co_names, constants
