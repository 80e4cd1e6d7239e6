"""What all checkpoints of all shards take, against one native model per shard with the same trees; and fewer of them.

Additive learners store what each step adds. *native* is the framework's own form of the model that each shard serves,
with the same trees in it: LightGBM's text, XGBoost's UBJSON, and a forest pickled and deflated. With torch each state
has the weights and two moments for Adam, whatever came before; ``checkpoint_every`` keeps fewer of them, and a request
repeats the unchanged steps since the last that is kept.
"""

from __future__ import annotations

import pickle
import zlib
from typing import Any

import numpy as np
from common import arguments, report
from lightgbm import LGBMClassifier
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from torch import nn
from xgboost import XGBClassifier

from unlearnkit import SISAClassifier
from unlearnkit_torch import TorchModel

GOAL = 1.2
EVERY = (1, 5, 10)


def main() -> None:
    options = arguments(__doc__)
    n, trees = (4_000, 20) if options.quick else (100_000, 100)
    X, y = make_classification(n, 20, n_informative=10, random_state=0)
    additive = [
        additive_row("LightGBM", LGBMClassifier(n_estimators=trees, verbose=-1), lightgbm_bytes, X, y),
        additive_row("XGBoost", XGBClassifier(n_estimators=trees), xgboost_bytes, X, y),
        additive_row("RandomForest", RandomForestClassifier(trees, min_samples_leaf=5), forest_bytes, X, y),
    ]
    report("storage: all checkpoints against one native model per shard", additive, goal=GOAL)
    sparse = torch_rows(X.astype(np.float32), y)
    report(
        "storage: checkpoint_every, torch with Adam, S=5, R=10",
        sparse,
        additive=additive,
        ok=all(row["ok"] for row in [*additive, *sparse]),
    )


def stored_bytes(model: SISAClassifier) -> int:
    """The bytes of all blobs that states refer to, each counted once."""
    store = model._ensemble.store
    names = {name for checkpoint in store.checkpoints().values() for _, name in checkpoint.parts}
    return sum(len(store.blobs.get(name)) for name in names)


# -- additive learners -------------------------------------------------------------------------------------------


def additive_row(name: str, estimator: Any, native_bytes: Any, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    model = SISAClassifier(estimator, n_shards=5, n_slices=10, random_state=0).fit(X, y, ids=np.arange(len(y)))
    kept, native = stored_bytes(model), sum(map(native_bytes, model.estimators_))
    ratio = kept / native
    return {"what": f"{name}, S=5, R=10", "kept": kept, "native": native, "ratio": ratio, "ok": ratio <= GOAL}


def lightgbm_bytes(state: Any) -> int:
    return len(state.booster.model_to_string())


def xgboost_bytes(state: Any) -> int:
    return len(state.booster.save_raw("ubj"))


def forest_bytes(state: Any) -> int:
    forest = RandomForestClassifier()
    forest.estimators_ = [tree for member in state.members for tree in member.content]
    return len(zlib.compress(pickle.dumps(forest, protocol=5), 6))


# -- checkpoint_every --------------------------------------------------------------------------------------------


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 2))


def torch_rows(X: np.ndarray, y: np.ndarray) -> list[dict[str, Any]]:
    """Bytes kept, and steps that 100 requests, one by one on the whole model, come to."""
    network = TorchModel(module=net, loss="cross_entropy", optimizer="adam", epochs=2, batch_size=256)
    ids = np.arange(len(y))
    asked = np.random.default_rng(0).choice(ids, 100, replace=False).tolist()
    rows: list[dict[str, Any]] = []
    for every in EVERY:
        model = SISAClassifier(network, n_shards=5, n_slices=10, checkpoint_every=every, random_state=0)
        model.fit(X, y, ids=ids)
        costs = [model.estimate(i) for i in asked]
        kept = stored_bytes(model)
        first = rows[0]["kept"] if rows else kept
        rows.append(
            {
                "checkpoint_every": every,
                "states": sum(step.kept for step in model._ensemble.plan),
                "kept": kept,
                "of all": kept / first,
                "steps of a request": float(np.mean([cost.n_steps for cost in costs])),
                "repeated": float(np.mean([cost.n_repeated for cost in costs])),
                "share of a build": float(np.mean([cost.cost_share for cost in costs])),
                # A fifth of the states, give or take shared headers, is a fifth of the bytes.
                "ok": bool(kept <= 1.1 * first / every and model.verify(shards=[0]).exact),
            }
        )
    return rows


if __name__ == "__main__":
    main()
