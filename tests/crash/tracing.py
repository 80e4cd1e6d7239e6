"""Children that live through a phase, watched by strace or by failpoints of their own, and are killed on the way."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import marks

from unlearnkit.errors import UnlearnKitError

CALLS = ("write", "pwrite64", "pwritev", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat")
CALLS += ("ftruncate", "link", "linkat", "mkdir", "mkdirat")
OPENING = "openat"
_LINE = re.compile(r"^\d+ +(\w+)\((.*)$")
_PATH = re.compile(r'<(/[^>]*)>|"(/[^"]*)"')
_SET_TRACER = 0x59616D61
_write = os.write


@dataclass(frozen=True)
class Operation:
    """A durable operation of a child.

    Attributes
    ----------
    call : str
        The system call, or what a failpoint announces.
    target : str
        What kind of file it is about.
    site : str
        The lines of the code that led to it, and, inside one statement of SQLite, its place in that.
    number : int
        Which one it is of its system call; of all, for a failpoint.
    """

    call: str
    target: str
    site: str
    number: int

    @property
    def kind(self):
        """What makes it distinct."""
        return f"{self.call} {self.target} {self.site}"


@dataclass(frozen=True)
class Outcome:
    """What became of a child: how it ended, what it acknowledged, what it raised, what it did."""

    killed: bool
    acks: tuple
    error: tuple | None
    operations: tuple
    at: str | None
    error_again: tuple | None = None


@cache
def has_strace():
    """Whether strace is there and may attach to a child."""
    if os.environ.get("UNLEARNKIT_CRASH_STRACE") == "no" or shutil.which("strace") is None:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return live(lambda _, tell: tell("traced"), "", scratch=scratch).acks == (("traced",),)
        except RuntimeError:
            return False


def in_child(function, *args):
    """The JSON value that a function gives in a process of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _begin_as_a_child()
        try:
            result = function(*args)
        except BaseException as error:  # noqa: BLE001
            import traceback

            result = {"failed in child": "".join(traceback.format_exception(error))}
        os.close(read)
        data = memoryview(json.dumps(result).encode())
        while data:
            data = data[_write(write, data) :]
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status or not data:
        raise RuntimeError(f"A child ended with status {status}.")
    result = json.loads(data)
    if isinstance(result, dict) and "failed in child" in result:
        raise RuntimeError(f"A child failed:\n{result['failed in child']}")
    return result


def live(act, path, *, kill=None, errors=None, scratch, failpoints=False, again=False):
    """Have a child live through `act`; kill it at, or answer with an error to, one operation.

    Parameters
    ----------
    act : callable
        ``act(path, tell)``.
    path : str
    kill : Operation or None
        The child dies in place of this.
    errors : (Operation, int, bool) or None
        This operation fails with this code; and, if so, all of its system call after it.
    scratch : Path
        A folder for the trace.
    failpoints : bool
        Do without strace.
    again : bool
        After an error, let the same process live through it once more.
    """
    go_read, go_write = os.pipe()
    told_read, told_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        os.close(told_read)
        _begin_as_a_child()
        try:
            _be_the_child(act, path, go_read, told_write, (kill, errors) if failpoints else None, again)
        finally:
            os._exit(1)
    os.close(go_read)
    os.close(told_write)
    log = Path(scratch) / "trace"
    tracer = None if failpoints else _attach(pid, log, kill, errors)
    os.close(go_write)
    with os.fdopen(told_read, "rb") as pipe:
        told = [json.loads(line) for line in pipe.read().splitlines()]
    _, status = os.waitpid(pid, 0)
    if tracer is not None:
        tracer.communicate()
        operations = _parse(log.read_text(errors="replace"))
    else:
        operations = tuple(
            Operation(call, "", site, number)
            for kind, *rest in told
            if kind == "marks"
            for number, (call, site) in enumerate(rest[0], start=1)
        )
    killed = os.WIFSIGNALED(status)
    if not killed and status:
        raise RuntimeError(f"A child ended with status {status}.")
    at = next((rest[0] for kind, *rest in told if kind == "killed"), None)
    if killed and tracer is not None:
        at = operations[-1].kind if operations else None
    error = next((tuple(rest) for kind, *rest in told if kind == "error"), None)
    error_again = next((tuple(rest) for kind, *rest in told if kind == "error again"), None)
    acks = tuple(tuple(line) for line in told if line[0] not in ("marks", "killed", "error", "error again"))
    return Outcome(killed, acks, error, operations, at, error_again)


def _begin_as_a_child():
    """Forget what only the parent has to do when it is told to end."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _be_the_child(act, path, go, told, own, again):
    def tell(kind, *rest):
        # By a call of its own: errors of the others are not meant for this.
        os.writev(told, [(json.dumps([kind, *rest]) + "\n").encode()])

    points = marks.failpoints = marks.Failpoints()
    if own is not None:
        kill, errors = own
        points.kill_at = kill.number if kill else 0
        points.before_kill = lambda call, site: tell("killed", f"{call}  {site}")
        if errors:
            operation, code, lasting = errors
            points.errors = _Errors(operation.number, code, lasting)
    else:
        # Where only ancestors may trace, strace is none.
        ctypes.CDLL(None).prctl(_SET_TRACER, ctypes.c_ulong(-1), 0, 0, 0)
    os.read(go, 1)
    if not _lived(act, path, tell) and again:
        # In the same process: no lock is held, nothing is remembered that is not so.
        points.errors = {}
        _lived(act, path, tell, "error again")
    if own is not None and not points.kill_at:
        tell("marks", points.seen)
    os._exit(0)


def _lived(act, path, tell, name="error"):
    try:
        with warnings.catch_warnings():
            # A purge that a disk without space puts off says so by a warning.
            warnings.simplefilter("ignore")
            act(path, tell)
    except BaseException as error:  # noqa: BLE001
        marks.failpoints.errors = {}
        tell(name, type(error).__name__, str(error), isinstance(error, UnlearnKitError))
        return False
    return True


class _Errors(dict):
    """Errors at one announcement, or at all from that one on."""

    def __init__(self, number, code, lasting):
        self.number, self.code, self.lasting = number, code, lasting

    def __contains__(self, number):
        return number == self.number or (self.lasting and number > self.number)

    def __missing__(self, number):
        return self.code


def _attach(pid, log, kill, errors):
    calls = ",".join(f"?{call}" for call in ("chdir", *CALLS, *([OPENING] if errors else [])))
    command = ["strace", "-f", "-y", "-s", "0", "-o", str(log), "-p", str(pid), "-e", f"trace={calls}"]
    if kill:
        command += ["-e", f"inject={kill.call}:signal=SIGKILL:when={kill.number}"]
    if errors:
        operation, code, lasting = errors
        when = f"{operation.number}{'+' if lasting else ''}"
        command += ["-e", f"inject={operation.call}:error={errno.errorcode[code]}:when={when}"]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = tracer.stderr.readline()
    if b"attached" not in said:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise RuntimeError(f"strace could not attach: {said!r}")
    return tracer


def _parse(text):
    """The operations in a trace, each with the call site that was announced before it."""
    operations, numbers = [], Counter()
    site, since = "", Counter()
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        call, rest = found.groups()
        if call == "chdir":
            path = _PATH.search(rest)
            name = path and (path[1] or path[2])
            if name and name.startswith(marks.FOLDER):
                site, since = name.removeprefix(marks.FOLDER).replace("/", ""), Counter()
            continue
        numbers[call] += 1
        target = _target(rest)
        if target is None:
            continue
        since[call, target] += 1
        operations.append(Operation(call, target, f"{site} #{since[call, target]}", numbers[call]))
    return tuple(operations)


def _target(rest):
    """What kind of file an operation is about; None if it is none of a store's."""
    found = _PATH.search(rest)
    path = Path((found[1] or found[2]).removesuffix(" (deleted)")) if found else None
    if path is None or "crash-store" not in path.parts:
        return None
    name = re.sub(r"[0-9a-f]{16,}", "*", path.name)
    return f"{path.parent.name}/{name}" if path.parent.name in ("blobs", "keys") else name


def points(operations, repeats=(0.0, 1.0)):
    """Operations to try, of each kind: those at these places among its repeats."""
    kinds = {}
    for operation in operations:
        kinds.setdefault(operation.kind, []).append(operation)
    chosen = []
    for found in kinds.values():
        places = sorted({round(place * (len(found) - 1)) for place in repeats})
        chosen += [found[place] for place in places]
    return sorted(chosen, key=operations.index)


def spread(items, count):
    """At most `count` of the items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(count - 1, 1))] for i in range(count)]
