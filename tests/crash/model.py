"""A model whose states are the very rows that it was trained on, so that residue is a search for bytes."""

from __future__ import annotations

from sklearn.base import BaseEstimator

from unlearnkit import adapters
from unlearnkit.adapters import Adapter, hookimpl
from unlearnkit.testing import RememberingLearner

__all__ = ["Remembering"]


class Remembering(BaseEstimator):
    """A model without parameters."""


class Plugin:
    """The only plugin there is: looking for those that are installed would cost more than a kill."""

    @hookimpl
    def unlearnkit_adapters(self):
        return [Adapter("crash", ("model:Remembering",), lambda model, resolve: RememberingLearner(), ("model",))]


class Entry:
    """An entry point of a distribution that is not installed."""

    name = "crash"

    def load(self):
        return Plugin()


def install():
    """Make the plugin known, in this process and in those forked from it."""
    found = adapters.Plugins([Entry()])
    adapters.plugins = lambda: found
