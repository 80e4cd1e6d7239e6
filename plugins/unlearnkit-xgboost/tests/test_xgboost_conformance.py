"""The conformance kit on the kinds of XGBoost models."""

from xgboost import XGBClassifier, XGBRegressor

from unlearnkit.testing import parametrize_with_checks

SMALL = {"n_estimators": 6, "max_depth": 3}
MODELS = [
    XGBClassifier(**SMALL, subsample=0.7, colsample_bytree=0.7),
    XGBRegressor(**SMALL, objective="reg:absoluteerror"),
    XGBClassifier(**SMALL, booster="dart", rate_drop=0.5),
    XGBRegressor(n_estimators=6, booster="gblinear"),
]


@parametrize_with_checks(MODELS)
def test_conformance(subject, check):
    check(subject)
