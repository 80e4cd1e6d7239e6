from __future__ import annotations

import inspect
import pickle

import pytest

from unlearnkit import errors

ALL = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, errors.UnlearnKitError)]


@pytest.mark.parametrize("error", ALL)
def test_every_error_is_in_the_drawing(error):
    parents = {base.__name__ for base in error.__mro__[1:] if base.__module__ == "builtins"} - {
        "object",
        "Exception",
        "BaseException",
    }
    line = next(line for line in errors.__doc__.splitlines() if error.__name__ in line.split())
    shown = next((name for name in ("ValueError", "TypeError", "LookupError", "RuntimeError") if name in line), None)
    assert shown is None or shown in parents


def test_the_tree_is_drawn_once_for_each():
    for error in ALL:
        assert sum(error.__name__ in line.split() for line in errors.__doc__.splitlines()) == 1


def test_a_training_error_keeps_its_place_on_the_way_from_a_worker():
    there = errors.TrainingError("no", shard=3, slice=1, cause="ValueError")
    here = pickle.loads(pickle.dumps(there))
    assert (str(here), here.shard, here.slice, here.cause) == ("no", 3, 1, "ValueError")
