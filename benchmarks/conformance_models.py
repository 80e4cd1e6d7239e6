"""The models that scikit-learn's own checks are run over: plain, inside bagging, and wrapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import GammaRegressor, LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

Factory = Callable[[], Any]


def columns(last: Any) -> Any:
    """A pipeline that scales the first column and passes the others on."""
    scaled = ColumnTransformer([("scale", StandardScaler(), [0])], remainder="passthrough")
    return make_pipeline(scaled, last)


def lightgbm(kind: str, **params: Any) -> Any:
    import lightgbm as module

    return getattr(module, kind)(verbose=-1, n_jobs=1, **params)


def xgboost(kind: str, **params: Any) -> Any:
    import xgboost as module

    return getattr(module, kind)(n_jobs=1, **params)


def catboost(kind: str) -> Any:
    import catboost as module

    return getattr(module, kind)(iterations=20, verbose=0, thread_count=1, allow_writing_files=False)


def torch_model(loss: str) -> Any:
    from torch.nn import Linear

    from unlearnkit_torch import TorchModel

    sizes = {"n_features_as": "in_features", "n_outputs_as": "out_features"}
    return TorchModel(Linear, **sizes, loss=loss, optimizer_params={"lr": 0.05}, epochs=60, batch_size=16)


def skorch(kind: str, **params: Any) -> Any:
    import skorch as module
    import torch
    from conformance_net import Padded

    options = {"max_epochs": 30, "lr": 0.05, "batch_size": 16, "train_split": None, "verbose": 0}
    return getattr(module, kind)(Padded, optimizer=torch.optim.Adam, **options, **params)


def skorch_classifier() -> Any:
    from torch.nn import CrossEntropyLoss

    return skorch("NeuralNetClassifier", module__n_outputs=8, criterion=CrossEntropyLoss)


CLASSIFIERS: dict[str, Factory] = {
    "DecisionTree": DecisionTreeClassifier,
    "RandomForest": lambda: RandomForestClassifier(5),
    "ExtraTrees": lambda: ExtraTreesClassifier(5),
    "HistGradientBoosting": lambda: HistGradientBoostingClassifier(learning_rate=0.5, max_iter=20, min_samples_leaf=5),
    "LogisticRegression": lambda: LogisticRegression(max_iter=200),
    "SGD": lambda: SGDClassifier(random_state=0),
    "MLP": lambda: MLPClassifier(hidden_layer_sizes=(16,), learning_rate_init=0.05, max_iter=60, random_state=0),
    # Some checks have shards of one row, which has no second neighbour.
    "KNeighbors": lambda: KNeighborsClassifier(1),
    "SVC": SVC,
    "LinearSVC": LinearSVC,
    "GaussianNB": GaussianNB,
    "MultinomialNB": MultinomialNB,
    "scaler, LogisticRegression": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "imputer, DecisionTree": lambda: make_pipeline(SimpleImputer(), DecisionTreeClassifier()),
    "columns, LogisticRegression": lambda: columns(LogisticRegression(max_iter=200)),
    "one-hot, LogisticRegression": lambda: make_pipeline(
        OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=200)
    ),
    "LightGBM": lambda: lightgbm("LGBMClassifier"),
    "scaler, LightGBM": lambda: make_pipeline(StandardScaler(), lightgbm("LGBMClassifier")),
    "XGBoost": lambda: xgboost("XGBClassifier", n_estimators=5),
    "CatBoost": lambda: catboost("CatBoostClassifier"),
    "TorchModel": lambda: torch_model("cross_entropy"),
    "skorch": skorch_classifier,
}
REGRESSORS: dict[str, Factory] = {
    "DecisionTree": DecisionTreeRegressor,
    "RandomForest": lambda: RandomForestRegressor(5),
    "GradientBoosting": lambda: GradientBoostingRegressor(n_estimators=20),
    "HistGradientBoosting": lambda: HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=5),
    "Ridge": Ridge,
    "Gamma": GammaRegressor,
    "SGD": lambda: SGDRegressor(random_state=0),
    "MLP": lambda: MLPRegressor(hidden_layer_sizes=(16,), learning_rate_init=0.05, max_iter=60, random_state=0),
    "KNeighbors": lambda: KNeighborsRegressor(1),
    "SVR": SVR,
    "scaler, Ridge": lambda: make_pipeline(StandardScaler(), Ridge()),
    "columns, Ridge": lambda: columns(Ridge()),
    "target scaled, Ridge": lambda: TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
    # check_regressors_train has shards of 40 rows: the default of 20 rows per leaf leaves next to nothing to split.
    "LightGBM": lambda: lightgbm("LGBMRegressor", min_child_samples=5),
    "XGBoost": lambda: xgboost("XGBRegressor", n_estimators=20),
    "CatBoost": lambda: catboost("CatBoostRegressor"),
    "TorchModel": lambda: torch_model("mse"),
    "skorch": lambda: skorch("NeuralNetRegressor", module__n_outputs=1),
}
