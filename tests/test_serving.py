from __future__ import annotations

import numpy as np
import pytest

from unlearnkit.aggregation import choose
from unlearnkit.data import SliceFacts
from unlearnkit.errors import NoConstituentError
from unlearnkit.learner import Capabilities
from unlearnkit.plan import Context, plan_shard
from unlearnkit.serving import Constituent, Snapshot, open_constituent


class Echo:
    """Predicts its state for every row."""

    capabilities = Capabilities("classification", probabilities=True)
    fingerprint = "echo"

    def predict(self, state, X):
        return np.tile(np.asarray(state, dtype=float), (X.shape[0], 1))


CONTEXT = Context("f", 0, 2, "s", n_classes=3, resumable=True, absent_classes=False)
X = np.zeros((2, 1))


def step(*classes):
    return plan_shard(CONTEXT, 0, [SliceFacts(2, "d", frozenset(classes)), SliceFacts(0, "", frozenset())])[0]


def snapshot(*constituents, prior=None):
    return Snapshot(Echo(), choose("mean", Echo.capabilities), 3, constituents, prior, None)


def test_columns_of_absent_classes_are_scattered_back():
    found = snapshot(Constituent(step(0, 2), [0.25, 0.75], None)).predict(X)
    assert found.tolist() == [[0.25, 0, 0.75]] * 2


def test_a_constant_is_certain_and_weighs_as_the_others():
    found = snapshot(Constituent(step(1), None, 1), Constituent(step(0, 1, 2), [0.5, 0.25, 0.25], None), None).predict(
        X
    )
    assert found.tolist() == [[0.25, 0.625, 0.125]] * 2


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_jobs_change_no_prediction(n_jobs):
    rng = np.random.default_rng(0)
    many = snapshot(*[Constituent(step(0, 1, 2), rng.random(3), None) if i % 3 else None for i in range(30)])
    assert many.predict(X, n_jobs).tobytes() == many.predict(X).tobytes()


def test_all_abstain():
    with pytest.raises(NoConstituentError, match="repair"):
        snapshot(None, None).predict(X)
    assert snapshot(None, prior=np.array([0.2, 0.3, 0.5])).predict(X).tolist() == [[0.2, 0.3, 0.5]] * 2


@pytest.mark.parametrize(("prior", "shape"), [(np.asarray(1.5), (2,)), (np.array([1.0, 2.0]), (2, 2))])
def test_a_prior_has_the_shape_of_a_prediction(prior, shape):
    assert snapshot(None, prior=prior).predict(X).shape == shape


def test_the_longest_stored_prefix_serves(helpers):
    rows, y, ids = helpers.rows()
    model = helpers.build(n_shards=1).fit(rows, y, ids=ids)
    steps = model._build.plan.shards[0]

    def opened(steps, old=None):
        return open_constituent(model.learner, model.store, steps, model.store.ledger.checkpoints(), old)

    whole = opened(steps)
    assert whole.step == steps[-1]
    assert opened(steps, whole).state is whole.state, "what serves goes on"
    model.store.replan({steps[0].key, steps[2].key})
    # The last is stored, but hangs in the air.
    assert opened(steps, whole).step == steps[0]
    model.store.replan(set())
    assert opened(steps) is None
    assert opened(()) is None
