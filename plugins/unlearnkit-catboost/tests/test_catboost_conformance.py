"""The conformance kit on the kinds of CatBoost models."""

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier, CatBoostRegressor

from unlearnkit.testing import Subject, parametrize_with_checks

SMALL = {"iterations": 6, "depth": 3}
RNG = np.random.default_rng(11)
N = 120
FRAME = pd.DataFrame(
    {
        "letter": pd.Categorical.from_codes(RNG.integers(0, 9, N), list("zyxwvutsr")),
        "a": np.where(RNG.uniform(size=N) < 0.1, np.nan, RNG.normal(size=N)),
        "shop": RNG.choice(["north", "south", None], N),
        "b": RNG.normal(size=N),
    }
)
SIGNAL = FRAME["letter"].cat.codes % 3 + FRAME["a"].fillna(0)
SUBJECTS = [
    CatBoostClassifier(**SMALL),
    CatBoostRegressor(**SMALL, loss_function="MAE", bootstrap_type="Bernoulli", subsample=0.7, rsm=0.7),
    CatBoostRegressor(**SMALL, langevin=True),
    Subject.of(CatBoostClassifier(**SMALL), FRAME, np.digitize(SIGNAL, [0.5, 1.5]), name="categories"),
]


@parametrize_with_checks(SUBJECTS)
def test_conformance(subject, check):
    check(subject)
