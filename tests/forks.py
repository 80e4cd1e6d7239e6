"""Programs that need not import first what most of them import: forks of one process that has.

Importing scikit-learn and LightGBM takes seconds of a processor, and a page of commands starts thirty processes.
What a real start does (`test_cli_process`) and what differs between processes, such as the hashes of strings, is not
for these.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from select import select
from shlex import quote

READY = b"ready"
# What commands and models import late. What is not installed is left out.
FRAMEWORKS = ("sklearn.ensemble", "sklearn.naive_bayes", "sklearn.tree", "pandas", "lightgbm")
PACKAGES = ("unlearnkit", "unlearnkit_sklearn", "unlearnkit_lightgbm")
LATE = ("cryptography.hazmat.primitives.asymmetric.ed25519", "cryptography.hazmat.primitives.serialization")
LATE += ("filelock", "jinja2", "pydantic", "sqlalchemy.dialects.sqlite", "typer._adapters")
# Waits for the fork, and is a process for those who want to know of one: to be waited for, and to be killed.
STAND_IN = """
import json, os, socket, sys
if {python_too} and sys.argv[1:2] not in (["-c"], ["-"]):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
call = json.dumps([{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(call).to_bytes(8, "big")], [0, 1, 2])
server.sendall(call)
code = server.recv(1)
sys.exit(code[0] if code else 70)
"""


@contextmanager
def stand_ins() -> Iterator[Path]:
    """A folder with the programs ``unlearnkit`` and ``python``, whose processes are forks.

    Of ``python`` it is ``-c`` and ``-``; anything else starts the real one.
    """
    # Of its own: the address of a socket may have no more than a hundred characters.
    with tempfile.TemporaryDirectory(prefix="forks-") as name:
        folder, address = Path(name), f"{name}/forks"
        for program in ("unlearnkit", "python"):
            _write(folder / program, address)
        command = [sys.executable, __file__, address]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline().strip() == READY, "The process to fork from did not start."
                yield folder
            finally:
                server.kill()


def _write(program: Path, address: str) -> None:
    told = {"address": address, "program": program.name, "python_too": program.name == "python"}
    code = program.with_suffix(".py")
    code.write_text(STAND_IN.format(python=sys.executable, **told), encoding="utf-8")
    # The shell becomes the process that is waited for.
    program.write_text(f'#!/bin/sh\nexec {quote(sys.executable)} -SE {quote(str(code))} "$@"\n', encoding="utf-8")
    program.chmod(0o700)


def prepare() -> None:
    """Import what the forks would."""
    # The folder of this file, where no program would look.
    del sys.path[0]
    own = [module.name for name in PACKAGES for module in _modules(name)]
    for name in (*own, *FRAMEWORKS, *LATE):
        with suppress(ImportError):
            import_module(name)
    # A collection in a fork would copy all pages with objects.
    gc.collect()
    gc.freeze()


def _modules(package: str) -> Iterator[pkgutil.ModuleInfo]:
    with suppress(ImportError):
        yield from pkgutil.walk_packages(import_module(package).__path__, f"{package}.")


def serve(address: str) -> None:
    """Fork for each call, for as long as somebody holds the other end of the standard input.

    Returns in the forks, with nothing left to do.
    """
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        os.write(1, READY + b"\n")
        while server in select([server, 0], [], [])[0]:
            caller, _ = server.accept()
            # Twice, so that one process is left that knows how the other ended.
            if os.fork() == 0:
                return answer(caller)
            caller.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    return None


def answer(caller: socket.socket) -> None:
    """Let a fork do what was called for, tell the caller how it ended, and end it if the caller does."""
    size, streams, _, _ = socket.recv_fds(caller, 8, 3)
    call = bytearray()
    while len(call) < int.from_bytes(size, "big"):
        if not (more := caller.recv(1 << 20)):
            os._exit(1)
        call += more
    fork = os.fork()
    if fork == 0:
        caller.close()
        return run(*json.loads(call), streams)
    for stream in streams:
        os.close(stream)
    threading.Thread(target=_end_with, args=(caller, fork), daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
    caller.sendall(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def _end_with(caller: socket.socket, fork: int) -> None:
    if not caller.recv(1):
        os.kill(fork, signal.SIGKILL)


def run(program: str, arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    """Do what was called for, with the streams, folder and environment of who called."""
    for fd, stream in enumerate(streams):
        os.dup2(stream, fd)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    if program == "unlearnkit":
        sys.argv = [program, *arguments]
        import_module("unlearnkit.cli").main()
        return
    code = arguments.pop(1) if arguments[0] == "-c" else sys.stdin.read()
    sys.argv = arguments
    sys.path.insert(0, "")
    exec(compile(code, "<string>", "exec", dont_inherit=True), vars(main))


if __name__ == "__main__":
    prepare()
    serve(sys.argv[1])
