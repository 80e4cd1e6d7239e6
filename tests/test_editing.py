"""Records that arrive and are put right: what is refused, what is told, and what is left of the old rows."""

from __future__ import annotations

import pickle
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

from unlearnkit import SISAClassifier, SISARegressor, load
from unlearnkit.errors import (
    CapabilityError,
    DataError,
    DataWarning,
    ForgottenRecordError,
    ParameterError,
    SchemaError,
    UnknownRecordError,
)
from unlearnkit.statements import read, verify_chain
from unlearnkit.store import Store
from unlearnkit.subjects import subject_version

FIRST, ALL = slice(0, 60), slice(0, 80)
LATER = slice(60, 80)


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    # Two rows of each of forty ids, some of which return in the later rows.
    return rng.normal(size=(80, 3)), rng.permutation(80) % 2, rng.permutation(80) // 2 + 1000


@pytest.fixture(params=["memory", "store"])
def where(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "a.sisa"


def new(where=None, **options):
    return SISAClassifier(GaussianNB(), store=where, **{"n_shards": 3, "n_slices": 2, "random_state": 0} | options)


def part(data, rows):
    X, y, ids = data
    return {"X": X[rows], "y": y[rows], "ids": ids[rows]}


def grown(where, data, **options):
    """A model with records that arrived after its fit."""
    return new(where, **options).fit(**part(data, FIRST)).partial_fit(**part(data, LATER))


def told(model):
    """What a call that is refused must leave as it was."""
    ensemble = model._ensemble
    records = [ensemble._build.records.shard(s) for s in range(3)]
    rows = [(r.rid.tobytes(), r.content.tobytes(), r.slice.tolist()) for r in records]
    return model.model_digest_, ensemble.store.ledger.epoch, rows, ensemble.store.ledger.notes()


def same(model, other, X):
    return model.model_digest_ == other.model_digest_ and np.array_equal(model.predict_proba(X), other.predict_proba(X))


class Crash(BaseException):
    """What stands for an interruption: nothing catches it."""


def interrupted(monkeypatch, steps, call):
    """Whether a call was interrupted once it had stored this many steps."""
    plain, left = Store.save, [steps]

    def save(self, *arguments):
        done = plain(self, *arguments)
        left[0] -= 1
        if left[0] == 0:
            raise Crash
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", save)
        with pytest.raises(Crash):
            call()


# -- arrive ----------------------------------------------------------------------------------------------------------

WRONG = {
    "label": (lambda X, y, ids: {"X": X, "y": [7] * len(y), "ids": ids}, SchemaError, "not among the 2 classes"),
    "columns": (lambda X, y, ids: {"X": X[:, :2], "y": y, "ids": ids}, DataError, "features"),
    "text": (lambda X, y, ids: {"X": [["a"] * 3] * len(y), "y": y, "ids": ids}, DataError, "convert"),
    "missing": (lambda X, y, ids: {"X": X * np.nan, "y": y, "ids": ids}, DataError, "NaN"),
    "lengths": (lambda X, y, ids: {"X": X, "y": y[1:], "ids": ids}, DataError, "y"),
    "no ids": (lambda X, y, ids: {"X": X, "y": y}, SchemaError, "fitted with ids"),
    "str ids": (lambda X, y, ids: {"X": X, "y": y, "ids": [f"c{i}" for i in ids]}, SchemaError, "ids are str"),
    "fewer ids": (lambda X, y, ids: {"X": X, "y": y, "ids": ids[1:]}, DataError, "ids"),
    "weights": (
        lambda X, y, ids: {"X": X, "y": y, "ids": ids, "sample_weight": np.ones(len(y))},
        SchemaError,
        "without sample weights",
    ),
}


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("operation", ["partial_fit", "rectify"])
def test_what_does_not_fit_is_refused_and_changes_nothing(data, where, operation, how):
    clf = grown(where, data)
    wrong, error, words = WRONG[how]
    call = wrong(*part(data, slice(0, 4)).values())
    if operation == "rectify" and "ids" not in call:
        call["ids"] = None
    before = told(clf)
    with pytest.raises(error, match=words):
        getattr(clf, operation)(**call)
    assert told(clf) == before
    assert clf.receipts() == ()
    assert clf.verify().exact


@pytest.mark.parametrize(
    ("options", "words"), [({"forgotten": "never"}, "never"), ({"erasure_probability": 0.1}, "BandedPartition")]
)
def test_options_that_make_no_sense_are_refused(data, where, options, words):
    clf = grown(where, data)
    before = told(clf)
    with pytest.raises(ParameterError, match=words):
        clf.partial_fit(**part(data, FIRST), **options)
    assert told(clf) == before


def test_a_model_that_takes_no_weights_refuses_them(data):
    from sklearn.neighbors import KNeighborsClassifier

    clf = SISAClassifier(KNeighborsClassifier(2), n_shards=2, random_state=0).fit(**part(data, FIRST))
    with pytest.raises(CapabilityError, match="sample_weight"):
        clf.partial_fit(**part(data, LATER), sample_weight=np.ones(20))


def test_a_category_that_the_schema_does_not_know_is_refused():
    lightgbm = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=60), "kind": pd.Categorical(rng.choice(list("xy"), 60))})
    model = lightgbm.LGBMClassifier(n_estimators=3, min_child_samples=2, verbose=-1)
    clf = SISAClassifier(model, n_shards=2, n_slices=2, random_state=0)
    clf.fit(table[:50], np.arange(50) % 2, ids=np.arange(50))
    before = clf.model_digest_, clf._ensemble.store.ledger.epoch
    later = table[50:].astype({"kind": str})
    later.loc[55, "kind"] = "z"
    for call in (clf.partial_fit, clf.rectify):
        with pytest.raises(SchemaError, match="'kind'"):
            call(later, np.arange(10) % 2, ids=np.arange(10))
    assert (clf.model_digest_, clf._ensemble.store.ledger.epoch) == before


def test_no_rows_change_nothing(data, where):
    clf = grown(where, data)
    before = told(clf)
    clf.partial_fit(**part(data, slice(0, 0)))
    assert told(clf) == before


def test_the_first_call_is_a_fit(data):
    first = new().partial_fit(**part(data, FIRST))
    assert same(first, new().fit(**part(data, FIRST)), data[0])
    more = new().partial_fit(**part(data, FIRST), classes=[0, 1, 2])
    assert more.classes_.tolist() == [0, 1, 2]
    X, _, ids = data
    assert more.partial_fit(X[LATER], [2] * 20, ids=ids[LATER]).verify().exact
    with pytest.raises(DataError):
        new().partial_fit(**part(data, FIRST), classes=[0, 5])


def test_only_one_step_of_each_shard_is_trained(data, helpers):
    model = helpers.build(n_slices=2)
    X, y, ids = data
    model.fit(X[FIRST], y[FIRST], ids=ids[FIRST])
    model.learner.trained.clear()
    model.partial_fit(X[LATER], y[LATER], ids=ids[LATER])
    assert sorted((step.shard, step.slice) for step in model.learner.trained) == [(0, 2), (1, 2), (2, 2)]
    assert all(step.start == 1 and step.stop == 1.5 for step in model.learner.trained)


def test_an_arrival_that_was_forgotten_whole_has_never_been(data, where):
    X, y, _ = data
    clf = new(where).fit(**part(data, FIRST))
    clf.partial_fit(X[:6] + 1, y[:6], ids=np.arange(6)).partial_fit(X[:6] + 2, y[:6], ids=np.arange(10, 16))
    clf.forget(np.arange(6))
    twin = clf.pinned().fit(**part(data, FIRST)).partial_fit(X[:6] + 2, y[:6], ids=np.arange(10, 16))
    assert same(clf, twin, X)
    assert {cell[1] for cell in clf.partition_.locate(np.arange(10, 16))} == {2}


def test_positions_go_on(data, where):
    X, y, _ = data
    clf = new(where).fit(X[:60], y[:60]).partial_fit(X[60:70], y[60:70])
    clf.forget([59, 65])
    clf.partial_fit(X[70:], y[70:])
    assert clf.forget([60, 69, 70, 79]).n_records == 4
    with pytest.raises(UnknownRecordError):
        clf.forget(80)
    assert clf.forget([65]).already_forgotten == 1
    gone = [59, 60, 65, 69, 70, 79]
    keep = [np.setdiff1d(np.arange(a, b), gone) for a, b in ((0, 60), (60, 70), (70, 80))]
    twin = clf.pinned().fit(X[keep[0]], y[keep[0]])
    for rows in keep[1:]:
        twin.partial_fit(X[rows], y[rows])
    assert same(clf, twin, X)


def test_index_labels_go_on_and_none_is_used_twice(data, where):
    X, y, _ = data
    table = pd.DataFrame(X, columns=list("abc"), index=[f"r{i}" for i in range(80)])
    clf = new(where).fit(table[:60], y[:60]).partial_fit(table[60:], y[60:])
    assert clf.forget(["r3", "r70"]).n_records == 2
    before = told(clf)
    # Of a record that is there, and of one that was forgotten.
    for label in ("r4", "r71", "r3", "r70"):
        with pytest.raises(DataError, match="1 rows have an index label"):
            clf.partial_fit(table[:1].set_axis([label]) + 1, y[:1])
    assert told(clf) == before
    assert clf.partial_fit(table[:1].set_axis(["new"]) + 1, y[:1]).forget("new").n_records == 1


def test_rows_that_no_request_could_name_are_refused(data, where):
    X, y, _ = data
    named = pd.DataFrame(X, columns=list("abc"), index=[f"r{i}" for i in range(80)])
    numbered = named.reset_index(drop=True)
    for first, later in ((named, numbered), (numbered, named)):
        clf = new().fit(first[:60], y[:60])
        before = told(clf)
        with pytest.raises(SchemaError, match="no request could name"):
            clf.partial_fit(later[60:], y[60:])
        assert told(clf) == before
    assert clf.partial_fit(numbered[60:], y[60:]).forget(79).n_records == 1


@pytest.mark.parametrize("forgotten", ["raise", "drop", "readmit"])
def test_rows_of_forgotten_ids(data, where, forgotten):
    X, _, ids = data
    clf = new(where).fit(**part(data, FIRST))
    gone = np.unique(ids[LATER])[:2]
    clf.forget(gone, missing="ignore")
    known = np.intersect1d(gone, ids[FIRST])
    assert len(known)
    before = told(clf)
    call = partial(clf.partial_fit, **part(data, LATER), forgotten=forgotten)
    if forgotten == "raise":
        with pytest.raises(ForgottenRecordError, match=f"{len(known)} ids"):
            call()
        assert told(clf) == before
        return
    call()
    first = ~np.isin(ids, known) & (np.arange(80) < 60)
    later = np.arange(80) >= 60
    later &= ~np.isin(ids, known) if forgotten == "drop" else True
    assert same(clf, clf.pinned().fit(**part(data, first)).partial_fit(**part(data, later)), X)
    assert clf.verify().forgotten_rows == 0
    receipt = clf.forget(known)
    assert (receipt.n_records > 0) == (forgotten == "readmit")
    assert receipt.already_forgotten == (len(known) if forgotten == "drop" else 0)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_same_call_again_after_an_interruption_adds_nothing_twice(data, where, monkeypatch, steps):
    clf = new(where).fit(**part(data, FIRST))
    interrupted(monkeypatch, steps, lambda: clf.partial_fit(**part(data, LATER)))
    assert clf.degraded_shards_ != ()
    clf.partial_fit(**part(data, LATER))
    assert same(clf, grown(None, data), data[0])
    # Once it is done, the same rows are new ones.
    assert clf.partial_fit(**part(data, LATER))._ensemble._build.records.n_records == 100


@pytest.mark.parametrize("way", ["repair", "load", "save"])
def test_an_interrupted_arrival_is_trained_by_what_comes_next(data, tmp_path, monkeypatch, way):
    path = tmp_path / "a.sisa"
    clf = new(path if way == "load" else None).fit(**part(data, FIRST))
    interrupted(monkeypatch, 1, lambda: clf.partial_fit(**part(data, LATER)))
    if way == "repair":
        clf.repair()
    else:
        if way == "save":
            clf.save(path)
        clf = load(path)
    assert clf.degraded_shards_ == ()
    assert same(clf, grown(None, data), data[0])


def test_a_shard_that_cannot_be_trained_keeps_its_new_records_until_it_is_consolidated():
    from sklearn.neighbors import KNeighborsClassifier

    X = np.random.default_rng(0).normal(size=(60, 3))
    # Every id has both classes.
    y, ids = np.arange(60) % 2, np.arange(60) // 2
    clf = SISAClassifier(KNeighborsClassifier(5), n_shards=3, random_state=0).fit(X, y, ids=ids)
    gone = np.unique(ids[np.array([cell[0] for cell in clf.partition_.locate(ids)]) == 1])[1:]
    with pytest.warns(RuntimeWarning, match="Shard 1"):
        clf.forget(gone)
    back = np.isin(ids, gone)
    # Its first slice has too few rows still.
    with pytest.warns(RuntimeWarning, match="Shard 1"):
        clf.partial_fit(X[back], y[back], ids=ids[back], forgotten="readmit")
    assert clf.degraded_shards_ == (1,)
    assert clf._ensemble._build.records.n_records == 60
    clf.consolidate()
    assert clf.degraded_shards_ == ()
    assert same(clf, clf.pinned().fit(X, y, ids=ids), X)


# -- put right -------------------------------------------------------------------------------------------------------


def test_a_rectified_record_is_where_the_first_of_its_rows_was(data, where):
    X, y, ids = data
    clf = grown(where, data)
    both = np.intersect1d(ids[FIRST], ids[LATER])
    late = np.setdiff1d(ids[LATER], ids[FIRST])
    assert len(both)
    assert len(late)
    chosen = [both[0], late[0]]
    places = clf.partition_.locate(chosen)
    assert [r >= 2 for _, r in places] == [False, True]
    receipt = clf.rectify(X[:3] + 5, y[:3], ids=[*chosen, late[0]])
    assert clf.partition_.locate(chosen) == places
    assert receipt.kind == "rectification"
    assert (receipt.n_ids, receipt.n_records) == (2, int(np.isin(ids, chosen).sum()))
    assert receipt.shards.keys() == {s for s, _ in places}
    assert receipt.repaired_at is not None
    assert receipt.digest_after == clf.model_digest_ != receipt.digest_before
    kept = ~np.isin(ids, chosen)
    first, later = kept & (np.arange(80) < 60), kept & (np.arange(80) >= 60)
    twin = clf.pinned().fit(np.vstack([X[first], X[:1] + 5]), np.r_[y[first], y[0]], ids=np.r_[ids[first], both[0]])
    twin.partial_fit(
        np.vstack([X[later], X[1:3] + 5]), np.r_[y[later], y[1:3]], ids=np.r_[ids[later], late[0], late[0]]
    )
    assert same(clf, twin, X)
    if where:
        assert same(clf, load(where), X)


def test_what_was_put_right_is_forgotten_like_any_other(data, where):
    X, y, ids = data
    clf = grown(where, data)
    clf.rectify(X[:1] + 5, y[:1], ids=ids[:1])
    clf.rectify(X[:2] + 6, 1 - y[:2], ids=ids[[0, 0]])
    assert clf.forget(ids[0]).n_records == 2
    kept = ids != ids[0]
    first, later = kept & (np.arange(80) < 60), kept & (np.arange(80) >= 60)
    assert same(clf, clf.pinned().fit(**part(data, first)).partial_fit(**part(data, later)), X)
    before = told(clf)
    with pytest.raises(UnknownRecordError, match="1 of them were forgotten"):
        clf.rectify(X[:2], y[:2], ids=[ids[0], 5])
    assert told(clf) == before


def test_rectify_needs_ids_that_have_records(data, where):
    X, y, ids = data
    clf = grown(where, data)
    before = told(clf)
    with pytest.raises(UnknownRecordError, match="1 of 2 ids have no record"):
        clf.rectify(X[:2], y[:2], ids=[ids[0], 5])
    assert told(clf) == before
    without = new().fit(X, y)
    with pytest.raises(DataError, match="without ids"):
        without.rectify(X[:1], y[:1], ids=[0])


def test_a_repair_can_wait(data, where):
    X, y, ids = data
    clf = grown(where, data)
    receipt = clf.rectify(X[:1] + 5, y[:1], ids=ids[:1], repair=False)
    assert receipt.repaired_at is None
    assert clf.degraded_shards_ == tuple(receipt.shards)
    (repaired,) = clf.repair()
    assert (repaired.request_id, repaired.steps_retrained > 0) == (receipt.request_id, True)
    twin = grown(None, data)
    twin.rectify(X[:1] + 5, y[:1], ids=ids[:1])
    assert same(clf, twin, X)


def test_rows_without_weight_can_be_put_right(data, where):
    X, y, ids = data
    weight = np.ones(60)
    weight[0] = 0.0
    ids = np.r_[7, ids[1:]]
    clf = new(where).fit(X[FIRST], y[FIRST], weight, ids=ids[FIRST])
    before = clf.model_digest_
    receipt = clf.rectify(X[:1] + 5, y[:1], [0.0], ids=[7])
    assert (receipt.n_records, receipt.shards, clf.model_digest_) == (1, {}, before)
    receipt = clf.rectify(X[:1] + 6, y[:1], [2.0], ids=[7])
    assert len(receipt.shards) == 1
    twin = clf.pinned().fit(np.vstack([X[1:60], X[:1] + 6]), np.r_[y[1:60], y[0]], np.r_[np.ones(59), 2.0],
                            ids=np.r_[ids[1:60], 7])  # fmt: skip
    assert same(clf, twin, X)


def test_nothing_of_the_old_rows_is_left_in_the_store(data, tmp_path):
    X, y, ids = data
    clf = grown(tmp_path / "a.sisa", data)
    old = X[ids == ids[0]]
    assert _found(tmp_path, old)
    clf.rectify(X[:1] + 5, y[:1], ids=ids[:1], repair=False)
    assert not _found(tmp_path, old)
    assert _found(tmp_path, X[:1] + 5)


def _found(folder, rows):
    content = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    return any(np.float64(value).tobytes() in content for row in rows for value in row)


def test_the_statements_of_a_rectification(data, tmp_path):
    X, y, ids = data
    clf = grown(tmp_path / "a.sisa", data)
    clf.rectify(X[:1] + 5, y[:1], ids=ids[:1])
    store = clf._ensemble.store
    envelopes, keys = store.ledger.statements(), store.secrets.public_keys
    assert verify_chain(envelopes, keys) == []
    predicates = [read(envelope, keys)["predicate"] for envelope in envelopes]
    assert [p["kind"] for p in predicates] == ["purged", "repaired"]
    assert {p["request"]["outcome"] for p in predicates} == {"rectified"}
    names = predicates[0]["ids"]["pseudonyms"]
    assert len(names) == 1
    told = subject_version(envelopes, keys, names)
    assert told["outcome"] == "rectified"
    assert str(ids[0]) not in "".join(envelopes)
    # It is no tombstone: the id is still there.
    assert store.ledger.tombstones() == {}


# -- look ------------------------------------------------------------------------------------------------------------


def test_an_estimate_after_an_arrival(data, where):
    clf = grown(where, data)
    ids = data[2]
    late = np.setdiff1d(ids[LATER], ids[FIRST])[0]
    known, before = clf.estimate(late), told(clf)
    ((shard, r),) = clf.partition_.locate(late)
    assert known.shards == {shard: 2} == {shard: r}
    assert (known.n_records, known.n_steps, known.steps_total) == (int((ids == late).sum()), 1, 9)
    assert told(clf) == before
    receipt = clf.forget(late)
    assert (receipt.shards, receipt.steps_retrained, receipt.steps_total) == (known.shards, 1, 9)


@pytest.mark.parametrize("with_ids", [True, False])
def test_all_rows_of_a_history_in_one_file_verify_it(data, where, with_ids):
    X, y, ids = (*data[:2], data[2] if with_ids else None)
    clf = new(where)
    for rows in (slice(0, 50), slice(50, 60), slice(60, 80)):
        clf.partial_fit(X[rows], y[rows], ids=None if ids is None else ids[rows])
    everything = (X.copy(), y)
    if with_ids:
        clf.rectify(X[:1] + 5, y[:1], ids=ids[:1])
        kept = np.r_[0, np.flatnonzero(ids != ids[0])]
        everything[0][0] += 5
        everything, ids = (everything[0][kept], y[kept]), ids[kept]
    order = np.random.default_rng(0).permutation(len(everything[1]))
    call = {} if ids is None else {"ids": ids[order]}
    assert clf.verify(everything[0][order], everything[1][order], **call).exact
    everything[0][order[0]] += 1
    report = clf.verify(everything[0][order], everything[1][order], **call)
    assert not report.exact
    assert report.differing


def test_a_model_with_a_history_travels(data, where, tmp_path):
    X, y, ids = data
    clf = grown(where, data)
    clf.rectify(X[:1] + 5, y[:1], ids=ids[:1])
    clf.forget(ids[5:7])
    copy = pickle.loads(pickle.dumps(clf))
    assert same(copy, clf, X)
    for model in (copy,) if where else (copy, clf):
        model.partial_fit(X[:3] + 9, y[:3], ids=[1, 2, 3])
    assert same(copy, clf, X)
    if where is None:
        clf.save(tmp_path / "b.sisa")
        assert same(load(tmp_path / "b.sisa"), clf, X)
        other = load(tmp_path / "b.sisa").partial_fit(X[:3] + 8, y[:3], ids=[4, 5, 6])
        assert same(other, copy.partial_fit(X[:3] + 8, y[:3], ids=[4, 5, 6]), X)


def test_a_regressor_takes_arrivals_and_corrections(data, where):
    X, _, ids = data
    y = X.sum(axis=1)
    reg = SISARegressor(LinearRegression(), n_shards=3, random_state=0, store=where).fit(
        X[FIRST], y[FIRST], ids=ids[FIRST]
    )
    reg.partial_fit(X[LATER], y[LATER], ids=ids[LATER])
    reg.rectify(X[:1], [3.5], ids=ids[:1])
    reg.forget(ids[1])
    kept = ids != ids[1]
    first, later = kept & (np.arange(80) < 60), kept & (np.arange(80) >= 60)
    twin = reg.pinned().fit(X[first], y[first], ids=ids[first]).partial_fit(X[later], y[later], ids=ids[later])
    twin.rectify(X[:1], [3.5], ids=ids[:1])
    assert reg.model_digest_ == twin.model_digest_
    assert np.array_equal(reg.predict(X), twin.predict(X))
    assert reg.verify().exact


def test_classes_are_those_of_the_first_call(data):
    X, y, ids = data
    model = new().partial_fit(X[:60], y[:60], [0, 1, 2], ids=ids[:60])
    assert model.classes_.tolist() == [0, 1, 2]
    model.partial_fit(X[60:70], y[60:70], [2, 1, 0], ids=ids[60:70])
    before = model.model_digest_
    with pytest.raises(SchemaError, match="classes= are not those of the first call"):
        model.partial_fit(X[70:], y[70:], [0, 1], ids=ids[70:])
    assert model.model_digest_ == before


def test_to_put_no_row_right_is_an_error(data):
    X, y, ids = data
    model = new().fit(X, y, ids=ids)
    with pytest.raises(DataError, match="no rows"):
        model.rectify(X[:0], y[:0], ids=ids[:0])
    assert model.receipts() == ()


def test_what_has_piled_up_or_shrunken_is_warned_of_once(data):
    X, y, ids = data
    model = new().fit(X, y, ids=ids)
    for i in range(10):
        model.partial_fit(X[:24] + i, y[:24], ids=np.arange(24) + 100 * i)
    arrivals = [[i + 100 * k for i in range(24)] for k in range(10)]
    with pytest.warns(DataWarning, match=r"Piled up: .*consolidate"):
        model.partial_fit(X[:24] - 2, y[:24], ids=np.arange(24) + 4000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.partial_fit(X[:24] - 1, y[:24], ids=np.arange(24) + 5000)
    model.consolidate()
    gone = [i for part in arrivals for i in part] + sorted(set(ids.tolist()))[:30]
    with pytest.warns(DataWarning, match="Shrunken"):
        model.forget(gone)
