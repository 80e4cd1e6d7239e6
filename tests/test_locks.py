"""Who may change a store: one thread, and one process, at a time."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from copy import copy

import pytest

from unlearnkit import locks as module
from unlearnkit.errors import StoreError, StoreInUseError
from unlearnkit.locks import Locks


@pytest.fixture(params=["memory", "folder"])
def locks(request, tmp_path):
    return Locks(None if request.param == "memory" else tmp_path)


def holders(locks):
    return {"writer": locks.writer, "repairer": lambda: locks.repairer(wait=False)}


def in_thread(work):
    """The result of work done by another thread, or its error."""
    results = []

    def run():
        try:
            results.append(work())
        except StoreError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def take(holder):
    with holder():
        return "taken"


def other_process(folder, kind, then="input()"):
    """A process that holds a lock until it is told to go on, or killed."""
    call = {"writer": "writer()", "repairer": "repairer(wait=True)"}[kind]
    code = f"""
from unlearnkit.locks import Locks
with Locks({str(folder)!r}).{call}:
    print("held", flush=True)
    {then}
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    process.communicate("\n")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "WRITER_S", 0.3)


@pytest.mark.parametrize("kind", ["writer", "repairer"])
def test_one_thread_at_a_time(locks, kind):
    holder = holders(locks)[kind]
    with holder():
        assert isinstance(in_thread(lambda: take(holder)), StoreInUseError)
    assert in_thread(lambda: take(holder)) == "taken"


@pytest.mark.parametrize("kind", ["writer", "repairer"])
def test_the_same_thread_may_take_it_again(locks, kind):
    holder = holders(locks)[kind]
    with holder(), holder():
        pass
    with holder():
        with holder():
            pass
        assert isinstance(in_thread(lambda: take(holder)), StoreInUseError), "still held by the outer one"
    assert in_thread(lambda: take(holder)) == "taken"


def test_the_two_locks_do_not_know_each_other(locks):
    with locks.writer():
        assert in_thread(lambda: take(lambda: locks.repairer(wait=False))) == "taken"
    with locks.repairer(wait=True):
        assert in_thread(lambda: take(locks.writer)) == "taken"


@pytest.mark.parametrize("kind", ["writer", "repairer"])
def test_an_error_lets_go(locks, kind):
    holder = holders(locks)[kind]
    with pytest.raises(ValueError, match="of the work"), holder():
        raise ValueError("of the work")
    assert in_thread(lambda: take(holder)) == "taken"


def test_a_repairer_that_waits_gets_its_turn(locks):
    order = []
    started = threading.Event()

    def second():
        started.set()
        with locks.repairer(wait=True):
            order.append("second")

    with locks.repairer(wait=True):
        thread = threading.Thread(target=second)
        thread.start()
        started.wait()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_repairer_that_does_not_wait_is_told_at_once(locks):
    with locks.repairer(wait=True):
        start = time.monotonic()
        error = in_thread(lambda: take(lambda: locks.repairer(wait=False)))
        assert time.monotonic() - start < 5
    assert isinstance(error, StoreInUseError)
    assert "repairing" in str(error)
    assert "nothing was changed" in str(error)


def test_whether_a_repair_is_under_way_is_known(locks):
    assert not locks.is_repairing()
    with locks.repairer(wait=True):
        assert locks.is_repairing()
        assert in_thread(locks.is_repairing)
        with locks.repairer(wait=True):
            assert locks.is_repairing()
        assert locks.is_repairing()
    assert not locks.is_repairing()
    with locks.writer():
        assert not locks.is_repairing()


def test_asking_is_not_a_repair_that_others_run_into(locks):
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            locks.is_repairing()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(50):
            with locks.repairer(wait=False):
                pass
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("kind", ["writer", "repairer"])
def test_one_process_at_a_time(tmp_path, kind):
    locks = Locks(tmp_path)
    process = other_process(tmp_path, kind)
    with pytest.raises(StoreInUseError, match=tmp_path.name):
        take(holders(locks)[kind])
    assert locks.is_repairing() == (kind == "repairer")
    end(process)
    assert take(holders(locks)[kind]) == "taken"
    assert not locks.is_repairing()


@pytest.mark.parametrize("kind", ["writer", "repairer"])
def test_a_dead_process_holds_nothing(tmp_path, kind):
    process = other_process(tmp_path, kind)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not Locks(tmp_path).is_repairing()
    assert take(holders(Locks(tmp_path))[kind]) == "taken"


def test_a_writer_waits_for_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WRITER_S", 60)
    process = other_process(tmp_path, "writer", then="import time; time.sleep(0.5)")
    assert take(Locks(tmp_path).writer) == "taken"
    end(process)


def test_the_lock_survives_the_release_of_others(tmp_path):
    """The file stays: one that is made anew would be another lock."""
    locks = Locks(tmp_path)
    for _ in range(2):
        take(locks.writer)
        take(lambda: locks.repairer(wait=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repair.lock", "writer.lock"]


@pytest.mark.parametrize("duplicate", [copy, lambda locks: pickle.loads(pickle.dumps(locks))])
def test_a_copy_holds_nothing(locks, duplicate):
    with locks.repairer(wait=True):
        other = duplicate(locks)
        assert other.folder == locks.folder
        # In memory a copy is of another store; in a folder it is of the same one.
        assert other.is_repairing() == (locks.folder is not None)
    assert take(lambda: other.repairer(wait=False)) == "taken"


def run_forked(work):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_process_does_not_hold_what_its_parent_holds(tmp_path):
    locks = Locks(tmp_path)

    def child():
        return locks.is_repairing() and isinstance(in_thread(lambda: take(locks.writer)), StoreInUseError)

    with locks.repairer(wait=True), locks.writer():
        assert run_forked(child) == 0
        # Nor does its end let go of it.
        assert Locks(tmp_path).is_repairing()
    assert run_forked(lambda: not locks.is_repairing() and take(locks.writer) == "taken") == 0


def test_leaving_in_a_forked_process_lets_go_of_nothing(tmp_path):
    locks = Locks(tmp_path)
    stack = ExitStack()
    stack.enter_context(locks.repairer(wait=True))

    def child():
        stack.close()
        return locks.is_repairing()

    assert run_forked(child) == 0
    assert Locks(tmp_path).is_repairing()
    stack.close()
    assert not Locks(tmp_path).is_repairing()


def test_a_forked_process_does_not_keep_a_dead_parents_lock(tmp_path):
    code = """
import os, time
ready, done = os.pipe()
child = os.fork()
if not child:
    os.write(done, b".")
    time.sleep(60)
os.read(ready, 1)
print(child, flush=True)
"""
    process = other_process(tmp_path, "repairer", then=f"exec({code!r}); input()")
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        assert not Locks(tmp_path).is_repairing()
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_a_folder_that_cannot_be_written_to_is_a_store_error(tmp_path):
    (tmp_path / "none").write_bytes(b"")
    with pytest.raises(StoreError, match=r"Could not lock writer\.lock"):
        take(Locks(tmp_path / "none").writer)


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    import filelock

    monkeypatch.setattr(filelock, "FileLock", filelock.SoftFileLock)
    locks = Locks(tmp_path)
    with pytest.raises(StoreError, match="no file locks"):
        take(locks.writer)
    assert list(tmp_path.iterdir()) == []
