"""Constraints on θ: bounds, maps and fixed entries, translated from the user's names to the vector that training moves.

`Mapped` is a θ whose vector differs from the user's parameters: an optimizer moves z, the user's functions receive
x = T(z), and every gradient with respect to x is pulled back to one with respect to z in a single place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .equality import is_same
from .exceptions import ParameterStructureError
from .finite_differences import central
from .maps import MAPS, ElementwiseMap, Map, get_map
from .parameters import Layout, Parameters
from .trust import trusted
from .typing import Array

MANY = 1000  # entries of a block, for a matrix of that size
STEP, WRONG = (
    1e-5,
    1e-4,
)  # of the comparison of a pullback with differences: the step, and the tolerance beyond rounding


@trusted
class Held(Map):
    """Map of a block in which some entries are fixed; the others are moved, directly or by a map.

    Parameters
    ----------
    start : ndarray
        Values of the block.
    free : ndarray of bool
        Mask of the entries that are moved.
    map : ElementwiseMap or None
        Map of these entries.
    """

    def __init__(self, start: Array, free: Array, map: ElementwiseMap | None) -> None:
        self.start = start
        self.free = free
        self.map = map

    def constrain(self, z: Array) -> Array:
        x = self.start.astype(z.dtype)
        x[self.free] = z if self.map is None else self.map.constrain(z)
        return x

    def unconstrain(self, x: Array) -> Array:
        return x[self.free] if self.map is None else self.map.unconstrain(x[self.free])

    def pullback(self, z: Array, gradient: Array) -> Array:
        pulled = gradient[self.free]
        return pulled if self.map is None else self.map.pullback(z, pulled)

    def tangent(self, direction: Array) -> Array:
        return np.where(self.free, direction, 0)

    def pull_rows(self, z: Array, rows: Array) -> Array:
        pulled = rows[:, self.free.ravel()]
        return pulled if self.map is None else self.map.pull_rows(z, pulled)


def _of_the_user(map: Map) -> Map | None:
    """The map that the user gave for a block, or None; with fixed entries, that of the others."""
    return map.map if isinstance(map, Held) else map


@trusted
class MappedBlock(NamedTuple):
    """A block of θ under a map.

    Attributes
    ----------
    place : int
        Its index.
    map : Map
    limits : tuple (low, high) of ndarray of the block's shape, or None
        Of x, where there are bounds: z may be on one, and rounding leave x beside it.
    """

    place: int
    map: Map
    limits: tuple[Array, Array] | None


@trusted
class Mapped(Parameters):
    """θ under maps: the vector z that an optimizer writes, and the user's structure x, computed from it when read.

    Parameters
    ----------
    layout : Layout
        Of z: the user's names and structure, shapes of its own.
    vector : ndarray of shape (layout.size,)
        z; not copied.
    limits : tuple (low, high) of ndarray or None
        Of z.
    given : Layout
        Of x.
    mapped : tuple of MappedBlock
        The blocks in which z is not x.
    """

    __slots__ = ("_apart", "_given", "_gradient", "_mapped", "_moves", "_pulls", "_runs", "_structure", "_x", "_z")

    is_mapped = True

    def __init__(
        self,
        layout: Layout,
        vector: Array,
        limits: tuple[Array, Array] | None,
        given: Layout,
        mapped: tuple[MappedBlock, ...],
    ) -> None:
        self.layout, self.vector, self.limits = layout, vector, limits
        self._given, self._mapped = given, tuple(MappedBlock(*block) for block in mapped)
        self._x, self._gradient = np.empty(given.size, given.dtype), np.empty(layout.size, layout.dtype)
        self._structure = given.views(self._x)
        self._apart = list(_runs(layout, given, self.mapped_blocks))
        self._runs = self._views_on_runs(vector, self._x)
        self._z, x = layout.blocks(vector), given.blocks(self._x)
        for z in self._z:
            z.flags.writeable = False
        self._moves = [
            (block.map.constrain, self._z[block.place], x[block.place], *_edges(block, given.dtype))
            for block in self._mapped
        ]
        self._pulls: Any = None, (), ()

    def __reduce__(self) -> tuple[Any, ...]:
        return Mapped, (self.layout, self.vector, self.limits, self._given, self._mapped)

    def _views_on_runs(self, moved: Array, given: Array) -> list[tuple[Array, Array]]:
        """Views on the blocks that are not mapped, of z and x or of gradients by them."""
        return [(moved[here], given[there]) for here, there in self._apart]

    @property
    def structure(self) -> Any:
        """The user's structure of read-only views; each access updates them from z."""
        for z, x in self._runs:
            x[...] = z
        with np.errstate(over="ignore"):  # what is not finite is refused where it arrives
            for constrain, z, x, least, most in self._moves:
                x[...] = constrain(z)
                if least is not None:
                    np.maximum(x, least, out=x)
                if most is not None:
                    np.minimum(x, most, out=x)
        return self._structure

    def _update(self) -> None:
        """Update x from z."""
        _ = self.structure

    def to_read(self) -> Any:
        self._update()
        return self._given.views(self._x)

    def to_structure(self) -> Any:
        return self.as_given.to_structure()

    def at(self, vector: Array) -> Mapped:
        return Mapped(self.layout, vector, self.limits, self._given, self._mapped)

    def astype(self, dtype: DTypeLike) -> Mapped:
        plain = super().astype(dtype)
        return Mapped(plain.layout, plain.vector, plain.limits, self._given.astype(dtype), self._mapped)

    @property
    def as_given(self) -> Parameters:
        self._update()
        return Parameters(self._given, self._x.copy())

    def is_like(self, other: Parameters) -> bool:
        return isinstance(other, Mapped) and self.layout == other.layout and is_same(self._mapped, other._mapped)

    def entered(self, vector: Array) -> Mapped:
        x, z = self._given.blocks(vector), np.empty(self.layout.size, self.layout.dtype)
        by_index = {block.place: block for block in self._mapped}
        for index, block in enumerate(self.layout.blocks(z)):
            map = by_index[index].map if index in by_index else None
            block[...] = _entered(self.layout.names[index], x[index], map)
        return self.at(z)

    def block(self, index: int) -> Array:
        self._update()
        return self._x[self._given.slices[index]]

    def pulled_back(self, gradient: Array) -> Array:
        known, runs, pulls = self._pulls
        if known is not gradient:
            by_z, by_x = self.layout.blocks(self._gradient), self._given.blocks(gradient)
            runs = self._views_on_runs(self._gradient, gradient)
            places = [(block.map.pullback, block.place) for block in self._mapped]
            pulls = [(pullback, self._z[place], by_x[place], by_z[place]) for pullback, place in places]
            self._pulls = gradient, runs, pulls
        for pulled, given in runs:
            pulled[...] = given
        for pullback, z, given, pulled in pulls:
            pulled[...] = pullback(z, given)
        return self._gradient

    def block_pulled_back(self, index: int, gradient: Array) -> Array:
        map, z = self._map_of(index)
        if map is None:
            return gradient
        pulled: Array = map.pull_rows(z, np.atleast_2d(gradient))
        return pulled if gradient.ndim == 2 else pulled[0]

    @property
    def mapped_alone(self) -> Array:
        alone = np.zeros(self._given.size, dtype=bool)
        for index, map, _ in self._mapped:
            alone[self._given.slices[index]] = isinstance(_of_the_user(map), ElementwiseMap)
        return alone

    def moved_by(self, directions: Array) -> Array:
        moved = np.zeros((len(directions), self._given.size))
        for here, there in self._apart:
            moved[:, there] = directions[:, here]
        for block in self._mapped:
            size = math.prod(self._given.shapes[block.place])
            slopes = block.map.pull_rows(self._z[block.place], np.eye(size))
            moved[:, self._given.slices[block.place]] = directions[:, self.layout.slices[block.place]] @ slopes.T
        return moved

    def stretching(self, index: int) -> Any:
        (map, z), size = self._map_of(index), math.prod(self._given.shapes[index])
        return 1.0 if map is None or size > MANY else np.linalg.norm(map.pull_rows(z, np.eye(size)), axis=0)

    @property
    def mapped_blocks(self) -> set[int]:
        return {block.place for block in self._mapped}

    @property
    def limits_as_given(self) -> tuple[Array, Array]:
        low, high = np.full(self._given.size, -np.inf), np.full(self._given.size, np.inf)
        if self.limits is not None:
            for here, there in self._apart:
                low[there], high[there] = self.limits[0][here], self.limits[1][here]
        for block in self._mapped:
            if block.limits is not None:
                where = self._given.slices[block.place]
                low[where], high[where] = (np.ravel(limit) for limit in block.limits)
        return low, high

    def spread(self, distance: Array) -> Array:
        whole = np.ones(self.layout.size)
        for here, there in self._apart:
            whole[here] = super().spread(1.0)[here] * distance[there]  # type: ignore[arg-type]
        for index, map, _ in self._mapped:
            of_x, where = distance[self._given.slices[index]], self.layout.slices[index]
            is_held = isinstance(map, Held)
            of_z = of_x[np.ravel(map.free)] if is_held else of_x
            whole[where] = of_z if of_z.size == where.stop - where.start else of_z.mean()
            if is_held and map.map is None:
                whole[where] *= super().spread(1.0)[where]  # type: ignore[arg-type]
        return whole

    def _map_of(self, index: int) -> tuple[Any, Any]:
        """The map of a block, and its z; None for both if it has none."""
        return next(((block.map, self._z[index]) for block in self._mapped if block.place == index), (None, None))

    def tangent(self, direction: Array) -> Array:
        direction = direction.copy()
        blocks = self._given.blocks(direction)
        for index, map, _ in self._mapped:
            blocks[index][...] = map.tangent(blocks[index])
        return direction


def _edges(block: MappedBlock, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The smallest and largest values a block can take: its bounds, and the floats next to its map's limits.

    None if no entry has such an end.
    """
    inner = _of_the_user(block.map)
    if not isinstance(inner, ElementwiseMap) or (inner is not block.map and any(map(np.ndim, inner.domain))):
        return block.limits or (None, None)
    tiny = np.finfo(dtype).tiny
    low, high = (np.asarray(limit, dtype) for limit in inner.domain)
    least, most = np.nextafter(low, high), np.nextafter(high, low)
    least, most = np.where(low == 0, tiny, least), np.where(high == 0, -tiny, np.where(np.isinf(high), high, most))
    least = np.where(np.isinf(low), low, least)
    if isinstance(block.map, Held):  # what is held may be where the map cannot go
        least, most = np.where(block.map.free, least, -np.inf), np.where(block.map.free, most, np.inf)
    if block.limits is not None:
        least, most = np.maximum(least, block.limits[0]), np.minimum(most, block.limits[1])
    ends = least.astype(dtype), most.astype(dtype)
    return tuple(None if np.isinf(end).all() else end for end in ends)  # type: ignore[return-value]


def _runs(layout: Layout, given: Layout, mapped: set[int]) -> Iterator[tuple[slice, slice]]:
    """Yield the slices, in z and in x, of neighboring blocks that are not mapped."""
    unmapped = (index for index in range(len(layout.names)) if index not in mapped)
    for _, run in itertools.groupby(enumerate(unmapped), lambda pair: pair[1] - pair[0]):
        indices = [index for _, index in run]
        first, last = indices[0], indices[-1]
        yield tuple(slice(one.slices[first].start, one.slices[last].stop) for one in (layout, given))  # type: ignore[misc]


class Fixed(NamedTuple):
    """The parameters and entries that are not trained.

    Attributes
    ----------
    blocks : tuple of str
        Whole blocks, by name.
    entries : dict of {int: ndarray of bool}
        Masks of fixed entries, by the index of the block.
    """

    blocks: tuple[str, ...]
    entries: dict[int, Array]


def read_fixed(layout: Layout, fixed: Any) -> Fixed:
    """Return the ``fixed`` argument of the user, names of parameters or a dict of masks, in one form.

    Raises
    ------
    ParameterStructureError
        If a parameter does not exist, or a mask is not Boolean or has the wrong shape.
    """
    if not isinstance(fixed, Mapping):
        return Fixed(tuple(layout.names[index] for index in layout.indices(fixed, "fixed")), {})
    masks = {}
    for index, mask in layout.of_blocks(fixed, "fixed").items():
        given, shape = np.asarray(mask), layout.shapes[index]
        if given.dtype != bool or given.shape not in ((), shape):
            raise ParameterStructureError(
                f"fixed has a mask of dtype {given.dtype} and shape {given.shape} for parameter "
                f"{layout.names[index]!r}; expected bool of shape {shape} with True for the entries to fix, or one "
                "bool for all."
            )
        masks[index] = np.broadcast_to(given, shape)
    whole = tuple(layout.names[index] for index, mask in masks.items() if mask.all())
    return Fixed(whole, {index: mask for index, mask in masks.items() if mask.any() and not mask.all()})


def constrained(theta: Parameters, fixed: Any, bounds: Any, reparametrize: Any) -> Parameters:
    """Return θ as training moves it, given θ in the user's parameters.

    Parameters
    ----------
    theta : Parameters
    fixed, bounds, reparametrize
        As the estimators take them.

    Returns
    -------
    theta : Parameters
        With limits if there are bounds, and `Mapped` if there are maps or fixed entries.

    Raises
    ------
    ParameterStructureError
        If a parameter does not exist, starts outside its bounds or the range of its map, or has constraints that
        cannot be combined.
    """
    layout, x = theta.layout, theta.layout.blocks(theta.vector)
    blocks, entries = read_fixed(layout, fixed)
    maps = _maps(layout, reparametrize)
    limits = {} if bounds is None else dict(_limits(theta, bounds))
    for index, mask in entries.items():
        inner = maps.get(index)
        if inner is not None and not isinstance(inner, ElementwiseMap):
            raise ParameterStructureError(
                f"fixed holds some entries of parameter {layout.names[index]!r}, but {inner!r} couples its entries. "
                "Fix the whole parameter, or none of its entries."
            )
        maps[index] = Held(x[index].copy(), ~mask, inner)
    held = layout.indices(blocks, "fixed")
    maps = {index: map for index, map in maps.items() if index not in held}
    if not maps:
        return theta if not limits else Parameters(layout, theta.vector, _whole(layout, limits))
    z = [_entered(layout.names[index], block, maps.get(index)) for index, block in enumerate(x)]
    moved = Layout(layout.tree, layout.names, tuple(np.shape(block) for block in z), layout.dtype, layout.scalars)
    mapped, limits_of_z = [], {}
    for index, (low, high) in limits.items():
        limits_of_z[index] = _through(layout.names[index], maps.get(index), x[index], low, high)
    for index, map in sorted(maps.items()):
        own = limits.get(index) if isinstance(_of_the_user(map), ElementwiseMap) else None
        mapped.append(MappedBlock(index, map, own))
    vector = np.concatenate([np.ravel(block) for block in z]).astype(layout.dtype, copy=False)
    whole = _whole(moved, limits_of_z) if limits else None
    return Mapped(moved, vector if whole is None else np.clip(vector, *whole), whole, layout, tuple(mapped))


def _maps(layout: Layout, reparametrize: Any) -> dict[int, Map]:
    """The maps of blocks by index."""
    maps = {name: get_map(given) for name, given in _items(reparametrize, "reparametrize", "maps").items()}
    for map in maps.values():
        map.check()
    return layout.of_blocks(maps, "reparametrize")


def _items(given: Any, argument: str, of: str) -> Mapping[Any, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{argument} must be a dict of parameter names and their {of}; got {given!r}.")
    return given


def _entered(name: str, block: Array, map: Map | None) -> Array:
    """Return a block as training moves it, after a check of its map."""
    if map is None:
        return block
    shown = _of_the_user(map)
    try:
        with np.errstate(all="ignore"):
            z = np.asarray(map.unconstrain(block))
    except ValueError as error:
        raise ParameterStructureError(
            f"Parameter {name!r} {error} under reparametrize={{{name!r}: {shown!r}}}, but starts at {_shown(block)}. "
            "Change init, or remove the map."
        ) from error
    if not np.isfinite(z).all():
        raise ParameterStructureError(
            f"Parameter {name!r} starts at {_shown(block)}, for which {shown!r}.unconstrain is not finite. Change init."
        )
    if type(shown) not in MAPS.values() and shown is not None:
        _require_right(map, block, z, name)
    return z


def _require_right(map: Map, block: Array, z: Array, name: str) -> None:
    """Raise if a user-defined map does not undo itself, or its pullback is not the derivative."""
    shown = _of_the_user(map)
    z = z.astype(np.float64)
    back = np.asarray(map.constrain(z))
    size = max(1.0, float(np.abs(block).max(initial=0.0)))
    if back.shape != block.shape or not np.allclose(back, block, rtol=WRONG, atol=WRONG * size):
        raise ParameterStructureError(
            f"{shown!r} does not undo itself in parameter {name!r}: constrain(unconstrain(x)) is {_shown(back)} for x "
            f"= {_shown(block)}. Correct constrain or unconstrain."
        )
    rng = np.random.default_rng(0)
    gradient, direction = rng.normal(size=block.shape), rng.normal(size=z.shape)
    pulled = np.asarray(map.pullback(z, gradient))
    if pulled.shape != z.shape:
        raise ParameterStructureError(
            f"{shown!r}.pullback returned shape {pulled.shape} in parameter {name!r}; expected that of z, {z.shape}."
        )
    analytic = float(np.vdot(pulled, direction))
    numerical = float(np.vdot(central(lambda t: np.asarray(map.constrain(z + t * direction)), STEP), gradient))
    scale = float(np.linalg.norm(pulled) * np.linalg.norm(direction))
    if not abs(analytic - numerical) <= WRONG * max(scale, abs(numerical)):
        raise ParameterStructureError(
            f"{shown!r}.pullback is not the derivative of its constrain in parameter {name!r}: along a direction, "
            f"pullback gives {analytic:.6g} and finite differences give {numerical:.6g}."
        )


def _limits(theta: Parameters, bounds: Any) -> Iterator[tuple[int, tuple[Array, Array]]]:
    """Yield the bounds on the user's parameters: by index, a lower and an upper array."""
    layout = theta.layout
    for index, given in layout.of_blocks(_items(bounds, "bounds", "pairs (low, high)"), "bounds").items():
        shape, own = layout.shapes[index], layout.names[index]
        low, high = (
            _limit(limit, otherwise, own, shape, layout.dtype)
            for limit, otherwise in zip(_pair(given, own), (-np.inf, np.inf), strict=True)
        )
        if (low > high).any():
            where = _first(low > high)
            raise ParameterStructureError(
                f"bounds has low > high in parameter {own!r}{_entry(where)}: {low[where]:g} > {high[where]:g}."
            )
        _require_between(own, layout.blocks(theta.vector)[index], low, high, "Training starts")
        yield index, (low, high)


def require_inside(theta: Parameters, vector: Array) -> None:
    """Raise if a vector of the user's parameters lies outside the bounds of θ."""
    layout = theta.as_given.layout
    parts = (layout.blocks(part) for part in (vector, *theta.limits_as_given))
    for name, block, low, high in zip(layout.names, *parts, strict=True):
        _require_between(name, block, low, high, "params lies")


def _require_between(name: str, block: Array, low: Array, high: Array, what: str) -> None:
    outside = (block < low) | (block > high)
    if outside.any():
        where = _first(outside)
        raise ParameterStructureError(
            f"{what} outside the bounds of parameter {name!r}{_entry(where)}: {block[where]:g} is not between "
            f"{low[where]:g} and {high[where]:g}. Change init, or widen the bounds."
        )


def _pair(given: Any, name: str) -> tuple[Any, Any]:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ParameterStructureError(
            f"bounds must have a pair (low, high) for parameter {name!r}, each a number, an array or None; "
            f"got {given!r}."
        )
    low, high = given
    return low, high


def _limit(limit: Any, otherwise: float, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return a bound as an array of the block's shape and dtype."""
    try:
        array = np.asarray(otherwise if limit is None else limit, dtype=np.float64)
        array = np.broadcast_to(array, shape).astype(dtype)
    except (TypeError, ValueError) as error:
        raise ParameterStructureError(
            f"bounds has {limit!r} for parameter {name!r}; expected None, a number, or an array that can be broadcast "
            f"to {shape}."
        ) from error
    if np.isnan(array).any():
        raise ParameterStructureError(f"bounds has NaN for parameter {name!r}. Use None for no bound.")
    return array


def _through(name: str, map: Map | None, x: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Return bounds on x as bounds on z; x lies within them."""
    inner = map
    if isinstance(map, Held):
        x, low, high, inner = x[map.free], low[map.free], high[map.free], map.map
    if inner is None:
        return low, high
    if not isinstance(inner, ElementwiseMap):
        raise ParameterStructureError(
            f"bounds and reparametrize both name parameter {name!r}, but {inner!r} couples its entries, so bounds on "
            "them cannot be translated into bounds on what is trained. Remove one of the two."
        )
    found = []
    for limit, otherwise in ((low, -np.inf), (high, np.inf)):
        is_inside = (limit > inner.domain[0]) & (limit < inner.domain[1])
        z = inner.unconstrain(np.where(is_inside, limit, x))  # what is not inside the map never reaches
        found.append(np.where(is_inside, z, otherwise).astype(low.dtype))
    return found[0], found[1]


def _shown(block: Array) -> str:
    if not np.ndim(block):
        return f"{float(block):.4g}"
    return np.array2string(np.asarray(block), precision=4, threshold=6, edgeitems=2).replace("\n", "")


def _first(where: Array) -> tuple[int, ...]:
    """Return the index of the first entry that is True."""
    return tuple(int(place) for place in np.argwhere(where)[0])


def _entry(where: tuple[int, ...]) -> str:
    return f", entry {list(where)}" if where else ""


def _whole(layout: Layout, limits: Mapping[int, tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return the bounds of the blocks as bounds of the vector."""
    low, high = np.full(layout.size, -np.inf, layout.dtype), np.full(layout.size, np.inf, layout.dtype)
    for index, (least, most) in limits.items():
        low[layout.slices[index]], high[layout.slices[index]] = np.ravel(least), np.ravel(most)
    return low, high
