"""A fitted model as a jax function with a ``custom_vjp`` that returns the user's gradient."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from ..exported import Exported


def to_jax(estimator: Any, *, vjp_X: Callable[..., Any] | None = None) -> tuple[Callable[..., Any], Any]:
    """Return the model of a fitted estimator as a jax function, and its parameters.

    The value and the gradient are computed by your functions in NumPy, on the host, which ``jax.pure_callback`` calls.
    The function can be jitted. It supports first derivatives in reverse mode.

    Parameters
    ----------
    estimator : AnalyticRegressor, AnalyticClassifier, AnalyticDensity or AnalyticTransformer
        Fitted estimator. Fitting it again does not change the function.
    vjp_X : callable, default=None
        ``vjp_X(params, X, cotangent) -> array like X``: the product of the cotangent, an array of the shape of the
        function's value, with the derivative with respect to X. It also receives ``y`` and metadata if it names them.
        If None, differentiating with respect to X raises an error.

    Returns
    -------
    function : callable
        For the `vjp` and `jacobian` forms, ``function(params, X)`` returns the output of ``forward``: raw scores of a
        classifier, log-densities, codes, or a regressor's predictions before the inverse link. For the `gradient` and
        `loss_and_gradient` forms, which do not differentiate the prediction, ``function(params, X, y)`` returns the
        mean loss without the penalty. Pass metadata, and ``sample_weight`` for the loss, by name.
    params : object
        ``params_``, in the user's structure, as jax arrays.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ValueError
        If there is neither a prediction nor a loss to return, because `gradient` was given with ``loss=None``.

    Notes
    -----
    The value has the dtype of the parameters: float32, unless ``jax_enable_x64`` is set. Fixed parameters have a zero
    gradient. Under ``jax.vmap``, your functions are called once for each entry of the mapped axis, one after another.

    When jax traces the function, ``forward`` is called once on zeros, to determine the shape of the prediction.

    Examples
    --------
    >>> import jax
    >>> import numpy as np
    >>> from sk_analytic import AnalyticRegressor
    >>> from sk_analytic.interop.jax import to_jax
    >>> X = np.array([[0.0], [1.0], [2.0]])
    >>> line = AnalyticRegressor(optimizer="lbfgs", alpha=0).fit(X, [1.0, 3.0, 5.0])
    >>> predict, params = to_jax(line)
    >>> gradient = jax.jit(jax.grad(lambda p: predict(p, np.array([[4.0]])).sum()))
    >>> gradient(params)["coef"].tolist()
    [4.0]
    """
    exported = Exported(estimator, vjp_X)
    value = _function_of(exported)

    def function(params: Any, X: Any, y: Any = None, **columns: Any) -> Any:
        """Return the raw prediction, or the mean loss."""
        given = {name: column for name, column in {"y": y, **columns}.items() if column is not None}
        for name, column in given.items():
            dtype = getattr(column, "dtype", None) or np.asarray(column).dtype
            if dtype.kind not in "biuf":
                raise TypeError(
                    f"{name} has dtype {dtype}, which jax does not support. Pass numbers; for a classifier, fit on "
                    "class indices."
                )
        return value([jnp.asarray(leaf) for leaf in exported.leaves(params)], jnp.asarray(X), given)

    return function, exported.unflatten([jnp.asarray(block) for block in exported.blocks()])


def _function_of(exported: Exported) -> Callable[..., Any]:
    """Return the function of a list of blocks, X and a dict of columns."""

    def on_host(blocks: Any, X: Any, columns: Any) -> Any:
        return exported.value(_arrays(blocks), np.asarray(X), _by_name(columns))

    def product_on_host(blocks: Any, X: Any, columns: Any, cotangent: Any) -> Any:
        _, pullback = exported.linearized(_arrays(blocks), np.asarray(X), _by_name(columns))
        products = pullback(np.asarray(cotangent))
        return [
            np.zeros_like(block) if product is None else product.astype(block.dtype)
            for product, block in zip(products, _arrays(blocks), strict=True)
        ]

    def product_in_X_on_host(blocks: Any, X: Any, columns: Any, cotangent: Any) -> Any:
        X = np.asarray(X)
        product = exported.gradient_in_X(_arrays(blocks), X, _by_name(columns), np.asarray(cotangent))
        return product.astype(X.dtype)

    def value(blocks: Any, X: Any, columns: Any) -> Any:
        shape = () if exported.is_loss else _shape_of_prediction(exported, blocks, X, columns)
        result = jax.ShapeDtypeStruct(shape, jnp.result_type(*blocks))
        return jax.pure_callback(on_host, result, blocks, X, columns, vmap_method="sequential")

    def forward(blocks: Any, X: Any, columns: Any) -> Any:
        for name, column in columns.items():
            if column.perturbed:
                raise ValueError(
                    f"The derivative with respect to {name} is not available. Use jax.lax.stop_gradient({name})."
                )
        if X.perturbed:
            exported.require_vjp_X()
        given = [block.value for block in blocks], X.value, {name: column.value for name, column in columns.items()}
        return value(*given), (*given, () if X.perturbed else None)

    def backward(kept: Any, cotangent: Any) -> Any:
        *given, in_X = kept
        blocks, X, columns = given
        if isinstance(cotangent, SymbolicZero):
            cotangent = jnp.zeros(cotangent.shape, cotangent.dtype)
        like = [jax.ShapeDtypeStruct(block.shape, block.dtype) for block in blocks]
        products = jax.pure_callback(product_on_host, like, *given, cotangent, vmap_method="sequential")
        product_in_X = None
        if in_X is not None:  # a tree without leaves: whether it is one is known under jit too
            like_X = jax.ShapeDtypeStruct(X.shape, X.dtype)
            product_in_X = jax.pure_callback(product_in_X_on_host, like_X, *given, cotangent, vmap_method="sequential")
        return products, product_in_X, dict.fromkeys(columns)

    differentiable: Any = jax.custom_vjp(value)
    differentiable.defvjp(forward, backward, symbolic_zeros=True)
    return differentiable  # type: ignore[no-any-return]


def _shape_of_prediction(exported: Exported, blocks: Any, X: Any, columns: Any) -> tuple[int, ...]:
    """Return the shape of a prediction, from one for rows of zeros if X is not known yet."""
    probes = [np.asarray(block, np.float64) for block in exported.blocks()]

    def known(array: Any) -> np.ndarray:
        is_symbol = isinstance(array, jax.core.Tracer)
        return np.zeros(array.shape, array.dtype) if is_symbol else np.asarray(array)

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape: tuple[int, ...] = exported.value(
            probes, known(X), {name: known(column) for name, column in columns.items()}
        ).shape
    return shape


def _arrays(blocks: Any) -> list[np.ndarray]:
    return [np.asarray(block) for block in blocks]


def _by_name(columns: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(column) for name, column in columns.items()}
