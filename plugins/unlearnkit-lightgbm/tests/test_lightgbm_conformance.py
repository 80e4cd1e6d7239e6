"""The conformance kit on LightGBM models, and exact forgetting behind the estimator."""

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor

from unlearnkit import SISAClassifier
from unlearnkit.testing import parametrize_with_checks

SMALL = {"n_estimators": 4, "num_leaves": 4, "min_child_samples": 3}


@parametrize_with_checks(
    [
        LGBMClassifier(**SMALL, subsample=0.7, subsample_freq=1),
        LGBMRegressor(**SMALL, boosting_type="dart", colsample_bytree=0.7),
    ]
)
def test_conformance(subject, check):
    check(subject)


@pytest.mark.parametrize("n_slices", [1, 3])
@pytest.mark.parametrize("params", [{}, {"early_stopping_round": 2}, {"boosting_type": "rf", "subsample_freq": 1}])
def test_forgetting_leaves_the_bytes_of_a_fit_without(params, n_slices):
    if params.get("boosting_type") == "rf":
        params, n_slices = params | {"subsample": 0.5}, 1
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"number": rng.normal(size=240), "word": rng.choice(["ab", "cd", "ef"], size=240)})
    y = np.where(frame["number"] + (frame["word"] == "ab") > 0.5, "yes", "no")
    ids = np.arange(240) // 2
    model = SISAClassifier(LGBMClassifier(**SMALL, **params), n_shards=2, n_slices=n_slices, random_state=0)
    model.fit(frame, y, ids=ids).forget([7, 50])
    kept = ~np.isin(ids, [7, 50])
    fresh = model.pinned().fit(frame[kept], y[kept], ids=ids[kept])
    assert fresh.model_digest_ == model.model_digest_
    assert np.array_equal(fresh.predict_proba(frame), model.predict_proba(frame))
