"""The text of an epoch's compiled function, for what the user's function of numba receives and returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..model.gradient_forms import LossAndGradient
from ..model.per_sample import OUT
from ..objective import Objective
from ..optimizers.engine.many_steps import ManyRuns, NotCompiledError
from ..optimizers.engine.numba_kernel import COMPILED, loop_lines, preamble
from ..parameters import Layout


class Constant(NamedTuple):
    """What the user's function receives in every step."""

    value: Any


class EpochSource:
    """Writes the function of an epoch.

    Its names: ``a0`` for arrays of all rows, ``b0`` for buffers of what is gathered of them and ``r0`` for read-only
    views of those, ``x0`` for arrays of a batch, ``k0`` for constants by position, ``s0_0`` for slots of a kernel,
    ``t0`` for tables of its coefficients.

    Parameters
    ----------
    objective : Objective
    layout : Layout
    kernels : sequence of ManyRuns
        Of the optimizer, each for a part of θ.
    received : sequence of str or Constant
        What the user's function is handed, by position.
    gathered : dict of str to int
        What changes with the batch, and its number of axes beside that of the rows.
    is_shuffled, is_weighted : bool
        Whether the rows are.
    is_totalled : bool
        Whether gradients are added up.
    returned : numba.types.Type
        What the user's function returns.
    """

    def __init__(
        self,
        objective: Objective,
        layout: Layout,
        kernels: Sequence[ManyRuns],
        received: Sequence[str | Constant],
        gathered: Mapping[str, int],
        *,
        is_shuffled: bool,
        is_weighted: bool,
        is_totalled: bool,
        returned: Any,
    ) -> None:
        self._objective, self._layout, self._kernels = objective, layout, kernels
        self._received, self._gathered, self._returned = received, gathered, returned
        self._is_shuffled, self._is_weighted, self._is_totalled = is_shuffled, is_weighted, is_totalled
        self._numbers = {name: number for number, name in enumerate(gathered)}
        self._has_loss = isinstance(objective.model.gradient_form, LossAndGradient)

    def written(self, signature: Sequence[Any], names: Sequence[str]) -> str:
        """Return the module whose ``kernel`` is the function, for arguments of some types and names.

        Raises
        ------
        NotCompiledError
            If something cannot be written for numba.
        """
        layout, kernels = self._layout, self._kernels
        lines = [*preamble(layout.dtype), f"real = numpy.{layout.dtype.name}"]
        lines += [f"# {kind}" for kind in signature]
        lines += ["", "@njit(error_model='numpy', nogil=True, fastmath={'reassoc', 'contract'})", "def square_of(g):"]
        lines += ["    square = 0.0", "    for i in range(g.size):", "        square += numpy.float64(g[i]) * g[i]"]
        lines += ["    return square", ""]
        for number, kernel in enumerate(kernels):
            loop = loop_lines(kernel.operations, f"kernel_{number}")
            if loop is None:
                raise NotCompiledError("a formula of the optimizer uses a function that cannot be compiled")
            lines += ["@njit(error_model='numpy', nogil=True)", *loop, ""]
        lines += [COMPILED, f"def kernel({', '.join(names)}):"]
        lines += [f"    {line}" for line in self._body()]
        return "\n".join([*lines, ""])

    def _body(self) -> Iterator[str]:
        is_per_sample = self._objective.model.gradient.is_per_sample
        yield "n_updates = 0"
        yield "for step in range(first, last):"
        lines = [
            "counts[0] = step",
            "begin = step * batch_size",
            "n = min(batch_size, n_samples - begin)",
            *(self._gathering() if self._is_shuffled else ()),
        ]
        for number in self._numbers.values():
            source = f"r{number}[place:place + n]" if self._is_shuffled else f"a{number}[begin:begin + n]"
            lines.append(f"x{number} = {source}")
        if self._is_weighted:
            weights = f"x{self._numbers['sample_weight']}"
            lines += ["weighs = False", "for i in range(n):", f"    if {weights}[i] != 0:", "        weighs = True"]
            lines += ["        break", "if not weighs:", "    counts[0] = step + 1", "    continue"]
        lines += self._of_samples() if is_per_sample else self._of_batch()
        lines += self._adjusted()
        lines.append("square = square_of(g)")
        lines += [f"if not -huge < square{' + loss' if self._has_loss else ''} < huge:", "    break"]
        if self._is_totalled:
            lines += ["for i in range(g.size):", "    total[i] += g[i] * real(n)"]
        for number, kernel in enumerate(self._kernels):
            slots = "".join(f", s{number}_{i}" for i in range(len(kernel.slots)))
            lines.append(f"kernel_{number}(g, theta{slots}, t{number}[n_updates], {kernel.start}, {kernel.stop})")
        lines += ["norm = numpy.sqrt(square)"]
        if self._has_loss:
            lines.append("sums[0] += loss * n")
        lines += ["sums[1] += norm * n", "if n_updates == 0:", "    sums[3] = norm"]
        if self._has_loss:
            lines.append("    sums[2] = loss")
        lines += ["n_updates += 1", "counts[0] = step + 1", "counts[1] = n_updates", "counts[2] += n"]
        yield from (f"    {line}" for line in lines)

    def _gathering(self) -> Iterator[str]:
        """Lines that gather the rows of some batches at once."""
        yield "place = (step - first) % at_once * batch_size"
        yield "if place == 0:"
        yield "    for i in range(min(at_once * batch_size, n_samples - begin)):"
        yield "        row = order[begin + i]"
        for number, n_axes in enumerate(self._gathered.values()):
            for axis in range(n_axes):
                yield f"        {'    ' * axis}for j{axis} in range(a{number}.shape[{axis + 1}]):"
            where = "".join(f", j{axis}" for axis in range(n_axes))
            yield f"        {'    ' * n_axes}b{number}[i{where}] = a{number}[row{where}]"

    def _handed(self, row: str = "") -> str:
        """The arguments of a call of the user's function."""
        handed = []
        for position, given in enumerate(self._received):
            if isinstance(given, Constant):
                handed.append(f"k{position}")
            elif given in ("params", OUT):
                handed.append(given)
            else:
                handed.append(f"x{self._numbers[given]}{row}")
        return ", ".join(handed)

    def _of_batch(self) -> Iterator[str]:
        """Lines that call the user's function and copy what it returns into g."""
        yield f"returned = gradient({self._handed()})"
        if self._has_loss:
            if len(_items(self._returned, tuple) or ()) != 2:
                raise NotCompiledError("it does not return a tuple (loss, grads)")
            loss, grads = _items(self._returned, tuple)
            yield f"loss = numpy.float64({_number(loss, 'returned[0]', 'the loss')})"
            if self._objective.reduction == "sum":
                yield "loss = loss / n"
            yield "grads = returned[1]"
        else:
            grads = self._returned
            yield "grads = returned"
        yield from self._copied(self._layout.tree, grads, "grads")
        if self._objective.reduction == "sum":
            yield "for i in range(g.size):"
            yield "    g[i] *= real(1.0 / n)"

    def _of_samples(self) -> Iterator[str]:
        """Lines that call the user's function for one sample after the other, and sum what it writes."""
        weight = f"x{self._numbers['sample_weight']}[row]" if self._is_weighted else ""
        yield "g[:] = zero"
        yield "loss = 0.0"
        yield "for row in range(n):"
        yield "    own[:] = zero"
        yield f"    returned = gradient({self._handed('[row]')})"
        yield "    for i in range(g.size):"
        yield f"        g[i] += {f'real({weight}) * ' if weight else ''}own[i]"
        if self._has_loss:
            value = _number(self._returned, "returned", "the loss")
            yield f"    loss += {f'numpy.float64({weight}) * ' if weight else ''}{value}"
        elif self._returned.name != "none":
            raise NotCompiledError("it returns a value in addition to writing to out")
        yield "for i in range(g.size):"
        yield "    g[i] /= real(n)"
        yield "loss /= n"

    def _adjusted(self) -> Iterator[str]:
        """Lines that clear the blocks that are fixed, and add the penalty."""
        for index in self._objective.fixed:
            where = self._layout.slices[index]
            yield f"g[{where.start}:{where.stop}] = zero"
        if self._objective.penalties:
            yield "penalty = 0.0"
        for number, (index, _) in enumerate(self._objective.penalties):
            where = self._layout.slices[index]
            yield f"for i in range({where.start}, {where.stop}):"
            yield f"    slope = alphas[{number}] * theta[i]"
            yield "    penalty += slope * theta[i]"
            if index not in self._objective.fixed:
                yield "    g[i] += slope"
        if self._objective.penalties and self._has_loss:
            yield "loss += 0.5 * penalty"

    def _copied(self, tree: Any, kind: Any, expression: str) -> Iterator[str]:
        """Lines that copy the leaves of a gradient, of a type of numba's, each after a look at its shape."""
        from numba import types

        if not isinstance(tree, int):
            if isinstance(tree, dict | list):
                raise NotCompiledError(f"the parameters are in a {type(tree).__name__}; use a tuple or named tuple")
            items = _items(kind, type(tree))
            if items is None or len(items) != len(tree):
                raise NotCompiledError(f"it returns {kind}; return a tuple or named tuple with the structure of params")
            for number, (branch, item) in enumerate(zip(tree, items, strict=True)):
                yield from self._copied(branch, item, f"{expression}[{number}]")
            return
        shape, start, name = self._layout.shapes[tree], self._layout.slices[tree].start, self._layout.names[tree]
        if not shape:
            yield f"g[{start}] = {_number(kind, expression, f'the gradient of {name!r}')}"
            return
        if not (isinstance(kind, types.Array) and kind.ndim == len(shape) and isinstance(kind.dtype, types.Float)):
            raise NotCompiledError(f"it returns {kind} for {name!r}; return a float array of shape {shape}")
        leaf = f"leaf_{tree}"
        yield f"{leaf} = {expression}"
        yield f"if {' or '.join(f'{leaf}.shape[{axis}] != {length}' for axis, length in enumerate(shape))}:"
        yield "    break"
        indices = [f"i{axis}" for axis in range(len(shape))]
        flat = "0"
        for axis, length in enumerate(shape):
            yield f"{'    ' * axis}for i{axis} in range({length}):"
            flat = f"i{axis}" if axis == 0 else f"({flat}) * {length} + i{axis}"
        yield f"{'    ' * len(shape)}g[{start} + {flat}] = {leaf}[{', '.join(indices)}]"


def _items(kind: Any, like: type) -> Any:
    """The types of the items of a tuple, of a class; None if it is none of that class."""
    from numba import types

    if not isinstance(kind, types.Tuple | types.UniTuple | types.NamedTuple | types.NamedUniTuple):
        return None
    own = getattr(kind, "instance_class", tuple)
    return tuple(kind) if own is like else None


def _number(kind: Any, expression: str, what: str) -> str:
    from numba import types

    if isinstance(kind, types.Float):
        return expression
    if isinstance(kind, types.Array) and kind.ndim == 0 and isinstance(kind.dtype, types.Float):
        return f"{expression}[()]"
    raise NotCompiledError(f"it returns {kind} as {what}; return a float")
