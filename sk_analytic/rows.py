"""Where rows live: epochs, shuffling, gathering.

`ArrayRows` holds arrays in memory and hands out batches; every random number comes from a position
(purpose, epoch, step) under the seed of the fit, so that a repeat or a resume meets the same rows.
"""

import numpy as np

# Purposes of random numbers, the first entry of a position.
INIT, SHUFFLE, CALLABLE, CHECK, MONITOR, CHUNKS, HELD_OUT = range(7)

_Parts = tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]  # X, columns, weights

GATHERED_BYTES = 1 << 18  # rows of several batches are gathered at once, up to what stays in the cache


def generator(seed, *position):
    """Return the generator of a position under a seed: always the same numbers, whatever ran before."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=position))


class Batch:
    """Some rows: X, the columns that go with them by name, and their weights.

    Parameters
    ----------
    X : array of shape (n, n_features)
        Read-only.
    columns : dict of str to array
        ``y`` and further row-wise data, read-only.
    sample_weight : ndarray of shape (n,) or None
        Scaled as the objective needs them.
    position : tuple
        Seed, purpose, epoch and step of the generator that ``rng`` stands for.
    """

    __slots__ = ("X", "columns", "n", "position", "sample_weight")

    def __init__(self, X, columns, sample_weight=None, position=(0, CALLABLE, 0, 0)):
        self.X, self.columns, self.sample_weight, self.position = X, columns, sample_weight, position
        self.n = X.shape[0]

    def argument(self, name):
        """Return what a callable receives under a name."""
        if name == "rng":
            return generator(*self.position)
        if name == "sample_weight":
            weight = self.sample_weight
            return np.ones(self.n, self.X.dtype) if weight is None else weight
        if name == "X":
            return self.X
        return self.columns[name]

    @property
    def y(self):
        """The targets, or None where there are none."""
        return self.columns.get("y")

    @property
    def is_empty(self):
        """Whether nothing is to be learned here: no rows, or none with a weight."""
        return not self.n or (self.sample_weight is not None and not self.sample_weight.any())

    def with_columns(self, columns, position):
        """Return the same rows with more that callables can receive by name, at another position."""
        return Batch(self.X, {**self.columns, **columns}, self.sample_weight, position)

    def astype(self, dtype):
        """Return the batch with its floating arrays in another dtype."""

        def cast(array):
            return array.astype(dtype) if np.dtype(array.dtype).kind == "f" else array

        columns = {name: cast(column) for name, column in self.columns.items()}
        weight = None if self.sample_weight is None else cast(self.sample_weight)
        return Batch(cast(self.X), columns, weight, self.position)


class ArrayRows:
    """Rows of arrays in memory.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Never copied as a whole and never written to.
    columns : dict of str to ndarray
        Arrays with a row for each row of X.
    sample_weight : ndarray of shape (n_samples,) or None
        Scaled once by the caller.
    batch_size : int, default=None
        Rows of a batch; all by default.
    shuffle : bool, default=False
        Whether each epoch draws a new order.
    seed : int, default=0
        Seed of the fit.
    place : tuple of int, default=()
        Where these rows stand among others: part of the position that their order is drawn from.
    """

    def __init__(self, X, columns, sample_weight=None, *, batch_size=None, shuffle=False, seed=0, place=()):
        self.n_samples = X.shape[0]
        self.batch_size = min(batch_size or self.n_samples, self.n_samples)
        self.steps_per_epoch = -(-self.n_samples // self.batch_size) if self.n_samples else 0
        self.shuffle = shuffle and self.steps_per_epoch > 1
        self.seed, self.place = seed, place
        self._names = tuple(columns)
        arrays = [X, *columns.values()] + ([] if sample_weight is None else [sample_weight])
        self._arrays = [_read_only(array) for array in arrays]
        self._weighted = sample_weight is not None
        self._order_of = self._gathered = None  # epoch of the order, and what of it is in the buffers
        self._buffers: list[np.ndarray] = []

    @property
    def sum_of_weights(self):
        """Sum of the weights of all rows; their number where none are weighted."""
        return float(self._arrays[-1].sum()) if self._weighted else float(self.n_samples)

    def partial(self, objective, theta, epoch, step):
        """Return the objective's contribution of one batch."""
        return objective.partial(theta, self.batch(epoch, step))

    def batch(self, epoch, step):
        """Return the rows of a step; valid until the next call."""
        start = step * self.batch_size
        stop = min(start + self.batch_size, self.n_samples)
        if self.shuffle:
            parts = self._shuffled(epoch, step, stop - start)
        else:
            parts = self._parts([array[start:stop] for array in self._arrays])
        return Batch(*parts, position=(self.seed, CALLABLE, epoch, step))

    @property
    def everything(self):
        """All rows as one batch of views."""
        return Batch(*self._parts(self._arrays), position=(self.seed, CALLABLE, 0, 0))

    @property
    def first(self):
        """The rows that `init` and the gradient check look at: these."""
        return self

    def map(self, function):
        """Return what a function says of all rows, in a list with an entry for each batch that they come in: one."""
        return [function(self.everything)]

    def sample(self, n_batches, purpose, batch_size=None):
        """Return a fixed random sample of the rows that have a weight, in batches of the shapes that training uses.

        Their weights are scaled so that the mean over the sample stands for that over all rows.

        Parameters
        ----------
        n_batches : int
            How many batches; all such rows if there are no more.
        purpose : int
            What for: the position of the generator that draws them.
        batch_size : int, default=None
            Rows of a batch, if not those of training.

        Returns
        -------
        batches : list of Batch
            Copies, valid for good.
        """
        chosen = self.weighted
        share = len(chosen) / max(1, self.n_samples)
        size = min(batch_size or self.batch_size, self.n_samples)
        chosen = chosen[draw(len(chosen), n_batches * size, self.seed, purpose)]
        return sampled(self.take(chosen), size, share, (self.seed, purpose))

    @property
    def weighted(self):
        """The numbers of the rows that have a weight."""
        return np.flatnonzero(self._arrays[-1]) if self._weighted else np.arange(self.n_samples)

    def take(self, rows):
        """Return copies of some rows: X, the columns by name, the weights or None."""
        return self._parts([array[rows] for array in self._arrays])

    def _parts(self, arrays) -> _Parts:
        """Tell apart what stands side by side in ``_arrays``: X, the columns by name, the weights or None."""
        X, *columns = arrays
        weight = columns.pop() if self._weighted else None
        return X, dict(zip(self._names, columns, strict=True)), weight

    def _shuffled(self, epoch, step, n) -> _Parts:
        """The parts of a step, views on gathered rows; those of several steps are gathered at once."""
        if not self._buffers:
            self._allocate()
        if self._order_of != epoch:
            self._order = generator(self.seed, SHUFFLE, epoch, *self.place).permutation(self.n_samples)
            self._order_of, self._gathered = epoch, None
        group, place = divmod(step, self._steps_at_once)
        if self._gathered != group:
            rows = self._order[group * self._rows_at_once : (group + 1) * self._rows_at_once]
            for array, buffer in zip(self._arrays, self._buffers, strict=True):
                _gather(array, rows, buffer[: len(rows)])
            self._gathered = group
        if n < self.batch_size:  # the last, short batch
            return self._parts([view[:n] for view in self._views[place]])
        return self._batches[place]

    def _allocate(self):
        X = self._arrays[0]
        row_bytes = max(1, X[:1].nbytes)
        self._steps_at_once = int(np.clip(GATHERED_BYTES // (row_bytes * self.batch_size), 1, self.steps_per_epoch))
        self._rows_at_once = self._steps_at_once * self.batch_size
        self._buffers = [np.empty((self._rows_at_once, *a.shape[1:]), a.dtype) for a in self._arrays]
        shown = [_read_only(buffer) for buffer in self._buffers]
        starts = range(0, self._rows_at_once, self.batch_size)
        self._views = [[buffer[i : i + self.batch_size] for buffer in shown] for i in starts]
        self._batches = [self._parts(views) for views in self._views]


def draw(n, n_drawn, seed, purpose):
    """Return some of the numbers below n without repetition, by the generator of a purpose; all of them in order."""
    return generator(seed, purpose).choice(n, n_drawn, replace=False) if n_drawn < n else np.arange(n)


def sampled(parts, size, share, position):
    """Return drawn rows as batches of a size.

    ``share`` is that of the rows which have a weight, and may be drawn, among all.
    """
    X, columns, sample_weight = parts
    if sample_weight is not None:
        sample_weight = sample_weight * np.asarray(share, sample_weight.dtype)

    def batch(step):
        part = slice(step * size, (step + 1) * size)
        weight = None if sample_weight is None else _read_only(sample_weight[part])
        named = {name: _read_only(column[part]) for name, column in columns.items()}
        return Batch(_read_only(X[part]), named, weight, (*position, 0, step))

    return [batch(step) for step in range(max(1, -(-X.shape[0] // max(1, size))))]


def _gather(array, rows, out):
    """Write some rows of an array into another; what is not C-contiguous `np.take` would copy as a whole."""
    if array.flags.c_contiguous:
        np.take(array, rows, axis=0, out=out, mode="clip")
    else:
        out[...] = array[rows]


def _read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view
