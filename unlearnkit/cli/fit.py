"""``unlearnkit fit``."""

from __future__ import annotations

import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from unlearnkit.bands import ERASURES, PEOPLE
from unlearnkit.cli.given import Columns, rows_of
from unlearnkit.cli.options import (
    Drop,
    Forgotten,
    IdColumn,
    Jobs,
    OfForgotten,
    Probability,
    Settings,
    StorePath,
    WeightColumn,
    built,
    prior_of,
)
from unlearnkit.cli.output import DONE, UNFINISHED, Json, finish, on_terminal, readable
from unlearnkit.errors import ParameterError
from unlearnkit.ledger import Change
from unlearnkit.partition import BandedPartition
from unlearnkit.policy import Policy
from unlearnkit.store import Store
from unlearnkit.words import count


class Aggregation(StrEnum):
    """How the answers of the shards become one."""

    auto = "auto"
    mean = "mean"
    vote = "vote"


class Shards(StrEnum):
    """How a prior makes shards."""

    erasures = ERASURES
    people = PEOPLE


class Isolated(StrEnum):
    """What to do when every shard abstains."""

    raise_ = "raise"
    prior = "prior"


def fit(
    *,
    model: Annotated[
        str, typer.Option(metavar="MODULE:CLASS", help="The model to wrap, such as lightgbm:LGBMClassifier.")
    ],
    data: Annotated[Path, typer.Option(metavar="FILE", help="The records: CSV with a header line, or Parquet.")],
    target: Annotated[str, typer.Option(metavar="COLUMN", help="The column to predict.")],
    store: StorePath,
    blobs: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Keep rows and states in an object store, s3://bucket/prefix, from now on."),
    ] = None,
    settings: Settings = None,
    id_column: IdColumn = None,
    weight_column: WeightColumn = None,
    drop: Drop = None,
    probability: Probability = None,
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|JSON", help="Public shares of the records by their probability of erasure; or a file of them."
        ),
    ] = None,
    prior_shards: Annotated[
        Shards, typer.Option(help="Shards of equally many expected erasures, or of equally many people.")
    ] = Shards.erasures,
    shards: Annotated[int, typer.Option(min=1, help="Constituents, each trained on its own records.")] = 5,
    slices: Annotated[
        str, typer.Option(metavar="INTEGER|auto", help="Checkpoints per constituent; auto: as the model recommends.")
    ] = "auto",
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Keep the states of every so-manieth slice, and of the last.")
    ] = 1,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Makes the model reproducible, and the secret that places records guessable."),
    ] = None,
    jobs: Jobs = None,
    aggregation: Annotated[
        Aggregation, typer.Option(help="Mean of probabilities or majority of votes.")
    ] = Aggregation.auto,
    when_isolated: Annotated[
        Isolated, typer.Option(help="If every shard abstains: refuse, or predict the frequencies of what is left.")
    ] = Isolated.raise_,
    forgotten: OfForgotten = Forgotten.raise_,
    adapter: Annotated[str | None, typer.Option(help="Take this adapter, whatever others claim.")] = None,
    external: Annotated[
        bool,
        typer.Option(
            "--external",
            help="Keep digests of the records alone: what trains later reads them by --rows, from Parquet.",
        ),
    ] = False,
    regime: Annotated[str | None, typer.Option(help="The law or contract that requests are made under.")] = None,
    days_to_answer: Annotated[int | None, typer.Option(min=0, help="From a request to its deadline.")] = None,
    retention_days: Annotated[
        int | None, typer.Option(min=0, help="How long the pseudonym of a forgotten id is kept; default: for good.")
    ] = None,
    copies: Annotated[
        list[str] | None,
        typer.Option(
            "--copy", metavar="TEXT", help="A copy that the store does not control, for receipts. Repeatable."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a model on a file and keep it in a store; the same call again goes on after a crash."""
    start = time.perf_counter()
    with readable():
        n_slices = _slices(slices)
        estimator = built(model, settings or ())
        columns = Columns(target, id_column, weight_column, probability, tuple(drop or ()))
        partition = None if prior is None else BandedPartition(prior_of(prior), shards=prior_shards.value)
        rows = rows_of(data, columns)
        opened = Store.at(store, blobs=blobs)
        policy = _declared(
            opened,
            regime=regime,
            days_to_answer=days_to_answer,
            retention_days=retention_days,
            copies=None if not copies else tuple(copies),
        )
        from unlearnkit.estimators import wrap

        sisa = wrap(
            estimator,
            n_shards=shards,
            n_slices=n_slices,
            aggregation=aggregation.value,
            partition=partition,
            adapter=adapter,
            store=opened,
            data="external" if external else "stored",
            checkpoint_every=checkpoint_every,
            when_isolated=when_isolated.value,
            n_jobs=jobs,
            random_state=seed,
            verbose=int(on_terminal()),
        ).fit(
            rows.X, rows.y, rows.weight, ids=rows.ids, erasure_probability=rows.probability, forgotten=forgotten.value
        )
        columns.remember(opened)
        if policy:
            # A store that was there keeps what it was told before, unless it is told anew.
            opened.apply(Change(notes=opened.policy_note))
        facts = as_it_stands(store, opened, sisa) | {"seconds": round(time.perf_counter() - start, 3)}
    finish(facts, _lines(facts), as_json=as_json, code=UNFINISHED if facts["degraded_shards"] else DONE)


def _slices(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isascii() or not text.isdigit():
        raise ParameterError(f"--slices {text} is neither a whole number nor auto; nothing was changed.")
    return int(text)


def _declared(store: Store, **given: Any) -> bool:
    """Take over what is declared, beside what was declared before; say whether anything is."""
    known = {name: value for name, value in given.items() if value is not None}
    if known:
        store.policy = replace(store.declared if store.exists else Policy(), **known)
    return bool(known)


def as_it_stands(path: Path, store: Store, sisa: Any) -> dict[str, Any]:
    """What the store of a model has come to."""
    settings = store.settings()
    return {
        "store": str(path),
        "model": settings["name"],
        "records": sum(cell.n_records for cell in store.ledger.cells()),
        "shards": settings["n_shards"],
        "slices": settings["n_slices"],
        "steps": len(store.ledger.keys()),
        "degraded_shards": list(sisa.degraded_shards_),
        "digest": sisa.model_digest_,
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    parts = f"{count(facts['shards'], 'shard')} of {count(facts['slices'], 'slice')}"
    degraded = ", ".join(map(str, facts["degraded_shards"]))
    return [
        f"{facts['model']} is fitted on {count(facts['records'], 'record')}: {parts}, in {facts['seconds']:.1f} s.",
        *([f"Not trained, and isolated: shards {degraded}"] if degraded else []),
        f"Digest {facts['digest']}",
        f"Store  {facts['store']} (back up its folder keys apart from the rest: without it no record can be found)",
    ]
