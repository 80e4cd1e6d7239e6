"""``unlearnkit export``, and what ``unlearnkit status`` says of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from unlearnkit.cli.options import ModelName, Settings, StorePath, optional
from unlearnkit.cli.output import Json, finish, readable
from unlearnkit.manifest import Manifest
from unlearnkit.plan import NO_BASE
from unlearnkit.standing import CURRENT, FOREIGN, OUTDATED, STALE, Standing
from unlearnkit.words import count


def export(
    *,
    store: StorePath,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The bundle; an older one is replaced.")
    ],
    model: ModelName = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Write the model as one file that predicts, without rows, ids and secrets. See `status --bundle`."""
    with readable():
        from unlearnkit.bundle import open_bundle
        from unlearnkit.estimators import load

        load(store, estimator=optional(model, settings), refresh_s=0).export(output)
        manifest = open_bundle(output).manifest
    facts = told(manifest) | {"bundle": str(output), "bytes": output.stat().st_size}
    lines = [f"{output}: {facts['model']}, {facts['bytes']:,} bytes.", f"Digest {manifest.digest}"]
    finish(facts, [*lines, *_degraded(manifest)], as_json=as_json)


def told(manifest: Manifest) -> dict[str, Any]:
    """What is in a bundle, for programs."""
    settings = manifest.settings
    return {
        "model": settings["name"],
        "task": settings["estimator"]["task"],
        "shards": settings["n_shards"],
        "serving_shards": [shard for shard, state in enumerate(manifest.serving) if state is not None],
        "degraded_shards": list(manifest.degraded),
        "digest": manifest.digest,
        "epoch": manifest.epoch,
        "last_request": manifest.sequence,
        "base": None if settings["context"]["base"] == NO_BASE else settings["context"]["base"],
        "made_by": f"unlearnkit {manifest.version}",
        "environment": manifest.environment,
    }


def shown(manifest: Manifest) -> list[Table | str]:
    """What is in a bundle, for people."""
    facts = told(manifest)
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("model", f"{facts['model']} ({facts['task']})")
    grid.add_row("shards", f"{len(facts['serving_shards'])} of {facts['shards']} answer")
    grid.add_row("digest", facts["digest"])
    grid.add_row("epoch", f"{facts['epoch']:,}, after request {facts['last_request']:,}")
    grid.add_row("made with", ", ".join([facts["made_by"], *(f"{n} {v}" for n, v in manifest.environment.items())]))
    return [grid, *_degraded(manifest)]


def _degraded(manifest: Manifest) -> list[str]:
    if not manifest.degraded:
        return []
    return [f"Exported while it waited for repair: shards {', '.join(map(str, manifest.degraded))}"]


def findings(found: Standing, bundle: Path, store: Path) -> list[str]:
    """What has to be done about a bundle at once."""
    again = f"unlearnkit export --store {store} --output {bundle}"
    if found.verdict == FOREIGN:
        what = "is not of this model, or the store was put back to a time before it"
        return [f"Foreign: {bundle} {what}. If it should be of it, replace it: {again}"]
    if found.verdict == STALE:
        since = "1 request has" if found.requests == 1 else f"{found.requests:,} requests have"
        what = f"since it was exported {since} removed or replaced records that it has learned from"
        return [f"Stale: {bundle}; {what}. Replace it, and every copy of it: {again}"]
    return []


def remarks(found: Standing, bundle: Path) -> list[str]:
    """What else is to be said of how a bundle stands to its store."""
    said = {
        CURRENT: "is current: the model has not changed since it was exported.",
        OUTDATED: "is outdated: the model was trained since, but nothing that it has learned from was forgotten.",
    }
    lines = [f"{bundle} {said[found.verdict]}"] if found.verdict in said else []
    if found.waiting:
        are = "is" if found.waiting == 1 else "are"
        lines.append(
            f"{count(found.waiting, 'request')} {are} recorded and not carried out yet. Once carried out, by "
            f"unlearnkit repair, {bundle} may be stale."
        )
    return lines
