"""Exact machine unlearning for the models you already use.

The names here are resolved when they are first used: a program that reads a ledger pays for no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearnkit.adapters import Adapter, hookimpl
    from unlearnkit.audit import MembershipAudit, membership_audit
    from unlearnkit.config import Config
    from unlearnkit.ensemble import SisaEnsemble
    from unlearnkit.errors import LeakageWarning
    from unlearnkit.estimators import SISAClassifier, SISARegressor, load, wrap
    from unlearnkit.fingerprints import fingerprint
    from unlearnkit.leakage import check_pipeline
    from unlearnkit.learner import Batch, Capabilities, Leak, Learner, Step, Warm
    from unlearnkit.loading import Rows
    from unlearnkit.partition import BandedPartition, HashPartition
    from unlearnkit.planner import plan_sharding
    from unlearnkit.policy import Policy
    from unlearnkit.receipts import Estimate, Receipt, VerifyReport
    from unlearnkit.schema import Schema
    from unlearnkit.sharding import ShardingPlan
    from unlearnkit.store import Store

__version__ = "0.1.0"

_HOMES = {
    "Adapter": "adapters",
    "BandedPartition": "partition",
    "Batch": "learner",
    "Capabilities": "learner",
    "Config": "config",
    "Estimate": "receipts",
    "HashPartition": "partition",
    "Leak": "learner",
    "LeakageWarning": "errors",
    "Learner": "learner",
    "MembershipAudit": "audit",
    "Policy": "policy",
    "Receipt": "receipts",
    "Rows": "loading",
    "SISAClassifier": "estimators",
    "SISARegressor": "estimators",
    "Schema": "schema",
    "ShardingPlan": "sharding",
    "SisaEnsemble": "ensemble",
    "Step": "learner",
    "Store": "store",
    "VerifyReport": "receipts",
    "Warm": "learner",
    "check_pipeline": "leakage",
    "fingerprint": "fingerprints",
    "hookimpl": "adapters",
    "load": "estimators",
    "membership_audit": "audit",
    "plan_sharding": "planner",
    "wrap": "estimators",
}

__all__ = [
    "Adapter",
    "BandedPartition",
    "Batch",
    "Capabilities",
    "Config",
    "Estimate",
    "HashPartition",
    "Leak",
    "LeakageWarning",
    "Learner",
    "MembershipAudit",
    "Policy",
    "Receipt",
    "Rows",
    "SISAClassifier",
    "SISARegressor",
    "Schema",
    "ShardingPlan",
    "SisaEnsemble",
    "Step",
    "Store",
    "VerifyReport",
    "Warm",
    "check_pipeline",
    "fingerprint",
    "hookimpl",
    "load",
    "membership_audit",
    "plan_sharding",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"unlearnkit.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'unlearnkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
