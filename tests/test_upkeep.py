"""What is said of slices that have piled up and of shards that have shrunk."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

from unlearnkit import SISAClassifier, Store
from unlearnkit.errors import DataWarning
from unlearnkit.overview import overview
from unlearnkit.upkeep import MOST_ARRIVED, arrived, findings


def shard(*n):
    """A shard with so many records in its slices."""
    return list(n)


def test_arrived_slices_that_forgetting_has_emptied_do_not_count():
    assert arrived(2, shard(0, 3, 0, 1, 2)) == 2
    assert arrived(3, shard(1, 1, 1)) == 0
    assert arrived(3, shard(1, 1)) == 0


@pytest.mark.parametrize("n_slices", [1, MOST_ARRIVED, MOST_ARRIVED + 5])
def test_piled_up_is_more_than_the_slices_of_the_fit_or_ten(n_slices):
    most = max(n_slices, MOST_ARRIVED)
    fine = shard(*[1] * (n_slices + most))
    piled = shard(*[1] * (n_slices + most + 1))

    assert findings(n_slices, [], [fine, fine]) == ()
    [said] = findings(n_slices, [], [fine, piled, piled])
    assert said.startswith(f"Piled up: shards 1, 2 have more than {most} slices")
    assert said.endswith("consolidate()")


def test_shrunken_is_below_half_of_what_was_built():
    assert findings(2, [10, 10], [shard(2, 3), shard(10, 0, 4)]) == ()
    [said] = findings(2, [10, 10], [shard(2, 2), shard(10)])
    assert (
        said
        == "Shrunken: shard 0 has fewer than half of the records that it was built with. Fit anew, with fewer shards."
    )


def test_empty_shards_and_unknown_sizes():
    assert findings(2, [0, 0], [shard(0, 0), shard(0)]) == ()
    assert findings(2, [], [shard(0), shard(1)]) == ()
    assert len(findings(2, [4], [shard(0)])) == 1


def test_both_are_told_and_many_shards_are_not_all_named():
    both = findings(1, [100] * 30, [shard(*[1] * 13)] * 30)
    assert [one.partition(":")[0] for one in both] == ["Piled up", "Shrunken"]
    assert all("0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... have" in one for one in both)


@pytest.mark.filterwarnings("ignore::unlearnkit.errors.DataWarning")
@pytest.mark.parametrize("audited", [False, True])
def test_the_warning_points_at_who_called(audited):
    pytest.importorskip("unlearnkit_sklearn")
    rng = np.random.default_rng(0)
    X, y, ids = rng.normal(size=(60, 3)), np.arange(60) % 2, np.arange(60)
    rows = (X[:40], y[:40], X[40:], y[40:]) if audited else None
    clf = SISAClassifier(SGDClassifier(loss="log_loss"), n_shards=2, random_state=0).fit(X, y, ids=ids)
    with pytest.warns(DataWarning, match="half") as told:
        clf.forget(ids[:40], audit=rows)
    assert {warning.filename for warning in told} == {__file__}


def test_the_overview_has_them(tmp_path, helpers):
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("unlearnkit_sklearn")
    X, y, ids = helpers.rows()
    path = tmp_path / "m.sisa"
    model = SISAClassifier(SGDClassifier(loss="log_loss"), n_shards=2, n_slices=1, store=path, random_state=0)
    model.fit(X, y, ids=ids)
    assert (overview(Store.at(path)).arrived, overview(Store.at(path)).upkeep) == ({}, ())
    alone = next(i for i in range(5000, 6000) if model.partition_.locate([i])[0][0] == 1)
    for i in range(MOST_ARRIVED + 1):
        model.partial_fit(X[:1] + i, y[:1], ids=[alone])
    found = overview(Store.at(path))
    assert found.arrived == {1: MOST_ARRIVED + 1}
    assert [one.split(" have")[0].split(" has")[0] for one in found.upkeep] == ["Piled up: shard 1"]
    model.consolidate()
    assert (overview(Store.at(path)).arrived, overview(Store.at(path)).upkeep) == ({}, ())
    first = np.array([model.partition_.locate([i])[0][0] == 0 for i in ids])
    model.forget(ids[first][: int(first.sum() * 0.6)])
    assert overview(Store.at(path)).upkeep[0].startswith("Shrunken: shard 0 has")
