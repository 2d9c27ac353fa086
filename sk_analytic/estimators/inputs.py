"""Reading and validating the arguments of fit: plain records of arrays or of chunks.

`read_arrays` and `read_chunks` return the data as `ArrayData` or `ChunkData`. Both have the interface that
training needs: ``first``, ``split`` into training and held-out samples, and ``rows``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from ..callback_support import GivenRows, RemoteRows
from ..dask_collections import any_collection, in_memory, is_remote_list, refuse_collections
from ..data.arrays import ArrayRows
from ..data.batch import HELD_OUT, Batch, generator, identity
from ..data.chunks import Chunks, Source
from ..data.parts import Surveyed
from ..data.rows import Rows
from ..data.weights import AS_GIVEN, Extent, Scale, Weights, mean_of, y_that_counts
from ..elsewhere import TO_HOST, Place, entered, is_dispatched, on_host, place_of
from ..exceptions import noted
from ..model.argument_names import OF_VALIDATION
from ..model.metadata import of_validation, read_metadata, require_named
from ..typing import Array
from .samples import entered_as_in_fit, require_any
from .scoring import HeldOut
from .targets import ANEW, Targets

OF_X_VAL = "This concerns the validation set: X_val, y_val and their weights and metadata."
NOTHING_TO_VALIDATE = (None, None, None)  # X_val, y_val, sample_weight_val


@dataclass(frozen=True)
class ArrayData:
    """Validated arrays.

    Attributes
    ----------
    X : ndarray or CSR matrix
    columns : dict of str to ndarray
        ``y`` and metadata.
    sample_weight : Weights or None
    targets : Targets
        What y is.
    features : dict
        ``n_features_in_``, and ``feature_names_in_`` if X has names.
    given : GivenRows
        The same in the containers of the user.
    validation : ArrayData or None
        Samples to score that were passed.
    scale : Scale
        What weights are multiplied with.
    place : Place or None
        Where X was, if it came as an array of another namespace; y and the weights move there with the rows.
    """

    X: Any
    columns: dict[str, Array]
    sample_weight: Weights | None
    targets: Targets
    features: dict[str, Any]
    given: GivenRows
    validation: ArrayData | None = None
    scale: Scale = AS_GIVEN
    place: Place | None = None

    @property
    def first(self) -> Batch:
        """The samples that `init` sees: all."""
        return self.rows().everything

    @property
    def mean_row(self) -> Array | None:
        """The mean of X, unless `init` sees all rows."""
        return None

    @property
    def mean_target(self) -> Array:
        """The mean of y that `Targets.total` speaks of."""
        return mean_of([self.targets.total(self.columns["y"], self.sample_weight)], [self.extent])

    def rows(self, **batching: Any) -> ArrayRows:
        """Return them in batches; see `ArrayRows`."""
        return ArrayRows(self.X, self.columns, self._weight, **batching)

    @cached_property
    def _weight(self) -> Array | None:
        return None if self.sample_weight is None else self.sample_weight.scaled(self.scale, self.X.dtype)

    @property
    def extent(self) -> Extent:
        """How many samples there are, and how much weight they have."""
        return Extent.of(self.X.shape[0], self.sample_weight)

    def on_host(self) -> ArrayData:
        """Return the same with X as a NumPy array."""
        return replace(self, X=on_host(self.X))

    def scaled(self) -> ArrayData:
        """Return the same with weights of mean 1."""
        return replace(self, scale=self.extent.to_mean_one())

    def is_a_step(self, batch_size: int | None) -> bool:
        """Whether a batch of a size, or None for the largest, has all samples."""
        return batch_size is None or batch_size >= self.X.shape[0]

    def counted(self) -> ArrayData:
        """Return the same without samples of weight 0."""
        weights = self.sample_weight
        if weights is None or weights.values.all():
            return self
        self.given.chosen = weights.counted
        return self.take(weights.counted).scaled()

    def take(self, samples: Array) -> ArrayData:
        """Return some of the samples."""
        named = {name: column[samples] for name, column in self.columns.items()}
        weight = None if self.sample_weight is None else self.sample_weight.take(samples)
        return replace(self, X=self.X[samples], columns=named, sample_weight=weight)

    def to_score(self, settings: Any, seed: int, *, given: bool) -> HeldOut:
        """Return the samples as those that are scored; raise if there are too few."""
        extent = self.extent
        require_scorable(settings, self.targets, extent, given=given)
        return HeldOut(replace(self, scale=extent.largest).rows(seed=seed), extent.exponent)

    def split(self, settings: Any, seed: int) -> tuple[ArrayData, HeldOut | None]:
        """Return the samples to train on, with weights of mean 1, and those to be scored or None.

        What is held out is drawn from the samples that have a weight; those without are in neither part then.
        """
        scaled = self.scaled()
        if self.validation is not None:
            return scaled, self.validation.to_score(settings, seed, given=True)
        if not settings.early_stopping:
            return scaled, None
        weights = self.sample_weight
        counted = np.arange(self.X.shape[0]) if weights is None else weights.counted
        strata = self.targets.strata(self.columns.get("y")) if settings.shuffle else None
        try:
            train, held = train_test_split(
                counted,
                test_size=settings.validation_fraction,
                random_state=seed,
                shuffle=settings.shuffle,
                stratify=None if strata is None else strata[counted],
            )
        except ValueError as error:
            error.add_note(
                f"early_stopping=True holds out validation_fraction={settings.validation_fraction} of the "
                f"{len(counted)} samples{'' if weights is None else ' with nonzero weight'}."
            )
            raise
        held_out = self.take(held).to_score(settings, seed, given=False)
        self.given.chosen = train
        return self.take(train).scaled(), held_out

    def unscaled(self, is_first: bool) -> ArrayData:
        """Return the same for `partial_fit`, which takes weights as they are; raise if that cannot be."""
        weight = self._weight
        if weight is None:
            return self
        if is_first:
            self.scaled()  # raises if all are zero
        if np.isinf(weight).any():
            raise ValueError(
                f"sample_weight is too large for {self.X.dtype}, and partial_fit does not rescale it. Divide it by its "
                "mean over all samples."
            )
        return self

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the data, by name: shape, dtype and a checksum of the values."""
        found: dict[str, Any] = identity(self.X, self.columns, self.sample_weight)
        return found | _identity_beside(self)


def _sum_of_rows(batch: Batch) -> tuple[Array, float]:
    weight = np.ones(batch.n) if batch.sample_weight is None else batch.sample_weight.astype(np.float64)
    return weight @ batch.X.astype(np.float64, copy=False), float(weight.sum())


def _identity_beside(data: ArrayData | ChunkData) -> dict[str, Any]:
    """What identifies the names of the columns and the samples to score, if there are any."""
    found: dict[str, Any] = {**data.targets.identity}
    if "feature_names_in_" in data.features:
        found["columns"] = ", ".join(data.features["feature_names_in_"])
    if data.validation is not None:
        found |= {f"{name}{OF_VALIDATION}": value for name, value in data.validation.fingerprint().items()}
    return found


@dataclass(frozen=True)
class ChunkData:
    """Chunks that were read once: counted and validated.

    Attributes
    ----------
    chunks : Surveyed
    numbers : list of int
        Of the chunks to train on.
    targets, features, validation, scale : see `ArrayData`
    only_counted : bool
        Whether rows of weight 0 are left out.
    """

    chunks: Surveyed
    numbers: Sequence[int]
    targets: Targets
    features: dict[str, Any]
    validation: ArrayData | None = None
    scale: Scale = AS_GIVEN
    given: GivenRows = GivenRows()
    only_counted: bool = False

    place = None

    @property
    def first(self) -> Batch:
        """The samples that `init` sees: those of the first chunk."""
        return self.rows().first.everything

    @property
    def mean_row(self) -> Array | None:
        """See `ArrayData`."""
        if len(self.numbers) == 1:
            return None
        sums = self.rows().map(_sum_of_rows)
        total: Array = sum(each for each, _ in sums) / sum(weight for _, weight in sums)  # type: ignore[assignment]
        return total

    @property
    def mean_target(self) -> Array:
        """See `ArrayData`."""
        surveys = [self.chunks.surveys[number] for number in self.numbers]
        return mean_of([survey.total for survey in surveys], [survey.extent for survey in surveys])

    def rows(self, **batching: Any) -> Rows:
        """Return the chunks in batches; see `ChunkRows`."""
        return self.chunks.rows(self.numbers, scale=self.scale, only_counted=self.only_counted, **batching)

    def is_a_step(self, batch_size: int | None) -> bool:
        """Whether a batch of a size, or None for the largest, has all samples: a batch lies within a chunk."""
        return len(self.numbers) == 1 and (batch_size is None or batch_size >= self.extent.n)

    def counted(self) -> ChunkData:
        """Return the same without samples of weight 0."""
        extent = self.extent
        if extent.n_weighted == extent.n:
            return self
        return replace(self, only_counted=True, scale=extent.counted.to_mean_one())

    def split(self, settings: Any, seed: int) -> tuple[ArrayData | ChunkData, HeldOut | None]:
        """Return the chunks to train on, with weights of mean 1 over all of them, and those to be scored or None.

        Chunks without a row that has a weight are in neither part.
        """
        held_out: HeldOut | None = None
        self.extent.to_mean_one()  # raises if all weights are zero
        numbers = [number for number in self.numbers if self.chunks.surveys[number].extent.n_weighted]
        if self.validation is not None:
            held_out = self.validation.to_score(settings, seed, given=True)
        elif settings.early_stopping and len(numbers) == 1:
            return self._as_arrays(numbers[0]).split(settings, seed)
        elif settings.early_stopping:
            numbers, held_out = self._hold_out(settings, numbers, seed)
        return replace(self, numbers=numbers, scale=self._extent(numbers).to_mean_one()), held_out

    @property
    def extent(self) -> Extent:
        """How many samples there are, and how much weight they have."""
        return self._extent(self.numbers)

    def _extent(self, numbers: Sequence[int]) -> Extent:
        return Extent.joined(self.chunks.surveys[number].extent for number in numbers)

    def scaled(self) -> ChunkData:
        """Return the same with weights of mean 1."""
        return replace(self, scale=self.extent.to_mean_one())

    def _hold_out(self, settings: Any, numbers: list[int], seed: int) -> tuple[list[int], HeldOut]:
        """Return the numbers of the chunks for training, and the others: drawn, or the last ones without shuffling."""
        n_held_out = math.ceil(settings.validation_fraction * len(numbers))
        if n_held_out == len(numbers):
            raise ValueError(
                f"early_stopping=True with validation_fraction={settings.validation_fraction} would hold out all of "
                f"the {n_held_out} chunks. Use more, smaller chunks, or a smaller validation_fraction."
            )
        if settings.shuffle:
            chosen = set(generator(seed, HELD_OUT).choice(numbers, n_held_out, replace=False).tolist())
        else:
            chosen = set(numbers[-n_held_out:])
        held = [number for number in numbers if number in chosen]
        extent = self._extent(held)
        require_scorable(settings, self.targets, extent)
        held_out = HeldOut(self.chunks.rows(held, scale=extent.largest, seed=seed), extent.exponent)
        return [number for number in numbers if number not in chosen], held_out

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the data: what the first pass noted of every chunk."""
        found: dict[str, Any] = {}
        for number in self.numbers:
            of_chunk = self.chunks.surveys[number].identity
            found |= {f"{name} of chunk {number}": value for name, value in of_chunk.items()}
        return found | _identity_beside(self)

    def _as_arrays(self, number: int) -> ArrayData:
        X, columns, weight = self.chunks.arrays(number)
        return ArrayData(X, columns, weight, self.targets, self.features, GivenRows())


@dataclass(frozen=True)
class PartitionData(ChunkData):
    """Chunks on the workers of a cluster, of which a share of the rows can be held out.

    Attributes
    ----------
    local_steps : int
        See `DaskRows`.
    """

    local_steps: int = 1
    given: GivenRows = RemoteRows()

    def rows(self, **batching: Any) -> Rows:
        by_minibatches = {"local_steps": self.local_steps} if "shuffle" in batching else {}
        return super().rows(**batching, **by_minibatches)

    def split(self, settings: Any, seed: int) -> tuple[ChunkData, HeldOut | None]:
        """Return the rows to train on, with weights of mean 1 over all of them, and those to be scored or None.

        Of every chunk a share is held out, of the rows that have a weight; those without are in neither part then.
        """
        if self.validation is not None or not settings.early_stopping:
            data, held_out = super().split(settings, seed)
            return data, held_out  # type: ignore[return-value]
        self.extent.to_mean_one()  # raises if all weights are zero
        partitions: Any = self.chunks
        train, held = partitions.split(settings.validation_fraction, settings.shuffle, seed)
        if not train.surveys:
            raise ValueError(
                f"early_stopping=True with validation_fraction={settings.validation_fraction} would hold out all of "
                f"the {self.extent.n_weighted} samples with nonzero weight. Use a smaller validation_fraction."
            )
        numbers, extent = list(held.surveys), Extent.joined(held.extents.values())
        require_scorable(settings, self.targets, extent)
        held_out = HeldOut(held.rows(numbers, scale=extent.largest, seed=seed), extent.exponent)
        return replace(self, chunks=train, numbers=list(train.surveys)).scaled(), held_out


def read_arrays(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    metadata: Mapping[str, Any],
    *,
    validation: tuple[Any, Any, Any] = NOTHING_TO_VALIDATE,
    known: Targets | None = None,
    **labels: Any,
) -> ArrayData:
    """Read and validate arrays; the estimator is not changed. Dask collections are refused.

    Parameters
    ----------
    estimator : AnalyticEstimator
        Whose settings and callables say what may come.
    X, y, sample_weight, metadata
        As passed by the user.
    validation : tuple
        ``X_val, y_val, sample_weight_val``; their metadata is among ``metadata``.
    known : Targets or None
        Those that training began with, if it goes on.
    **labels : dict
        What a classifier knows of its classes.
    """
    reader = _reader(estimator)
    refuse_collections(X=X, y=y, sample_weight=sample_weight, **metadata)
    names = estimator._metadata_names("partial_fit")
    metadata, held_metadata = of_validation(metadata, names)
    scored = {name: metadata[name] for name in estimator._metadata_names("score") & metadata.keys()}
    given = GivenRows(X, y, {"sample_weight": sample_weight, **scored})
    X, y, sample_weight = entered(X), on_host(y), on_host(sample_weight)
    X, columns, weight, targets = reader._read(X, y, sample_weight, reset=known is None, known=known, **labels)
    estimator._look_at_targets()(y_that_counts(columns, None if weight is None else weight.values))
    columns |= _read_metadata(estimator, metadata, names, X.shape[0])
    validated = _read_validation(reader, X, columns, targets, validation, held_metadata)
    return ArrayData(X, columns, weight, targets, _features(reader), given, validated, place=place_of(X))


def read_to_score(
    estimator: Any, X: Any, y: Any, sample_weight: Any, metadata: Mapping[str, Any]
) -> tuple[Rows, Mapping[str, Array]]:
    """Read and validate arrays on which a fitted estimator is scored; return them, and the columns by name.

    Those of a dask collection stay on the cluster; the columns are those of its first chunk then.
    """
    reader, training = _reader(estimator), estimator._training
    reader.class_weight = None  # which weights samples in training
    if any_collection((X, y, sample_weight, *metadata.values())):
        beside = {"y": y, "sample_weight": sample_weight, **metadata}
        read = _ChunkReader(reader, estimator._metadata_names("mean_loss"), training.targets, {})
        surveyed = _on_cluster(estimator).of_collections(estimator.worker_timeout, X, beside).survey(read)
        numbers = list(surveyed.surveys)
        partitions = PartitionData(surveyed, numbers, training.targets, {}).scaled()
        return partitions.rows(seed=training.seed), surveyed.arrays(numbers[0])[1]
    X = entered_as_in_fit(estimator, X, "mean_loss")
    try:
        y, sample_weight = on_host(y), on_host(sample_weight)
        X, columns, weight, targets = reader._read(X, y, sample_weight, reset=False, known=training.targets)
    except ValueError as error:
        if str(error).endswith(ANEW):
            error.args = (f"{str(error).removesuffix(ANEW)}Score with targets like those.",)
        raise
    require_any(weight)
    columns |= _read_metadata(estimator, metadata, estimator._metadata_names("mean_loss"), X.shape[0])
    data = ArrayData(X, columns, weight, targets, {}, GivenRows()).scaled()
    return data.rows(seed=training.seed), columns


def read_chunks(
    estimator: Any,
    chunks: Any,
    metadata: Mapping[str, Any],
    *,
    validation: tuple[Any, Any, Any] = NOTHING_TO_VALIDATE,
    known: Targets | None = None,
    **labels: Any,
) -> ChunkData:
    """Read and validate chunks in a first pass; see `read_arrays`."""
    names = estimator._metadata_names("partial_fit")
    metadata, held_metadata = of_validation(metadata, names)
    for name in metadata:
        raise TypeError(
            f"fit_chunks does not accept {name!r}. Pass metadata of a chunk's samples in the chunk, "
            f"{{'X': X, {name!r}: ...}}, and metadata of X_val as {name + OF_VALIDATION!r}."
        )
    source: Any
    if is_remote_list(chunks):
        listed = chunks.ravel() if isinstance(chunks, np.ndarray) else chunks
        source = _on_cluster(estimator).of_delayed(estimator.worker_timeout, list(listed))
    else:
        source = Source(chunks)
    return _read_source(estimator, source, names, known, validation, held_metadata, labels)


def read_collections(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    metadata: Mapping[str, Any],
    *,
    validation: tuple[Any, Any, Any] = NOTHING_TO_VALIDATE,
    known: Targets | None = None,
) -> ChunkData:
    """Read and validate dask collections, on the workers of a cluster; see `read_arrays`."""
    names = estimator._metadata_names("partial_fit")
    metadata, held_metadata = of_validation(metadata, names)
    beside = {"y": y, "sample_weight": sample_weight, **metadata}
    source = _on_cluster(estimator).of_collections(estimator.worker_timeout, X, beside)
    return _read_source(estimator, source, names, known, validation, held_metadata, {})


def _on_cluster(estimator: Any) -> Any:
    """Return the class of a source on a cluster; raise without dask.distributed, or if a parameter cannot be sent."""
    try:
        import cloudpickle

        from ..data.dask_source import DaskSource
    except ImportError as error:
        raise ImportError(
            "Training on dask collections requires dask.distributed: pip install 'dask[array,dataframe,distributed]', "
            f'or in a clone pip install -e ".[dask]". ({error})'
        ) from error
    for name, value in estimator._all_params().items():
        if name != "scoring" and not isinstance(value, bool | int | float | str | None):
            try:
                cloudpickle.dumps(value)
            except Exception as error:
                raise TypeError(
                    f"{name} cannot be sent to the workers of the cluster ({type(error).__name__}: {error}). It must "
                    "not refer to objects of this process, such as a lock, an open file or a connection."
                ) from error
    return DaskSource


def _read_source(
    estimator: Any,
    source: Any,
    names: Collection[str],
    known: Targets | None,
    validation: tuple[Any, Any, Any],
    held_metadata: Mapping[str, Any],
    labels: Mapping[str, Any],
) -> ChunkData:
    """Read and validate the chunks of a source, wherever they are."""
    labels = estimator._survey_labels(source, known, **labels)
    read = _ChunkReader(_reader(estimator), names, known, labels)
    surveyed = source.survey(read)
    if estimator.verbose:
        n_samples = sum(survey.extent.n for survey in surveyed.surveys.values())
        print(f"First pass: {len(surveyed.surveys)} chunks, {n_samples} samples", flush=True)
    numbers = list(surveyed.surveys)
    validated = None
    if any(given is not None for given in (*validation, *held_metadata.values())):
        X, columns, _ = surveyed.arrays(numbers[0])
        validated = _read_validation(read.reader, X, columns, read.targets, validation, held_metadata)
        del X, columns  # so that the chunk can be released
    record = surveyed, numbers, read.targets, _features(read.reader), validated
    if isinstance(surveyed, Chunks):
        return ChunkData(*record)
    return PartitionData(*record, local_steps=estimator.local_steps)


class _ChunkReader:
    """Validates a chunk whenever it is read."""

    def __init__(self, reader: Any, names: Collection[str], known: Any, labels: Mapping[str, Any]) -> None:
        self.reader, self.names, self.targets, self.labels = reader, names, known, labels

    def __call__(
        self, X: Any, y: Any, sample_weight: Any, metadata: Mapping[str, Any], *, reset: bool
    ) -> tuple[Any, dict[str, Array], Weights | None]:
        if is_dispatched(X):
            raise TypeError(
                f"fit_chunks requires NumPy arrays, but a chunk has a {type(X).__name__}. {TO_HOST} Or use partial_fit."
            )
        require_named(metadata, self.names, _model_params(self.reader))  # what is missing may be there by another name
        reset = reset and self.targets is None
        X, columns, weight, self.targets = self.reader._read(
            X, y, sample_weight, reset=reset, known=None if reset else self.targets, **self.labels
        )
        return X, columns | _read_metadata(self.reader, metadata, self.names, X.shape[0]), weight

    def total(self, columns: Mapping[str, Array], weights: Weights | None) -> Array:
        """Return the sum of y; raise if the loss cannot have it."""
        self.reader._look_at_targets()(y_that_counts(columns, None if weights is None else weights.values))
        total: Array = self.targets.total(columns.get("y"), weights)
        return total

    def __getstate__(self) -> dict[str, Any]:
        reader = self.reader._unfitted()  # what it was fitted to may be large
        reader.scoring = None  # which is called in this process
        return {**vars(self), "reader": reader}


def _reader(estimator: Any) -> Any:
    """Return a copy that shares everything, on which validation may note what it sees."""
    reader = object.__new__(type(estimator))
    reader.__dict__.update(estimator.__dict__)
    return reader


def _features(reader: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(reader).items() if name in ("n_features_in_", "feature_names_in_")}


def _read_metadata(
    estimator: Any, metadata: Mapping[str, Any], names: Collection[str], n_samples: int, suffix: str = ""
) -> dict[str, Array]:
    """Validate metadata; a message knows what `model_params` give."""
    return read_metadata(metadata, names, n_samples, suffix, _model_params(estimator))


def _model_params(estimator: Any) -> Collection[str]:
    return estimator.model_params if isinstance(estimator.model_params, dict) else ()


def _read_validation(
    reader: Any,
    X: Any,
    columns: Mapping[str, Array],
    targets: Targets,
    validation: tuple[Any, Any, Any],
    metadata: Mapping[str, Any],
) -> ArrayData | None:
    """Return the samples that were passed to be scored; None if there are none."""
    X_val, y_val, weight, *values = in_memory(*validation, *metadata.values())
    metadata = dict(zip(metadata, values, strict=True))
    beside = {"y_val": y_val, "sample_weight_val": weight}
    beside |= {name + OF_VALIDATION: values for name, values in metadata.items()}
    if X_val is None:
        for name, values in beside.items():
            if values is not None:
                raise ValueError(
                    f"{name} is provided, but X_val was not provided. Arguments that end in {OF_VALIDATION!r} belong "
                    "to X_val."
                )
        return None
    if y_val is None and "y" in columns:
        raise ValueError("X_val is provided, but y_val was not provided.")
    if not reader.early_stopping:
        raise ValueError("X_val is passed to fit, but early_stopping is False. Set early_stopping=True.")
    with noted(OF_X_VAL):
        X_val, y_val, weight = entered(X_val), on_host(y_val), on_host(weight)
        if place_of(X_val) != place_of(X):
            raise ValueError(
                f"X_val is {place_of(X_val) or 'a NumPy array'}, but X is {place_of(X) or 'a NumPy array'}. Pass "
                "both as arrays of the same namespace and on the same device."
            )
        X_val, columns_val, weight, _ = reader._read(X_val, y_val, weight, reset=False, known=targets)
        columns_val |= _read_metadata(reader, metadata, metadata, X_val.shape[0], OF_VALIDATION)
    for name in sorted(columns_val.keys() - columns.keys()):
        raise ValueError(f"{name + OF_VALIDATION} is passed for the samples of X_val; also pass {name} for X.")
    received = reader._metadata_names("score" if reader.scoring is None else "predict")
    for name in sorted(received & columns.keys() - columns_val.keys()):
        raise ValueError(f"{name} is passed for the samples of X; also pass {name + OF_VALIDATION} for X_val.")
    if weight is None or len(weight.counted):
        with noted(OF_X_VAL):
            reader._look_at_targets()(y_that_counts(columns_val, None if weight is None else weight.values))
    return ArrayData(X_val.astype(X.dtype, copy=False), columns_val, weight, targets, {}, GivenRows())


def require_scorable(settings: Any, targets: Targets, extent: Extent, given: bool = False) -> None:
    """Raise if there are too few samples to score; samples with weight 0 do not count."""
    n, needed = extent.n_weighted, targets.smallest_held_out if settings.scoring is None else 1
    if not n:
        weights = "sample_weight_val" if given else "sample_weight"
        raise ValueError(f"{weights} is zero for every sample to be scored.")
    if n < needed:
        samples = f"{n} sample{'s' * (n > 1)}{' with nonzero weight' if n < extent.n else ''}"
        held = f"early_stopping=True with validation_fraction={settings.validation_fraction} holds out {samples}"
        there = f"X_val has {samples}" if given else held
        raise ValueError(f"{there}, but the score needs {needed}. {'Pass' if given else 'Hold out'} more.")
