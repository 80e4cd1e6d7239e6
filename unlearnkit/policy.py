"""What the operator of a store declares, and who that is; and what time it is."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from datetime import UTC, datetime

from unlearnkit.errors import ParameterError

OPERATOR = "UNLEARNKIT_OPERATOR"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator of a store declares; receipts repeat it.

    Attributes
    ----------
    regime : str
        The law or contract that requests are made under.
    days_to_answer : int
        From a request to its deadline.
    retention_days : int or None
        How long a tombstone is kept after its request; None: for good.
    copies : tuple of str
        Copies of data or model that the store does not control, such as backups and exports.
    """

    regime: str = "GDPR Art. 17"
    days_to_answer: int = 30
    retention_days: int | None = None
    copies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.days_to_answer < 0 or (self.retention_days is not None and self.retention_days < 0):
            raise ParameterError("days_to_answer and retention_days must not be negative; nothing was changed.")


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


def operator() -> str:
    """Who runs this: the environment variable ``UNLEARNKIT_OPERATOR``, or else the user of the operating system."""
    if OPERATOR in os.environ:
        return os.environ[OPERATOR]
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
