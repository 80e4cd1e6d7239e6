"""What several test modules need: rows, models over a learner that remembers, and a plugin that is not installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import sys
import types
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from unlearnkit import adapters, models
from unlearnkit.adapters import Adapter, Plugins, hookimpl
from unlearnkit.aggregation import choose
from unlearnkit.config import Config
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.environment import environment
from unlearnkit.partition import HashPartition
from unlearnkit.testing import RememberingLearner

SECRET = b"the secret of these tests"
OBJECT_KEYS = ("key-id-of-these-tests", "key-of-these-tests")


class Remember(BaseEstimator):
    """A model whose learner is a `RememberingLearner`."""

    def __init__(self, task: str = "classification", resumable: bool = True, absent_classes: bool = False) -> None:
        self.task = task
        self.resumable = resumable
        self.absent_classes = absent_classes


def rows(n: int = 60, seed: int = 0, classes: int = 2) -> tuple[Any, Any, Any]:
    """`n` rows that differ from each other, their labels, and ids in no order."""
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(size=(n, 3)), 6)
    return X, rng.permutation(n) % classes, rng.permutation(n) + 1000


def build(learner: Any = None, **options: Any) -> SisaEnsemble:
    """An unfitted ensemble, without plugins."""
    learner = RememberingLearner() if learner is None else learner
    defaults: dict[str, Any] = {
        "name": "toy",
        "n_shards": 3,
        "n_slices": 3,
        "aggregation": choose("auto", learner.capabilities),
        "partition": HashPartition(SECRET),
        "seed": 5,
        "random_state": 5,
        "n_jobs": 1,
        "environment": environment(),
    }
    return SisaEnsemble(learner, Config(**defaults | options))


def twin(model: SisaEnsemble, learner: Any = None) -> SisaEnsemble:
    """An unfitted ensemble with the frozen context of a fitted one."""
    config = model.config
    return build(
        model.learner if learner is None else learner,
        n_shards=config.n_shards,
        n_slices=config.n_slices,
        partition=HashPartition(model.partition.secret),
        schema=model.schema,
        seed=config.seed,
        when_isolated=config.when_isolated,
        aggregation=config.aggregation,
    )


def remembered(model: SisaEnsemble) -> set[tuple[float, ...]]:
    """All rows that any stored or served state of a model over a `RememberingLearner` holds."""
    stored = [step.key for step in model._build.plan if step.key in model.store and not step.constant]
    states = [model.learner.load(model.store.parts(key)) for key in stored]
    served = [s for s in model.constituents if s is not None and not isinstance(s, int)]
    return {record for state in [*states, *served] for record in state.records}


class Entry:
    """An entry point of a distribution that is not installed."""

    def __init__(self, name: str, target: Any) -> None:
        self.name = name
        self.target = target

    def load(self) -> Any:
        if isinstance(self.target, BaseException):
            raise self.target
        return self.target


def plugin(name: str, **hooks: Any) -> types.ModuleType:
    """A plugin module with these hook implementations."""
    module = types.ModuleType(name)
    for hook, implementation in hooks.items():
        setattr(module, hook, hookimpl(implementation))
    return module


def type_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


@pytest.fixture(scope="session")
def helpers() -> types.SimpleNamespace:
    """The functions of this module: test modules do not import each other."""
    names = ("rows", "build", "twin", "remembered", "Entry", "plugin", "type_name", "SECRET", "OBJECT_KEYS")
    return types.SimpleNamespace(**{name: globals()[name] for name in names})


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes plugins, beside those that are installed, the plugins of this test."""

    def install(*modules: Any) -> Plugins:
        real = importlib.metadata.entry_points(group="unlearnkit", name="sklearn")
        found = Plugins([*real, *(Entry(module.__name__, module) for module in modules)])
        for home in (adapters, models):
            monkeypatch.setattr(home, "plugins", lambda: found)
        return found

    return install


@pytest.fixture
def remember(install: Any) -> type[Remember]:
    """The class `Remember`, wrapped by a plugin."""

    def wrap(model: Remember, resolve: Any) -> RememberingLearner:
        return RememberingLearner(model.task, model.resumable, model.absent_classes)

    adapter = Adapter("remember", (type_name(Remember),), wrap)
    install(plugin("remember", unlearnkit_adapters=lambda: [adapter]))
    # Found by name when a fitted model is unpickled.
    sys.modules.setdefault(Remember.__module__, sys.modules[__name__])
    return Remember


def beside(name: str) -> Any:
    """A module of this folder that is no test module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def programs() -> Any:
    """A folder with the programs ``unlearnkit`` and ``python``, which have imported what most need: see `forks`."""
    with beside("forks").stand_ins() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres() -> Any:
    """A PostgreSQL server, one for each worker; the test is skipped where there can be none."""
    module = beside("postgres_server")
    if why := module.lacking():
        pytest.skip(why)
    with module.running() as server:
        yield server


@pytest.fixture
def database(postgres: Any) -> Any:
    """The URL of a database of this test's own."""
    name = f"test_{uuid.uuid4().hex}"
    yield postgres.create(name)
    postgres.drop(name)


@pytest.fixture(scope="module")
def object_store() -> Any:
    """A client of an object store on the loopback interface."""
    import boto3
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    known = {"aws_access_key_id": OBJECT_KEYS[0], "aws_secret_access_key": OBJECT_KEYS[1], "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **known)
    yield client
    client.close()
    server.stop()


@pytest.fixture
def bucket(object_store: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A bucket of this test's own, its client, and what in the environment leads there."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    object_store.create_bucket(Bucket=name)
    address = object_store.meta.endpoint_url
    variables = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL")
    for variable, value in zip(variables, (*OBJECT_KEYS, "us-east-1", address), strict=True):
        monkeypatch.setenv(variable, value)
    return types.SimpleNamespace(name=name, url=f"s3://{name}/models/churn", client=object_store, address=address)


@pytest.fixture(scope="session")
def data_folder():
    """The folder of real data sets; the test is skipped where there is none."""
    folder = os.environ.get("UNLEARNKIT_DATA")
    if not folder:
        pytest.skip("UNLEARNKIT_DATA is not set")
    return Path(folder)
