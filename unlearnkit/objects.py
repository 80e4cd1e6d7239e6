"""Blobs in an object store: one object for each, named by its SHA-256 below a prefix of a bucket.

An object appears whole or not at all, and is durable when the service has answered. Uploads in several parts are
never used: one that was cut off leaves parts that no listing shows and no deletion reaches.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from unlearnkit.blobs import blob_name, checked
from unlearnkit.errors import ParameterError, StoreError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Config, S3Store

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

CONCURRENT = 16
"""Requests under way at once."""
_COMPARED_BYTES = 1 << 18
_NAME = re.compile(r"[0-9a-f]{64}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_URL = re.compile(
    r"s3a?://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]+)(?P<prefix>(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.=+!()-]+)*)/?"
)
_PROBE = "unlearnkit-probe"
_UNVERSIONED = (None, "null")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_METADATA = ("/latest/api/token", "/latest/meta-data")
_REFUSED = ("401", "403", "AccessDenied", "ExpiredToken", "InvalidToken")
_ASTRAY = "incorrectly configured region"
_CODE = re.compile(r"(?:<Code>|\(code: )(\w+)")
_STATUS = re.compile(r"status code: (\d{3})")
_SETTLE = "Check the network and the address of the service (AWS_ENDPOINT_URL), and try again."
_NO_CREDENTIALS = (
    "there are no credentials",
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role.",
)
# What to do about the errors that the services name.
_ADVICE = {
    "NoSuchBucket": ("there is no such bucket", "Make it, or correct the URL."),
    "PermanentRedirect": ("the bucket is in another region", "Set AWS_REGION."),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "Set AWS_REGION."),
    "EntityTooLarge": ("it is larger than one upload may be", "Use more shards or slices."),
}


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is given by a URL, which only an object store is, rather than by a path."""
    return _SCHEME.match(os.fspath(place)) is not None


class ObjectBlobs:
    """Blobs as the objects of a bucket, in S3 or what speaks its protocol.

    Credentials are never an argument, so that no pickle has them: they come from ``AWS_ACCESS_KEY_ID``,
    ``AWS_SECRET_ACCESS_KEY`` and ``AWS_SESSION_TOKEN``, or from the role of the machine.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``. The prefix is for these blobs alone.
    endpoint : str or None
        The URL of the service; with ``http://`` nothing is encrypted on the way. None: as ``AWS_ENDPOINT_URL`` says,
        or else that of AWS.
    region : str or None
        None: as ``AWS_REGION`` says.
    allow_versions : bool
        Take a bucket that keeps what is deleted as an old version, which is else refused: whoever sets this destroys
        the old versions by other means.
    timeout_s : float
        How long one object may take on its way.
    retry_s : float
        For how long a request that fails for a passing reason is tried again.

    Raises
    ------
    ParameterError
        If the URL is of another form.

    Examples
    --------
    >>> ObjectBlobs("s3://models/churn", region="eu-central-1")
    ObjectBlobs('s3://models/churn')
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        allow_versions: bool = False,
        timeout_s: float = 300,
        retry_s: float = 60,
    ) -> None:
        found = _URL.fullmatch(url)
        if found is None or (endpoint is not None and urlsplit(endpoint).username is not None):
            # It is not repeated: what is wrong with it may be that a password is in it.
            raise ParameterError(
                "The place of blobs in an object store is s3://bucket/prefix, with letters, digits and . _ = + ! ( ) - "
                "in the prefix, and has no credentials in it: they come from the environment (AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY). Nothing was changed."
            )
        self._bucket, self._prefix = found["bucket"], found["prefix"].strip("/")
        self.url = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        self.endpoint = endpoint
        self.region = region
        self.allow_versions = allow_versions
        self.timeout_s = timeout_s
        self.retry_s = retry_s
        self._is_ready = False

    def __repr__(self) -> str:
        return f"ObjectBlobs({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_opened"}

    # -- blobs ---------------------------------------------------------------------------------------------------

    def put(self, data: Iterable[bytes]) -> tuple[str, ...]:
        """Keep byte strings, durably when this returns, and give their names.

        Raises
        ------
        StoreError
            If the service refuses or does not answer, or the bucket keeps old versions. What was put until then is
            there, and nothing refers to it.
        """
        self.ready()
        return tuple(_each(self._put, data))

    def _put(self, data: bytes) -> str:
        name = blob_name(data)
        if len(data) < _COMPARED_BYTES or not self._holds(name, data):
            with self._service("write an object") as bucket:
                # An object that does not hold what it is named by is healed by this.
                written = bucket.put(name, data, use_multipart=False)
            self._refuse(written["version"])
        return name

    def _holds(self, name: str, data: bytes) -> bool:
        """Whether the service says that the object has this content; a state that grows shares most of its parts."""
        found = self._head(name)
        if found is None:
            return False
        self._refuse(found["version"])
        # Not of every object is the tag the MD5: then it is sent again.
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return found["size"] == len(data) and found["e_tag"] == f'"{digest}"'

    def get(self, name: str) -> bytes:
        """The bytes of this name, checked against it.

        Raises
        ------
        StateError
            If there are none, or they are not what their name says.
        StoreError
            If the service refuses or does not answer.
        """
        return checked(name, self._read(name) if _NAME.fullmatch(name) else None)

    def _read(self, name: str) -> bytes | None:
        with self._service("read an object") as bucket:
            try:
                return bytes(bucket.get(name).bytes())
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return None

    def get_many(self, names: Iterable[str]) -> Iterator[bytes]:
        """The bytes of these names, in their order, fetched side by side; as `get` otherwise."""
        return _each(self.get, names)

    def has(self, name: str) -> bool:
        """Whether there is an object of this name; it is not read."""
        return _NAME.fullmatch(name) is not None and self._head(name) is not None

    def _head(self, name: str) -> ObjectMeta | None:
        with self._service("look for an object") as bucket:
            try:
                return bucket.head(name)
            except FileNotFoundError:
                return None

    def delete(self, names: Iterable[str]) -> None:
        """Destroy the bytes of these names, durably when this returns; a name without bytes is passed over.

        Raises
        ------
        StoreError
            If the service refuses or does not answer, or the bucket keeps old versions, so that nothing is destroyed.
        """
        gone = sorted({name for name in names if _NAME.fullmatch(name)})
        if gone:
            self.ready()
            with self._service("delete objects") as bucket:
                bucket.delete(gone)

    def names(self) -> Iterator[str]:
        """The names of all blobs, as they are now."""
        return iter([name for name in self.sizes() if _NAME.fullmatch(name)])

    def sizes(self) -> dict[str, int]:
        """The size in bytes of each object directly below the prefix, blob or not; none is read."""
        with self._service("list the objects") as bucket:
            return {entry["path"]: entry["size"] for entry in bucket.list_with_delimiter()["objects"]}

    # -- the service ---------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """See to it, once, that the bucket takes objects and destroys those that are deleted.

        Raises
        ------
        StoreError
            If it does not.
        """
        if self._is_ready:
            return
        with self._service("write an object") as bucket:
            # Without content: should the bucket keep versions, it keeps nothing of anybody.
            written = bucket.put(_PROBE, b"", use_multipart=False)
            bucket.delete([_PROBE])
        self._refuse(written["version"])
        self._is_ready = True

    def _refuse(self, version: str | None) -> None:
        if version not in _UNVERSIONED and not self.allow_versions:
            raise StoreError(
                f"The bucket of {self.url} keeps old versions, so deleting an object there does not destroy it; no "
                "record was forgotten or changed. Take a bucket without versioning, or suspend it and delete the old "
                "versions; ObjectBlobs(..., allow_versions=True) if they are destroyed by other means."
            )

    @cached_property
    def _opened(self) -> S3Store:
        from obstore.store import S3Store

        address = self.endpoint or next(filter(None, map(os.environ.get, _ENDPOINTS)), "")
        given: S3Config = {}
        if self.endpoint is not None:
            given["endpoint"] = self.endpoint
        if self.region is not None:
            given["region"] = self.region
        return S3Store(
            self._bucket,
            prefix=self._prefix or None,
            client_options={"timeout": timedelta(seconds=self.timeout_s), "allow_http": address.startswith("http://")},
            retry_config={"retry_timeout": timedelta(seconds=self.retry_s)},
            config=given,
        )

    @contextmanager
    def _service(self, operation: str) -> Iterator[S3Store]:
        """The bucket; errors of the library become a `StoreError` that says what to do."""
        self._refuse_forked()
        try:
            from obstore.exceptions import BaseError
        except ImportError:
            raise StoreError(
                f"Blobs in {self.url} need the package obstore; nothing was changed. Install it with: pip install "
                "'unlearnkit[s3]'"
            ) from None
        _used_in.add(os.getpid())
        try:
            yield self._opened
        except (BaseError, OSError, ValueError) as error:
            what, advice = _reason(error)
            # Without the cause, which has full names of blobs and what the service says of the credentials.
            raise StoreError(
                f"Could not {operation} in {self.url}: {what}. What was acknowledged before is as it was. {advice}"
            ) from None

    def _refuse_forked(self) -> None:
        if _used_in - {os.getpid()}:
            raise StoreError(
                f"A forked process cannot use {self.url}, which its parent has used: the threads at work there were "
                "not copied; nothing was changed. Start processes by spawn, or with joblib."
            )


_used_in: set[int] = set()
"""The process in which the library was used. In a copy of that process by fork it would wait for ever."""


def _code(error: Exception) -> str:
    """The name that the service gives to an error, or the status; empty if there was no answer."""
    text = str(error)
    found = _CODE.search(text) or _STATUS.search(text)
    return found[1] if found else ""


def _reason(error: Exception) -> tuple[str, str]:
    """What happened, and what to do about it."""
    code, status = _code(error), _STATUS.search(str(error))
    if any(path in str(error) for path in _METADATA):
        return _NO_CREDENTIALS
    if _ASTRAY in str(error):
        return _ADVICE["PermanentRedirect"]
    if code in _ADVICE:
        return _ADVICE[code]
    if code in _REFUSED or (status is not None and status[1] in _REFUSED):
        return (
            f"the service refuses the credentials ({code})",
            "They must be valid, and allow to list the bucket and to get, put and delete its objects.",
        )
    return (f"the service answers {code}" if code else "the service gives no answer that can be used"), _SETTLE


def _each(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """The results in order, of some calls at a time; no more items are taken than are under way."""
    with ThreadPoolExecutor(CONCURRENT, "unlearnkit-objects") as pool:
        waiting: deque[Future[_Result]] = deque()
        for item in items:
            if len(waiting) == CONCURRENT:
                yield waiting.popleft().result()
            waiting.append(pool.submit(function, item))
        while waiting:
            yield waiting.popleft().result()
