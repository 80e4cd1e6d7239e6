"""How a model looks in a notebook: scikit-learn's diagram, and below it the shards and slices of a fitted one."""

from __future__ import annotations

from html import escape
from typing import Any

from unlearnkit.errors import UnlearnKitError
from unlearnkit.figures import heat_map

HTML = "text/html"


class NotebookView:
    """What a notebook asks of an object; mixed in before scikit-learn's own."""

    _ensemble: Any

    def _repr_html_inner(self) -> str:
        diagram: str = super()._repr_html_inner()  # type: ignore[misc]  # scikit-learn's mixin
        return diagram + self._map()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle: dict[str, str] = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]  # scikit-learn's mixin
        return bundle | ({HTML: bundle[HTML] + self._map()} if HTML in bundle else {})

    def _map(self) -> str:
        """The shards and slices of a fitted model; the reason where they cannot be read, since looking never fails."""
        if not hasattr(self, "_ensemble"):
            return ""
        try:
            ensemble = self._ensemble
            return heat_map(ensemble.layout, ensemble.config.n_slices)
        except UnlearnKitError as error:
            return f"<p>Shards and slices cannot be shown. {escape(str(error))}</p>"
