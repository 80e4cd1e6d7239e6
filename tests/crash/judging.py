"""The judge: after a kill, is nothing lost that was promised, is nothing left of what was forgotten, is all exact?"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import places
from edits import EDITS, after, gone, is_refreshed, operations, stage_of
from places import at, load
from scenarios import PHASES, base, data, fit, groups, in_memory, reference

from unlearnkit.errors import StoreError, StoreInUseError
from unlearnkit.ledger import PURGED, REJECTED, REPAIRED
from unlearnkit.statements import verify_chain
from unlearnkit.store import SETTINGS, TRAINING

KNOWN_NAMES = {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "blobs", "keys", "writer.lock", "repair.lock"}
KNOWN_KEYS = {"partition.key", "pseudonym.key", "signing.key", "signing.pub"}


class Findings(list):
    def expect(self, holds, text):
        if not holds:
            self.append(text)


def judge(path, phase_name, acks, refit=False):
    """What is wrong with a store whose process has died; an empty list if nothing is.

    Parameters
    ----------
    path : str
    phase_name : str
    acks : sequence
        What the process had promised before it died.
    refit : bool
        Go on by the same fit instead of by opening.
    """
    findings, phase = Findings(), PHASES[phase_name]
    kept_promises(findings, path, acks)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            judged(findings, path, phase_name, phase, acks, refit)
    except Exception as error:  # noqa: BLE001
        import traceback

        findings.append("".join(traceback.format_exception(error)[-6:]))
    return list(findings)


def kept_promises(findings, path, acks):
    """What was acknowledged is in the ledger already, before anything is recovered."""
    wanted = {kind: max(sequences) for kind, *sequences in acks if sequences}
    if not wanted:
        return
    states = places.states(path)
    states_of = {"received": None, "purged": (PURGED, REPAIRED), "repaired": (REPAIRED,)}
    for kind, last in wanted.items():
        if kind not in states_of:
            continue
        for sequence in range(1, last + 1):
            state, allowed = states.get(sequence), states_of[kind]
            findings.expect(state is not None, f"request {sequence} was acknowledged as {kind} and is lost")
            findings.expect(allowed is None or state in allowed, f"request {sequence}: {state}, acknowledged as {kind}")


def judged(findings, path, phase_name, phase, acks, refit):
    existed = founded(path)
    stage = stage_of(at(path)) if phase_name in EDITS else None
    model = opened(findings, path, phase_name, phase, acks, refit=refit)
    if model is None:
        return
    if refit or not existed:
        # A fit is no opening: it leaves to the first of them to note how often readers look.
        model = load(path)
    store = model._ensemble.store
    ledger = store.ledger
    requests = ledger.requests()
    if phase_name in EDITS:
        forgotten, replaced, known = edited(findings, store, phase_name, acks, stage)
    else:
        forgotten, replaced = frozenset(i for ids in groups()[: len(requests)] for i in ids), ()
        if phase_name == "readmit" and not ledger.tombstones():
            forgotten = frozenset()
        known = reference(forgotten)
    # An open finishes what was under way.
    findings.expect(len(requests) >= phase.known, f"of {phase.known} requests {len(requests)} are left")
    unfinished = [f"{r.sequence}: {r.state}" for r in requests if r.state not in (PURGED, REPAIRED, REJECTED)]
    findings.expect(not unfinished, f"not finished by the opening: {unfinished}")
    findings.expect(not ledger.note(TRAINING), "a training is said to be under way, and nobody is at it")
    waiting = any(r.state == PURGED for r in requests)
    degraded = model.degraded_shards_
    findings.expect(not degraded or (waiting and not phase.trains), f"shards {degraded} are left untrained")
    if any(kind == "readmitted" for kind, *_ in acks):
        findings.expect(not ledger.tombstones(), "what was readmitted is a tombstone")
    # What is there is part of a build from scratch.
    states = {key: checkpoint.parts for key, checkpoint in ledger.checkpoints().items()}
    findings.expect(ledger.keys() == known.keys, "the plan is not that of the remaining records")
    findings.expect(states.items() <= known.states.items(), "a stored state is not that of a build from scratch")
    whole_files(findings, store, path)
    residue(findings, path, forgotten, replaced)
    # A second opening changes nothing.
    before = dump(path)
    second = load(path)
    findings.expect(dump(path) == before, "a second opening changed something")
    # And all can be completed.
    second.repair()
    exact(findings, second, known)
    whole_files(findings, store, path)
    residue(findings, path, forgotten, replaced)
    statements(findings, second)
    third = load(path)
    exact(findings, third, known)


def edited(findings, store, phase_name, acks, before):
    """What a store should hold whose records were edited, once it is known how far that has got."""
    stage, promised = stage_of(store), max((done for kind, done in acks if kind == "edited"), default=0)
    findings.expect(before >= promised, f"{promised} operations were acknowledged, and {before} are kept")
    findings.expect(stage == before, f"an opening has changed the records: {before} operations before, {stage} after")
    refresh = phase_name == "refresh"
    done = refresh and stage == len(operations())
    findings.expect(not refresh or is_refreshed(store) == done, "schema and records are not of one moment")
    return *gone(stage), after(stage, refresh=refresh)


def founded(path):
    """Whether there is a model in the store."""
    store = at(path)
    return store.exists and store.ledger.note(SETTINGS) is not None


def opened(findings, path, phase_name, phase, acks, *, refit):
    """The model of the store, opened by a new process, or founded again where there is none yet."""
    if not founded(path):
        findings.expect(phase.new and not acks, "the model is gone")
        refused = None
        try:
            load(path)
        except StoreError as error:
            refused = error
        findings.expect(refused is not None, "a store without a model could be opened")
        if phase_name == "save":
            save_again(findings, path)
            return load(path)
        return fit(path) if phase.new else None
    if refit and phase_name == "save":
        try:
            in_memory().save(path)
        except StoreInUseError:
            return load(path)
        findings.append("a model was written over another")
    return fit(path) if refit else load(path)


def save_again(findings, path):
    """Write the model, which died with its process, once more: the same one, if that had got as far as the secrets."""
    try:
        in_memory().save(path)
    except StoreError as error:
        findings.expect("another secret" in str(error), f"not written again: {error}")
        shutil.rmtree(path)
        in_memory().save(path)


def exact(findings, model, known):
    findings.expect(model.degraded_shards_ == (), f"shards {model.degraded_shards_} were not repaired")
    findings.expect(model.model_digest_ == known.digest, "the digest is not that of a build from scratch")
    findings.expect(np.array_equal(model.predict_proba(data().X), known.predictions), "predictions differ")
    states = {r.sequence: r.state for r in model._ensemble.store.ledger.requests()}
    findings.expect(set(states.values()) <= {REPAIRED, REJECTED}, f"requests are left open: {states}")


def statements(findings, model):
    """The receipts are one chain, with two for each request."""
    store = model._ensemble.store
    envelopes = store.ledger.statements()
    findings.extend(verify_chain(envelopes, store.secrets.public_keys))
    expected = 2 * len(store.ledger.requests())
    findings.expect(len(envelopes) == expected, f"{len(envelopes)} statements, and not {expected}")


def whole_files(findings, store, path):
    """No temporary file, no blob that nothing refers to, none that is missing or not what its name says."""
    folder = Path(path)
    names = {entry.name for entry in folder.iterdir()}
    findings.expect(names <= KNOWN_NAMES, f"left over in the store: {sorted(names - KNOWN_NAMES)}")
    keys = {entry.name for entry in (folder / "keys").iterdir()}
    findings.expect(keys == KNOWN_KEYS, f"keys: {sorted(keys)}")
    blobs = {entry.name: entry.read_bytes() for entry in (folder / "blobs").iterdir()}
    references = store.ledger.references()
    findings.expect(set(blobs) <= references, f"{len(set(blobs) - references)} blobs that nothing refers to")
    findings.expect(references <= set(blobs), f"{len(references - set(blobs))} blobs are missing")
    damaged = [name for name, content in blobs.items() if hashlib.sha256(content).hexdigest() != name]
    findings.expect(not damaged, f"{len(damaged)} blobs are not what their names say")


def residue(findings, path, forgotten, replaced=()):
    """No byte of a row that was forgotten or replaced, and no address of a forgotten one."""
    lost = np.isin(data().ids, list(forgotten))
    needles = {}
    for row in (*data().X[lost], *replaced):
        for value in row:
            needles |= {np.float64(value).tobytes(): "value", repr(float(value)).encode(): "value as text"}
    for record in data().ids[lost]:
        needles |= {str(record).encode(): "id as text", np.int64(record).tobytes(): "id"}
    for address in base()._ensemble._eraser.addresses.items(list(forgotten)):
        needles |= {address.encode(): "address as text", bytes.fromhex(address): "address"}
    files = [file for file in Path(path).rglob("*") if file.is_file() and "keys" not in file.parts]
    contents = {file.name[:20]: file.read_bytes() for file in files}
    if places.server is not None:
        contents["the server"] = repr(places.rows(path)).encode()
    for name, content in contents.items():
        found = {what for needle, what in needles.items() if needle in content}
        findings.expect(not found, f"of a forgotten record, in {name}: {sorted(found)}")


def dump(path):
    """All rows of the ledger, and all blobs with their digests."""
    files = sorted(file for file in Path(path).rglob("*") if file.is_file() and "ledger" not in file.name)
    return places.rows(path), {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
