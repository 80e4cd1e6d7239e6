"""The conformance kit on the kinds of XGBoost models."""

import numpy as np
from xgboost import XGBClassifier, XGBRegressor

from unlearnkit.testing import Subject, parametrize_with_checks
from unlearnkit.testing.subject import default_rows

SMALL = {"n_estimators": 6, "max_depth": 3}
X, labels = default_rows("classification")
MODELS = [
    # The bare classifier takes codes only.
    Subject.of(
        XGBClassifier(**SMALL, subsample=0.7, colsample_bytree=0.7),
        base=XGBClassifier(n_estimators=2, max_depth=2).fit(X[:60], np.unique(labels[:60], return_inverse=True)[1]),
    ),
    XGBRegressor(**SMALL, objective="reg:absoluteerror"),
    Subject.of(XGBClassifier(**SMALL, booster="dart", rate_drop=0.5), base=XGBClassifier()),
    XGBRegressor(n_estimators=6, booster="gblinear"),
]


@parametrize_with_checks(MODELS)
def test_conformance(subject, check):
    check(subject)
