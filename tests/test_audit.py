"""The membership audit: what it measures, how sure it is, and what it leaves in the ledger."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from unlearnkit import SISAClassifier, Store, load, membership_audit
from unlearnkit.audit import _area, recorded
from unlearnkit.errors import DataError, ParameterError

pytest.importorskip("unlearnkit_sklearn")


def noise(n=300, seed=0):
    """Rows whose labels nothing predicts: who knows one has learned it by heart."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)), rng.integers(2, size=n)


@pytest.fixture
def model():
    X, y = noise()
    return SISAClassifier(DecisionTreeClassifier(random_state=0), n_shards=2, random_state=0).fit(
        X, y, ids=np.arange(300)
    )


def audit(model, n=60):
    """Of the first `n` records against strangers."""
    X, y = noise()
    return membership_audit(model, X[:n], y[:n], *noise(200, seed=1))


# -- what it measures --------------------------------------------------------------------------------------------------


def test_a_model_that_has_learned_by_heart_is_found_out_until_it_has_forgotten():
    left = []
    for seed in range(8):
        X, y = noise(300, seed=seed)
        strangers = noise(200, seed=seed + 100)
        kind = DecisionTreeClassifier(random_state=0)
        model = SISAClassifier(kind, n_shards=2, random_state=seed).fit(X, y, ids=np.arange(300))
        before = membership_audit(model, X[:100], y[:100], *strangers)
        model.forget(range(100))
        after = membership_audit(model, X[:100], y[:100], *strangers)
        assert before.low > 0.6
        assert after.high < before.low
        left.append(after.auc)
    # One interval of twenty misses: over several models chance evens out.
    assert np.mean(left) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("kind", [DecisionTreeClassifier(random_state=0), KNeighborsClassifier(1)])
def test_it_is_of_any_model(kind):
    X, y = noise()
    found = membership_audit(kind.fit(X, y), X, y, *noise(200, seed=1))

    assert found.auc == pytest.approx(0.75, abs=0.06)
    assert (found.n_in, found.n_out, found.model_digest) == (300, 200, None)
    assert found.mean_loss_in == 0
    # A probability of zero counts as the smallest there is.
    assert found.mean_loss_out == pytest.approx(354, abs=50)


def test_the_area_is_the_share_of_pairs_told_apart():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(5, size=40) / 4, rng.integers(1, 6, size=30) / 4
    pairs = np.sign(outside[None, :] - inside[:, None])

    assert _area(inside, outside, 0.95)[0] == pytest.approx(((pairs + 1) / 2).mean())


@pytest.mark.parametrize("gap", [0.0, 1.0])
@pytest.mark.parametrize("tied", [False, True])
def test_the_interval_holds_the_truth_as_often_as_it_says(gap, tied):
    rng = np.random.default_rng(0)
    draw = np.round if tied else np.asarray
    truth = _area(draw(rng.normal(size=4000)), draw(rng.normal(size=4000) + gap), 0.9)[0]
    hits = 0
    for _ in range(400):
        _, low, high = _area(draw(rng.normal(size=25)), draw(rng.normal(size=40) + gap), 0.9)
        hits += low <= truth <= high
    assert 0.84 <= hits / 400 <= 0.96


def test_losses_without_variance_still_leave_doubt():
    same, low, high = _area(np.zeros(20), np.zeros(30), 0.95)
    assert same == 0.5
    assert 0.3 < low < 0.4
    assert 0.6 < high < 0.7
    perfect, low, high = _area(np.zeros(20), np.ones(30), 0.95)
    assert (perfect, high) == (1.0, 1.0)
    assert 0.85 < low < 0.95
    assert _area(np.ones(20), np.zeros(30), 0.95)[1:] == (0.0, pytest.approx(1 - low))


def test_a_higher_confidence_is_a_wider_interval(model):
    X, y = noise()
    narrow, wide = (
        membership_audit(model, X[:60], y[:60], *noise(200, seed=1), confidence=level) for level in (0.5, 0.99)
    )
    assert wide.low < narrow.low < narrow.auc < narrow.high < wide.high


def test_each_kind_of_model_has_its_loss():
    X, y = noise()
    labels = np.array(["no", "yes"])[y]
    proper = LogisticRegression().fit(X, labels)
    found = membership_audit(proper, X, labels, X, labels)
    chances = proper.predict_proba(X)[np.arange(300), y]
    assert found.loss == "cross-entropy"
    assert found.losses_in == pytest.approx(-np.log(chances))
    assert found.auc == 0.5

    bare = Perceptron().fit(X, labels)
    found = membership_audit(bare, X, labels, X, labels)
    assert found.loss == "0/1"
    assert found.losses_in == pytest.approx((bare.predict(X) != labels) * 1.0)

    target = X[:, 0] + y
    line = LinearRegression().fit(X, target)
    found = membership_audit(line, X, target, X, target)
    assert found.loss == "squared error"
    assert found.losses_in == pytest.approx((line.predict(X) - target) ** 2)
    two = np.stack([target, -target], axis=1)
    found = membership_audit(DummyRegressor().fit(X, two), X, two, X, two)
    assert found.losses_in == pytest.approx(((two - two.mean(axis=0)) ** 2).mean(axis=1))
    deep = DecisionTreeRegressor(random_state=0).fit(X, target)
    other, label = noise(200, seed=1)
    assert membership_audit(deep, X, target, other, other[:, 0] + label).auc == 1.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"y_in": [0, 1, 7]}, "1 labels in y_in are of no class"),
        ({"X_out": np.zeros((1, 4)), "y_out": [0]}, "1 rows in y_out"),
        ({"y_out": [0, 1]}, "X_out has 3 rows and y_out has 2"),
    ],
)
def test_data_that_say_nothing_are_refused(model, change, told):
    X, y = noise(3)
    with pytest.raises(DataError, match=told):
        membership_audit(model, **({"X_in": X, "y_in": y, "X_out": X, "y_out": y} | change))


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_is_a_share(model, confidence):
    X, y = noise(3)
    with pytest.raises(ParameterError, match="not between 0 and 1"):
        membership_audit(model, X, y, X, y, confidence=confidence)


# -- plot --------------------------------------------------------------------------------------------------------------


def test_the_line_encloses_the_area(model, tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    found = audit(model)
    axes = Figure().add_subplot()
    assert found.plot(axes, label="before") is axes
    x, y = axes.lines[0].get_data()
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(found.auc)
    assert f"before: AUC {found.auc:.3f}" in axes.get_legend().get_texts()[0].get_text()
    found.plot(tmp_path / "roc.svg")
    assert (tmp_path / "roc.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_a_file_that_cannot_be_written_is_told(model, tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ParameterError, match="could not be written"):
        audit(model).plot(tmp_path / "no folder" / "roc.svg")


# -- recorded ----------------------------------------------------------------------------------------------------------


def test_the_digest_says_which_side_an_audit_is_of(model):
    before = audit(model)
    receipt = model.forget(range(60))
    after = audit(model)

    assert after.record(model, receipt) == "after"
    assert before.record(model, receipt.request_id) == "before"
    noted = recorded(model._ensemble.store.ledger.notes())
    assert noted == {1: {"before": json.loads(before.to_json()), "after": json.loads(after.to_json())}}


def test_what_was_recorded_in_memory_goes_into_a_store(model, tmp_path):
    before = audit(model)
    before.record(model, model.forget(range(60)))
    model.save(tmp_path / "kept")
    noted = recorded(Store.at(tmp_path / "kept").ledger.notes())
    assert noted == {1: {"before": json.loads(before.to_json())}}


def test_only_figures_are_kept(model):
    found = audit(model)
    assert set(json.loads(found.to_json())) == {
        *("auc", "low", "high", "confidence", "n_in", "n_out", "mean_loss_in", "mean_loss_out"),
        *("loss", "at", "model_digest"),
    }


def test_before_repair_is_after_the_request(model):
    receipt = model.forget([0], repair=False)
    assert audit(model).record(model, receipt) == "after"
    model.repair()
    assert audit(model).record(model, receipt) == "after"


def test_requests_that_were_carried_out_together_share_their_sides(tmp_path):
    pytest.importorskip("sqlalchemy")
    X, y = noise()
    kind = DecisionTreeClassifier(random_state=0)
    model = SISAClassifier(kind, n_shards=2, store=tmp_path / "m.sisa", random_state=0)
    model.fit(X, y, ids=np.arange(300))
    before = audit(model)
    Store.at(tmp_path / "m.sisa").submit([[0, 1], [2, 3]])
    model = load(tmp_path / "m.sisa")
    model.repair()
    after = audit(model)

    for sequence in (1, 2):
        assert before.record(model, sequence) == "before"
        assert after.record(model, sequence) == "after"
    assert recorded(Store.at(tmp_path / "m.sisa").ledger.notes()).keys() == {1, 2}


def test_an_audit_of_another_model_is_not_recorded(model):
    stranger = audit(SISAClassifier(n_shards=2, random_state=1).fit(*noise(50)))
    bare = audit(DecisionTreeClassifier(random_state=0).fit(*noise()))
    receipt = model.forget(range(60))

    for found in (stranger, bare):
        with pytest.raises(ParameterError, match="not known from before or after request 1"):
            found.record(model, receipt)
    assert recorded(model._ensemble.store.ledger.notes()) == {}


def test_without_a_request_that_has_changed_the_model_there_are_no_sides(model):
    found = audit(model)
    with pytest.raises(ParameterError, match="There is no request 1"):
        found.record(model, 1)
    model.forget([0])
    again = model.forget([0])
    with pytest.raises(ParameterError, match="has not changed the model"):
        audit(model).record(model, again)
    with pytest.raises(ParameterError, match="no fitted model of unlearnkit"):
        found.record(DecisionTreeClassifier(), 1)


# -- in one call -------------------------------------------------------------------------------------------------------


def test_forget_records_both_sides_of_the_rows_it_is_given(model):
    X, y = noise()
    before = audit(model)
    receipt = model.forget(range(60), audit=(X[:60], y[:60], *noise(200, seed=1)))
    kept = recorded(model._ensemble.store.ledger.notes())[receipt.request_id]
    assert set(kept) == {"before", "after"}
    assert kept["before"]["auc"] == before.auc
    assert kept["after"]["auc"] == audit(model).auc < before.auc


def test_rows_that_cannot_be_audited_change_nothing(model):
    X, y = noise()
    digest = model.model_digest_
    for rows, error in (
        ((X, y), ParameterError),
        ((X[:60], y[:60], X[:1], y[:1]), DataError),
        ((X[:60, :2], y[:60], X[60:], y[60:]), DataError),
    ):
        with pytest.raises(error):
            model.forget(range(60), audit=rows)
    assert model.receipts() == ()
    assert model.model_digest_ == digest


def test_a_request_that_leaves_nothing_to_ask_is_carried_out_all_the_same(model):
    X, y = noise()
    with pytest.warns(RuntimeWarning, match="carried out, but the audits beside it are not complete: Every shard"):
        receipt = model.forget(range(60), repair=False, audit=(X[:60], y[:60], *noise(200, seed=1)))
    assert receipt.n_records == 60
    assert set(recorded(model._ensemble.store.ledger.notes())[receipt.request_id]) == {"before"}
