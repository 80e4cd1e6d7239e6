"""Bundles: a fitted model as one file that predicts, without its records, its ids and its secrets.

A bundle has a manifest in JSON and the parts of the states that serve. The manifest names the parts of every other
state by their digests, so that whoever opens the bundle computes the digest of the whole model anew.

A bundle is a copy that no request reaches: `unlearnkit.standing` tells when it has to be replaced.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from unlearnkit.archive import begins_with, damaged, pack, unpack
from unlearnkit.blobs import blob_name
from unlearnkit.config import Config
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.errors import (
    CapabilityError,
    NoConstituentError,
    ParameterError,
    PredictOnlyError,
    StateError,
    StoreError,
)
from unlearnkit.files import read, sync_folder, translated, write_new
from unlearnkit.learner import Learner, Step
from unlearnkit.ledger import ISOLATED, PURGED, REJECTED, REPAIRED
from unlearnkit.manifest import Manifest, Serving
from unlearnkit.parts import pack_json, unpack_json
from unlearnkit.plan import PlannedStep, missing
from unlearnkit.serving import Constituent, Snapshot
from unlearnkit.training import load_constant
from unlearnkit.typing import AnyArray, Features, FloatArray
from unlearnkit.verification import states_of

MANIFEST, BLOBS = "manifest", "blobs"
_MAX_MANIFEST = 1 << 28
_HEAD = 64


# -- write -----------------------------------------------------------------------------------------------------------


def write(model: SisaEnsemble, path: str | os.PathLike[str], estimator: Mapping[str, Any]) -> None:
    """Write a bundle of a model as it stands, whole or not at all; see `SISAClassifier.export`.

    Parameters
    ----------
    model : SisaEnsemble
    path : path
    estimator : mapping
        How a store would remember the estimator.
    """
    file = Path(path)
    _refuse_place(file)
    if model.learner.capabilities.stores_training_rows:
        raise CapabilityError(
            f"The states of {model.config.name} are rows of the training data, and a bundle must hold none; nothing "
            "was written. Predict from the store, or wrap another model."
        )
    data = _packed(model, estimator)
    write_new(file, data)
    sync_folder(file.absolute().parent)


def _refuse_place(file: Path) -> None:
    """Raise `ParameterError` where something else than a bundle has this name."""
    if not file.absolute().parent.is_dir():
        raise ParameterError(f"There is no folder for {file}; nothing was written. Make it first.")
    if file.is_dir() or (file.exists() and not is_bundle(file)):
        raise ParameterError(f"{file} is there, and is no bundle; nothing was written. Give another name.")


def _packed(model: SisaEnsemble, estimator: Mapping[str, Any]) -> bytes:
    """The bytes of a bundle: of one moment, in which all that was recorded is carried out."""
    store = model.store
    with store.at_rest():
        model.catch_up()
        manifest = _manifest(model, estimator)
        blobs = (store.blobs.get(name) for name in sorted(manifest.blobs))
        return pack([(MANIFEST, pack_json(manifest.to_json())), *((BLOBS, blob) for blob in blobs)])


def _manifest(model: SisaEnsemble, estimator: Mapping[str, Any]) -> Manifest:
    store, snapshot = model.store, model.snapshot
    if snapshot.all_abstain and snapshot.prior is None:
        raise NoConstituentError(
            "Every shard abstains, so a bundle could answer nothing; nothing was written. Call repair() first."
        )
    plan, stored = model.plan, store.checkpoints()
    requests = store.ledger.requests(ISOLATED, PURGED, REPAIRED, REJECTED)
    last = max(requests, key=lambda request: request.sequence, default=None)
    return Manifest(
        version=importlib.metadata.version("unlearnkit"),
        settings=model.blueprint.settings() | {"estimator": dict(estimator)},
        states=states_of(plan, stored),
        serving=tuple(map(_serving, snapshot.constituents)),
        degraded=tuple(shard for shard, steps in enumerate(plan.shards) if missing(steps, stored)),
        prior=None if snapshot.prior is None else snapshot.prior.tolist(),
        digest=model.model_digest,
        epoch=store.ledger.epoch,
        sequence=0 if last is None else last.sequence,
        received_at=None if last is None else last.facts["received_at"],
        environment=store.environment() or model.config.environment,
    )


def _serving(constituent: Constituent | None) -> Serving | None:
    if constituent is None or not constituent.step.kept:
        # A state that waits for the next one is none of those that the digest of the model covers.
        return None
    return Serving(constituent.step.slice, constituent.step.classes, constituent.constant is not None)


# -- read ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is in a bundle, checked against its digests and not decoded yet.

    Attributes
    ----------
    manifest : Manifest
    blobs : dict of str to bytes
        The parts of the states that serve, by their SHA-256.
    data : bytes
        All of it, as it is in the file.
    """

    manifest: Manifest
    blobs: Mapping[str, bytes] = field(repr=False)
    data: bytes = field(repr=False)

    def snapshot(self, learner: Learner[Any], config: Config) -> Snapshot:
        """The states that serve, decoded.

        Raises
        ------
        StateError
            If one is not what the learner has written. Some learners find out at the first prediction.
        """
        manifest = self.manifest
        constituents = (None if s is None else self._constituent(learner, i, s) for i, s in enumerate(manifest.serving))
        prior = None if manifest.prior is None else np.asarray(manifest.prior, dtype=np.float64)
        n_classes = manifest.settings["context"]["n_classes"]
        return Snapshot(learner, config.aggregation, n_classes, tuple(constituents), prior, manifest.schema)

    def _constituent(self, learner: Learner[Any], shard: int, serving: Serving) -> Constituent:
        parts = {part: self.blobs[name] for part, name in self.manifest.states[shard, serving.slice]}
        # The rest of a planned step, its key for one, is made of what stays in the store.
        step = Step(shard, serving.slice, Fraction(0), Fraction(0), Fraction(0), 0)
        planned = PlannedStep(step, "", None, 0, 0, serving.classes, serving.constant, serving.slice)
        if not serving.constant:
            with _sound_states():
                return Constituent(planned, learner.load(parts), None)
        with _sound_states():
            code = load_constant(parts)
        if (code,) != serving.classes:
            damaged("a constant is of another class than the manifest says")
        return Constituent(planned, None, code)


@contextmanager
def _sound_states() -> Iterator[None]:
    """Say of a state that is nonsense that it is the bundle's: there are no records to rebuild it from.

    Learners may find out when they first use it.
    """
    try:
        yield
    except StateError as error:
        damaged(f"a state is not what it should be ({error})", error)


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a bundle does."""
    file = Path(path)
    if not file.is_file():
        return False
    with translated("read", file), file.open("rb") as stream:
        return begins_with(stream.read(_HEAD), MANIFEST)


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """The bundle in a file.

    Raises
    ------
    StoreError
        If there is no such file, or it cannot be read.
    StateError
        If it is no bundle, or damaged. Nothing in it was executed.
    """
    data = read(Path(path))
    if data is None:
        raise StoreError(f"There is no bundle at {os.fspath(path)!r}; nothing was done. Check the path.")
    return unpacked(data)


def unpacked(data: bytes) -> Bundle:
    """The bundle behind some bytes. Nothing is parsed that does not have the digest that it is named by.

    Raises
    ------
    StateError
        If it is none, or a damaged one.
    """
    if not begins_with(data, MANIFEST):
        damaged("it does not begin as a bundle does")
    members = unpack(data)
    text = members.pop(MANIFEST, [])
    if len(text) != 1 or not members.keys() <= {BLOBS} or len(text[0]) > _MAX_MANIFEST:
        damaged("its members are not those of a bundle")
    manifest = Manifest.from_json(_parsed(text[0]))
    blobs = {blob_name(blob): blob for blob in members.get(BLOBS, [])}
    if blobs.keys() != manifest.blobs:
        damaged("its parts are not those that its manifest names")
    return Bundle(manifest, blobs, data)


def _parsed(text: bytes) -> Any:
    try:
        return unpack_json(text)
    except StateError as error:
        damaged("its manifest is not JSON", error)


# -- serve -----------------------------------------------------------------------------------------------------------


class Exported:
    """The model of a bundle, in the place of an ensemble: it predicts, and whatever else is asked of it is refused.

    Parameters
    ----------
    bundle : Bundle
    learner : Learner
    config : Config

    Attributes
    ----------
    learner, config
    schema : Schema
    """

    def __init__(self, bundle: Bundle, learner: Learner[Any], config: Config) -> None:
        self._bundle = bundle
        self.learner = learner
        self.config = config
        self.schema = bundle.manifest.schema
        self._snapshot = bundle.snapshot(learner, config)

    def __getstate__(self) -> dict[str, Any]:
        # As everywhere, states travel as their stored bytes, and are checked and decoded where they arrive.
        return {"data": self._bundle.data, "learner": self.learner, "config": self.config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(unpacked(state["data"]), state["learner"], state["config"])  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        raise PredictOnlyError(
            f"This model was loaded from a bundle, which has no records, ids or secrets: it can predict, and has no "
            f"{name}. Nothing was changed. Load its store to do this there, and export it again."
        )

    def refresh(self) -> None:
        """Do nothing: a bundle does not change."""

    def answers(self, X: Any) -> tuple[FloatArray, AnyArray | None]:
        """Aggregated predictions of rows as they come, and the class labels of the columns."""
        with _sound_states():
            return self._snapshot.answers(X, self.config.name, self.config.n_jobs)

    def predict(self, X: Features) -> FloatArray:
        """Aggregated predictions of canonical features."""
        with _sound_states():
            return self._snapshot.predict(X, self.config.n_jobs)

    def features(self, X: Any) -> Features:
        """Rows to predict, as the model takes them."""
        return self.schema.features(X, self.learner.capabilities, self.config.name, exact=False)

    @property
    def constituents(self) -> list[Any]:
        """The decoded state of each shard; None where it abstains, the class code where it is constant."""
        return self._snapshot.states

    @property
    def degraded_shards(self) -> tuple[int, ...]:
        """Shards that had steps to train when the bundle was made."""
        return self._bundle.manifest.degraded

    @property
    def model_digest(self) -> str:
        """The digest of the model when the bundle was made."""
        return self._bundle.manifest.digest
