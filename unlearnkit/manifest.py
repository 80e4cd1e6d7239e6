"""The manifest of a bundle: what a model is and which of its states serve, as plain JSON values.

It holds nothing that is made of a record but the states' own digests: no keys, no digests of rows, no addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from unlearnkit.aggregation import MEAN, Aggregation
from unlearnkit.archive import damaged
from unlearnkit.config import Config
from unlearnkit.errors import StateError
from unlearnkit.plan import Context
from unlearnkit.schema import Schema
from unlearnkit.verification import States, model_digest

FORMAT = 1
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "unlearnkit": str,
    "settings": dict,
    "states": list,
    "serving": list,
    "degraded": list,
    "prior": (list, float, type(None)),
    "model_digest": str,
    "epoch": int,
    "sequence": int,
    "received_at": (str, type(None)),
    "environment": dict,
}
_SETTINGS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "n_shards": int,
    "n_slices": int,
    "secret_id": str,
    "aggregation": str,
    "when_isolated": str,
    "seed": int,
    "random_state": (int, type(None)),
    "schema": str,
    "context": dict,
    "estimator": dict,
}
_TASKS = ("classification", "regression")


@dataclass(frozen=True, slots=True)
class Serving:
    """The state that a shard answers with.

    Attributes
    ----------
    slice : int
    classes : tuple of int or None
        The codes of the schema that it knows; None for regression.
    constant : bool
        It is the one class of its rows.
    """

    slice: int
    classes: tuple[int, ...] | None
    constant: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of its model.

    Attributes
    ----------
    version : str
        Of unlearnkit.
    settings : dict
        The blueprint as a ledger keeps it, and how a store would remember the estimator.
    states : dict of (int, int) to tuple of (str, str)
        Part names and part digests of the state of each shard and slice.
    serving : tuple of Serving or None
        For each shard; None abstains.
    degraded : tuple of int
        Shards that had steps to train.
    prior : list, float or None
        What is predicted when all shards abstain, where it is needed.
    digest : str
        The digest of the model.
    epoch : int
        Of the ledger.
    sequence : int
        Of the last request that is carried out; 0 if there was none.
    received_at : str or None
        When that was received: another model's request of this number was not.
    environment : dict of str to str
        Library versions that the states were made with.
    """

    version: str
    settings: dict[str, Any]
    states: States
    serving: tuple[Serving | None, ...]
    degraded: tuple[int, ...]
    prior: Any
    digest: str
    epoch: int
    sequence: int
    received_at: str | None
    environment: dict[str, str]

    @property
    def schema(self) -> Schema:
        """The schema of the model."""
        return Schema.from_json(self.settings["schema"])

    @property
    def blobs(self) -> set[str]:
        """The digests of the parts of the states that serve."""
        own = (self.states[shard, s.slice] for shard, s in enumerate(self.serving) if s is not None)
        return {name for parts in own for _, name in parts}

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return {
            "format": FORMAT,
            "unlearnkit": self.version,
            "settings": self.settings,
            "states": [[shard, r, [list(part) for part in parts]] for (shard, r), parts in sorted(self.states.items())],
            "serving": [None if s is None else [s.slice, _listed(s.classes), s.constant] for s in self.serving],
            "degraded": list(self.degraded),
            "prior": self.prior,
            "model_digest": self.digest,
            "epoch": self.epoch,
            "sequence": self.sequence,
            "received_at": self.received_at,
            "environment": self.environment,
        }

    @classmethod
    def from_json(cls, plain: Any) -> Manifest:
        """The manifest that `to_json` gave, its digest computed anew.

        Raises
        ------
        StateError
            If it is none, contradicts itself, or is of another format.
        """
        if isinstance(plain, dict) and plain.get("format") not in (None, FORMAT):
            raise StateError(
                f"The bundle is of a format that this version of unlearnkit does not know (it knows {FORMAT}). "
                "Nothing was executed. Use the version that made it, or export it again."
            )
        try:
            manifest = cls._read(plain)
            sound = manifest.is_sound
        except StateError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
            damaged("its manifest is none", error)
        if not sound:
            damaged("its manifest contradicts itself")
        return manifest

    @classmethod
    def _read(cls, plain: Any) -> Manifest:
        _check(plain, _FIELDS)
        _check(plain["settings"], _SETTINGS)
        try:
            Schema.from_json(plain["settings"]["schema"])
        except StateError as error:
            damaged("its schema is none", error)
        states = {(_whole(s), _whole(r)): tuple((part, name) for part, name in own) for s, r, own in plain["states"]}
        manifest = cls(
            version=plain["unlearnkit"],
            settings=plain["settings"],
            states=states,
            serving=tuple(None if s is None else _serving(*s) for s in plain["serving"]),
            degraded=tuple(map(_whole, plain["degraded"])),
            prior=plain["prior"],
            digest=plain["model_digest"],
            epoch=plain["epoch"],
            sequence=plain["sequence"],
            received_at=plain["received_at"],
            environment=plain["environment"],
        )
        # Nothing may be there twice, or be left over.
        if repr(manifest.to_json()) != repr({name: plain[name] for name in manifest.to_json()}):
            damaged("its manifest is not as it was written")
        return manifest

    @property
    def is_sound(self) -> bool:
        """Whether its entries fit together, and its digest is that of its states."""
        settings, schema = self.settings, self.schema
        context = Context(**settings["context"])
        classes = None if schema.classes is None else len(schema.classes)
        known = context.n_classes == classes and context.schema_digest == schema.digest
        task = _TASKS[classes is None] == settings["estimator"]["task"]
        serving = all(s is None or self._serves(shard, s, classes) for shard, s in enumerate(self.serving))
        whole = len(self.serving) == settings["n_shards"] and serving and self._has_answer(classes, schema.n_outputs)
        return known and task and whole and self._has_times() and self.digest == digest_of(settings, self.states)

    def _serves(self, shard: int, serving: Serving, n_classes: int | None) -> bool:
        if (shard, serving.slice) not in self.states:
            return False
        if n_classes is None or serving.classes is None:
            return serving.classes is None and n_classes is None and not serving.constant
        in_order = list(serving.classes) == sorted(set(serving.classes) & set(range(n_classes)))
        return in_order and (len(serving.classes) == 1 or not serving.constant) and bool(serving.classes)

    def _has_answer(self, n_classes: int | None, n_outputs: int | None) -> bool:
        if self.prior is None:
            return any(s is not None for s in self.serving)
        shape = (n_classes,) if n_classes is not None else () if n_outputs is None else (n_outputs,)
        prior = np.asarray(self.prior, dtype=np.float64)
        return prior.shape == shape and bool(np.isfinite(prior).all())

    def _has_times(self) -> bool:
        if (self.received_at is None) != (self.sequence == 0):
            return False
        return self.received_at is None or datetime.fromisoformat(self.received_at) is not None


def digest_of(settings: Mapping[str, Any], states: States) -> str:
    """The digest of the model that has these settings, as a ledger keeps them, and these states."""
    rule = Aggregation(MEAN, settings["aggregation"])
    config = Config(settings["name"], settings["n_shards"], settings["n_slices"], rule)
    return model_digest(config, Schema.from_json(settings["schema"]), states)


def _check(plain: Any, fields: dict[str, type | tuple[type, ...]]) -> None:
    for name, kind in fields.items():
        # A truth value is an instance of a number, and no number.
        if not isinstance(plain[name], kind) or isinstance(plain[name], bool):
            damaged(f"its manifest has no {name} that makes sense")


def _listed(classes: tuple[int, ...] | None) -> list[int] | None:
    return None if classes is None else list(classes)


def _serving(r: Any, classes: Any, constant: Any) -> Serving:
    if type(constant) is not bool:
        raise TypeError(constant)
    return Serving(_whole(r), None if classes is None else tuple(map(_whole, classes)), constant)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(value)
    return value
