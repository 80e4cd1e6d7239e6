"""Addresses: what finds the records of an id, and what stands for the id for good. Neither leads back to the id."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from unlearnkit.hashing import listed
from unlearnkit.ids import as_list, coerce_request
from unlearnkit.keys import Secrets
from unlearnkit.partition import Partition

_HANDLE, _ID = b"handle:", b"id:"


@dataclass(frozen=True, slots=True)
class Addresses:
    """From ids to the items of a request.

    Attributes
    ----------
    partition : Partition
    secrets : Secrets
    id_type : str
    explicit : bool
        Records have ids; else they are addressed by handle.
    """

    partition: Partition
    secrets: Secrets = field(repr=False)
    id_type: str
    explicit: bool

    def items(self, ids: Any) -> dict[str, str]:
        """The `items` of a request for these ids: the address (hex) and the pseudonym of each, in order.

        Raises
        ------
        UnknownRecordError
            If an id is missing or cannot be of the model's type.
        """
        return self.search(ids)[0]

    def search(self, ids: Any) -> tuple[dict[str, str], list[int]]:
        """The same, and the shards where the records of the ids may be."""
        encoded = coerce_request(ids, self.id_type)
        if self.explicit:
            hashes, shards = self.partition.search(encoded)
        else:
            hashes, shards = self.partition.handles(encoded), list(range(self.partition.n_shards))
        addresses = listed(hashes)
        named = zip(addresses, self.secrets.current_of(addresses, self._kind), strict=True)
        return {address.hex(): pseudonym for address, pseudonym in named}, shards

    def positions(self, ids: Any, wanted: Collection[str]) -> tuple[int, ...]:
        """Where in a list of ids those with these addresses (hex) stand."""
        encoded = [coerce_request([value], self.id_type)[0] for value in as_list(ids)]
        return tuple(i for i, address in enumerate(self._addresses(encoded)) if address.hex() in wanted)

    def pseudonyms(self, addresses: Sequence[bytes]) -> list[tuple[str, ...]]:
        """What stands for each address, under every pseudonym key that there is, the current one first."""
        return self.secrets.pseudonyms_of(addresses, self._kind)

    @property
    def _kind(self) -> bytes:
        return _ID if self.explicit else _HANDLE

    def _addresses(self, encoded: list[bytes]) -> list[bytes]:
        return listed(self.partition.identify(encoded) if self.explicit else self.partition.handles(encoded))
