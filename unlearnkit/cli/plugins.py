"""``unlearnkit plugins``."""

from __future__ import annotations

from rich.table import Table

from unlearnkit.cli.output import DONE, FINDING, Json, finish


def plugins(*, as_json: Json = False) -> None:
    """The installed plugins: what they wrap, and which of them failed to import."""
    from unlearnkit.adapters import plugins as installed

    found = installed()
    claims = {adapter.name: list(adapter.native_types) for adapter in found.adapters}
    broken = [f"{name} failed to import: {why}" for name, why in found.broken.items()]
    finish(
        {"adapters": claims, "broken": found.broken},
        [_table(claims), *broken],
        as_json=as_json,
        code=FINDING if broken else DONE,
    )


def _table(claims: dict[str, list[str]]) -> Table:
    grid = Table("Adapter", "Wraps what derives from", box=None, pad_edge=False)
    for name, types in sorted(claims.items()):
        grid.add_row(name, "\n".join(t.replace(":", ".") for t in types))
    return grid
