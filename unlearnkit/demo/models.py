"""The models of the demonstration, each made where its framework is imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from unlearnkit.demo.data import Data


def random_forest(data: Data) -> Any:
    """A forest of scikit-learn."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestClassifier if data.task == "classification" else RandomForestRegressor
    return kind(n_estimators=50, random_state=0)


def gradient_boosting(data: Data) -> Any:  # noqa: ARG001
    """The gradient boosting of scikit-learn, for regression."""
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(n_estimators=100, max_depth=3, subsample=0.8, random_state=0)


def multilayer_perceptron(data: Data) -> Any:  # noqa: ARG001
    """A scaler and the MLP of scikit-learn, for classification."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), MLPClassifier((64,), batch_size=32, max_iter=25, random_state=0))


def encoded(data: Data, last: Any) -> Any:
    """A pipeline that one-hot encodes the categories, fills and scales the numbers, and ends in `last`."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    scaler = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    return make_pipeline(
        ColumnTransformer([("one_hot", encoder, data.categories), ("scale", scaler, data.numbers)]), last
    )


def linear(data: Data) -> Any:
    """Encoders, then logistic regression or ridge."""
    from sklearn.linear_model import LogisticRegression, Ridge

    return encoded(data, LogisticRegression(max_iter=1000) if data.task == "classification" else Ridge())


def lightgbm(data: Data) -> Any:
    """LightGBM, with bagging; it takes categories as they are."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMClassifier if data.task == "classification" else LGBMRegressor
    return kind(
        n_estimators=40, subsample=0.8, subsample_freq=1, min_child_samples=5, n_jobs=1, verbose=-1, random_state=0
    )


def xgboost(data: Data) -> Any:
    """XGBoost, with subsampling; it takes categories as they are."""
    from xgboost import XGBClassifier, XGBRegressor

    kind = XGBClassifier if data.task == "classification" else XGBRegressor
    return kind(n_estimators=60, max_depth=4, subsample=0.8, enable_categorical=True, n_jobs=1, random_state=0)


def network(n_features: int, n_outputs: int) -> Any:
    """A torch module with what makes exactness hard: batch normalisation and dropout."""
    from torch import nn

    return nn.Sequential(
        nn.Linear(n_features, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, n_outputs)
    )


def torch_model(data: Data) -> Any:
    """A torch module, trained by Adam under a cosine schedule."""
    from unlearnkit_torch import TorchModel

    return TorchModel(
        network,
        n_features_as="n_features",
        n_outputs_as="n_outputs",
        loss="cross_entropy" if data.task == "classification" else "mse",
        optimizer="adam",
        optimizer_params={"lr": 0.005},
        scheduler="cosine",
        scheduler_params={"T_max": "total"},
        epochs=15,
        batch_size=32,
        random_state=0,
    )


def encoded_torch(data: Data) -> Any:
    """Encoders, then the torch model."""
    return encoded(data, torch_model(data))


def skorch_net(data: Data) -> Any:
    """A skorch net over the same module, for classification."""
    import torch
    from skorch import NeuralNetClassifier

    return NeuralNetClassifier(
        network,
        module__n_features=data.X.shape[1],
        module__n_outputs=len(np.unique(data.y)),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        max_epochs=15,
        batch_size=32,
        train_split=None,
        verbose=0,
    )
