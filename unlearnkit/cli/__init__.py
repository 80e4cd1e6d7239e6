"""The command line."""

from __future__ import annotations

from unlearnkit.cli.app import app, main
from unlearnkit.cli.output import PIPED_WIDTH

__all__ = ["PIPED_WIDTH", "app", "main"]
