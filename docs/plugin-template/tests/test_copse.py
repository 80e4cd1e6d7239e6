"""The plugin passes the conformance kit, and forgets."""

import numpy as np
import pytest
from copse import CopseClassifier
from unlearnkit_copse.learner import CopseLearner

from unlearnkit import SISAClassifier
from unlearnkit.errors import CapabilityError, ParameterError, StateError
from unlearnkit.testing import parametrize_with_checks

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4))
Y = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
IDS = np.arange(300)


@parametrize_with_checks([CopseClassifier(n_stumps=9), CopseClassifier(n_stumps=4, smoothing=0.1, random_state=3)])
def test_conformance(subject, check):
    check(subject)


@pytest.mark.parametrize("options", [{}, {"base": CopseClassifier(n_stumps=5).fit(X[:50], Y[:50])}])
def test_forgetting_leaves_what_a_fit_without_the_records_leaves(options):
    model = SISAClassifier(CopseClassifier(n_stumps=20), n_shards=3, random_state=0, **options).fit(X, Y, ids=IDS)
    before = model.model_digest_
    model.forget([7, 42])
    keep = ~np.isin(IDS, [7, 42])
    reference = model.pinned().fit(X[keep], Y[keep], ids=IDS[keep])
    assert model.model_digest_ == reference.model_digest_ != before
    np.testing.assert_array_equal(model.predict_proba(X), reference.predict_proba(X))
    assert model.score(X, Y) > 0.8


def test_a_stored_model_needs_no_code_to_be_named(tmp_path):
    from unlearnkit import load

    model = SISAClassifier(CopseClassifier(n_stumps=6), n_shards=2, store=tmp_path / "store").fit(X, Y, ids=IDS)
    np.testing.assert_array_equal(load(tmp_path / "store").predict(X), model.predict(X))


def test_what_cannot_be_kept_is_refused():
    class Own(CopseClassifier):
        def fit(self, X, y, sample_weight=None):
            return super().fit(X[:5], y[:5])

    with pytest.raises(CapabilityError, match="a fit of its own"):
        CopseLearner.of(Own())
    with pytest.raises(ParameterError, match="n_stumps"):
        CopseLearner.of(CopseClassifier(n_stumps=0))


def test_a_base_of_other_data_is_refused():
    for base in (CopseClassifier(), CopseClassifier().fit(X[:, :2], Y), CopseClassifier().fit(X, X[:, 0] > 0)):
        with pytest.raises(ParameterError, match="fitted on these features and classes"):
            SISAClassifier(CopseClassifier(), base=base).fit(X, Y, ids=IDS)


def test_arrays_that_do_not_belong_together_are_refused():
    learner = CopseLearner.of(CopseClassifier(n_stumps=3))
    base = learner.pack_base(CopseClassifier(n_stumps=3).fit(X, Y), 4, np.unique(Y))
    parts = {name: part for name, part in base.items() if name != "labels"}
    other = learner.save(learner.load(parts))
    assert other == parts
    with pytest.raises(StateError, match="nothing in them was used"):
        learner.load({**parts, "00000-features": parts["00000-cuts"]})
    with pytest.raises(StateError, match="a feature that is not there"):
        learner.load({**parts, "sizes": b"[1,2]"})
