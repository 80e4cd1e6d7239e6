"""Categories that are new in rows to predict become what the bare model makes of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from unlearnkit import SISAClassifier
from unlearnkit.errors import SchemaError

N = 200


def data():
    """Rows whose missing category says much of the target, so that it cannot pass for an unseen one."""
    rng = np.random.default_rng(0)
    city = [None if i % 7 == 0 else ("oslo", "rome", "bern")[c] for i, c in enumerate(rng.integers(0, 3, N))]
    y = [int(c in (None, "rome")) for c in city]
    return pd.DataFrame({"n": np.round(rng.normal(size=N), 6), "city": pd.Categorical(city)}), y


def encoded(encoder):
    return make_pipeline(make_column_transformer((encoder, ["city"]), remainder="passthrough"), LogisticRegression())


def lightgbm():
    module = pytest.importorskip("lightgbm")
    return module.LGBMClassifier(min_data_per_group=1, cat_smooth=1, min_child_samples=2, n_estimators=5, verbose=-1)


ANSWER = {
    "lightgbm": lightgbm,
    "hgb": lambda: HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=3, random_state=0),
    "one-hot": lambda: encoded(OneHotEncoder(handle_unknown="ignore")),
    "ordinal": lambda: encoded(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-7, encoded_missing_value=-1)
    ),
}
REFUSE = {
    "xgboost": lambda: pytest.importorskip("xgboost").XGBClassifier(n_estimators=3, enable_categorical=True),
    "one-hot": lambda: encoded(OneHotEncoder()),
    "ordinal": lambda: encoded(OrdinalEncoder(encoded_missing_value=-1)),
}


def asked(*city):
    return pd.DataFrame({"n": 0.0, "city": pd.Categorical(city)})


@pytest.mark.parametrize("make", ANSWER.values(), ids=ANSWER)
def test_where_the_bare_model_answers_so_do_we(make):
    X, y = data()
    ours = SISAClassifier(make(), n_shards=1, n_slices=1, random_state=0).fit(X, y, ids=range(N))
    ask = asked("rome", "paris", None, "aix", "oslo")
    assert np.allclose(ours.predict_proba(ask), make().fit(X, y).predict_proba(ask), atol=1e-3)


def test_an_unseen_category_is_no_missing_value_to_an_encoder():
    X, y = data()
    ours = SISAClassifier(ANSWER["one-hot"](), n_shards=1, n_slices=1, random_state=0).fit(X, y, ids=range(N))
    unseen, missing = ours.predict_proba(asked("paris", None))[:, 1]
    assert missing > unseen + 0.1


@pytest.mark.parametrize("make", REFUSE.values(), ids=REFUSE)
def test_where_the_bare_model_refuses_so_do_we(make):
    X, y = data()
    bare = make().fit(X, y)
    with pytest.raises(Exception, match=r"(?i)categor"):
        # XGBoost 3.2 finds out only what sorts behind all it knows, and takes "paris" for "rome".
        bare.predict(asked("rome", "zurich"))
    ours = SISAClassifier(make(), n_shards=2, n_slices=1, random_state=0).fit(X, y, ids=range(N))
    with pytest.raises(SchemaError, match="1 rows have a value in column 'city'"):
        ours.predict(asked("rome", "zurich"))
    with pytest.raises(SchemaError, match="1 rows have a value in column 'city'"):
        ours.predict(asked("rome", "paris"))
    assert len(ours.predict(asked("rome", None))) == 2
