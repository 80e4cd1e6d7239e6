"""scikit-learn's own checks over many models: the plain model, bagging over it, and unlearnkit over it.

A check that fails for unlearnkit alone is a fault. What the plain model or bagging fails, too, is the model's own way.
``--results`` keeps what was found in a file, so that a run that was cut short goes on; ``--page`` writes the tables
into a page of the documentation, between its marks.
"""

from __future__ import annotations

import json
import re
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import SkipTest

from common import parser, report
from conformance_models import CLASSIFIERS, REGRESSORS, Factory
from sklearn.ensemble import BaggingClassifier, BaggingRegressor
from sklearn.utils.estimator_checks import estimator_checks_generator

from unlearnkit import SISAClassifier, SISARegressor

KINDS: dict[str, tuple[dict[str, Factory], type, type]] = {
    "classifiers": (CLASSIFIERS, BaggingClassifier, SISAClassifier),
    "regressors": (REGRESSORS, BaggingRegressor, SISARegressor),
}
QUICK = {"DecisionTree", "Ridge"}
ARMS = ("plain", "bagging", "unlearnkit")
Outcome = dict[str, Any]
"""The number of checks passed, and those that failed with what they said."""


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--only", nargs="*", help="these models")
    flags.add_argument("--kind", choices=sorted(KINDS), help="these alone")
    flags.add_argument("--results", type=Path, help="a JSON file to keep results in and to go on from")
    flags.add_argument("--page", type=Path, help="a page to write the tables into")
    options = flags.parse_args()
    results = json.loads(options.results.read_text()) if options.results and options.results.exists() else {}
    for kind, name in chosen(options):
        if name not in results.setdefault(kind, {}):
            results[kind][name] = measured(kind, name)
            if options.results:
                options.results.write_text(json.dumps(results, indent=1) + "\n")
    found = [row(kind, name, arms) for kind, models in results.items() for name, arms in models.items()]
    if options.page:
        write(options.page, results)
    report("conformance: checks passed, failed", found, ok=not any(row["its own"] for row in found))


def chosen(options: Any) -> Iterable[tuple[str, str]]:
    """Kind and name of each model that is asked for."""
    only = QUICK if options.quick and options.only is None else options.only
    for kind, (models, _, _) in KINDS.items():
        if options.kind in (None, kind):
            yield from ((kind, name) for name in models if only is None or name in only)


def measured(kind: str, name: str) -> dict[str, Outcome]:
    """What each arm passes and fails."""
    models, bagging, sisa = KINDS[kind]
    make, began = models[name], time.perf_counter()
    arms = {"plain": make(), "bagging": bagging(make()), "unlearnkit": sisa(make())}
    found = {arm: outcome(model) for arm, model in arms.items()}
    print(f"{kind}, {name}: {time.perf_counter() - began:.0f} s, {unexcused(found)}", file=sys.stderr, flush=True)
    return found


def outcome(model: Any, only: Iterable[str] | None = None) -> Outcome:
    """What a model passes and fails of the checks that scikit-learn has for it, or of only these."""
    passed, failed = 0, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for fresh, check in estimator_checks_generator(model):
            name = check.func.__name__
            if only is not None and name not in only:
                continue
            try:
                check(fresh)
            except SkipTest:
                continue
            except Exception as error:  # noqa: BLE001
                failed[name] = repr(error)
            else:
                passed += 1
    return {"passed": passed, "failed": failed}


def faults(kind: str, name: str) -> dict[str, str]:
    """As `unexcused`, but the others are asked for nothing that the wrapped model passes."""
    models, bagging, sisa = KINDS[kind]
    left = outcome(sisa(models[name]()))["failed"]
    for make in (models[name], lambda: bagging(models[name]())):
        if left:
            excused = outcome(make(), only=left)["failed"]
            left = {check: said for check, said in left.items() if check not in excused}
    return left


def unexcused(arms: dict[str, Outcome]) -> dict[str, str]:
    """The failures of the wrapped model that neither the plain one has, nor bagging over it."""
    excused = arms["plain"]["failed"].keys() | arms["bagging"]["failed"].keys()
    return {name: said for name, said in arms["unlearnkit"]["failed"].items() if name not in excused}


# -- tables ------------------------------------------------------------------------------------------------------


def row(kind: str, name: str, arms: dict[str, Outcome]) -> dict[str, str]:
    counts = {arm: f"{arms[arm]['passed']}, {len(arms[arm]['failed'])}" for arm in ARMS}
    alone = sorted(check.removeprefix("check_") for check in unexcused(arms))
    return {"kind": kind, "model": name, **counts, "its own": ", ".join(alone)}


def write(page: Path, results: dict[str, dict[str, dict[str, Outcome]]]) -> None:
    """Put the tables between the marks of a page."""
    text = page.read_text(encoding="utf-8")
    for kind, models in results.items():
        mark = f"<!-- {kind} -->"
        pattern = re.compile(f"{mark}\n.*?{mark}\n", re.DOTALL)
        table = f"{mark}\n{markdown(kind, models)}{mark}\n"
        text, count = pattern.subn(lambda _, table=table: table, text)
        if count != 1:
            raise SystemExit(f"{page} has no two marks {mark}.")
    page.write_text(text, encoding="utf-8")


def markdown(kind: str, models: dict[str, dict[str, Outcome]]) -> str:
    """One table, in the order of the models."""
    lines = ["| model | plain | bagging | unlearnkit | fails in unlearnkit alone |", "|---|---|---|---|---|"]
    for name in KINDS[kind][0]:
        if name in models:
            cells = row(kind, name, models[name])
            alone = ", ".join(f"`{check}`" for check in cells["its own"].split(", ") if check)
            lines.append(f"| {name} | {' | '.join(cells[arm] for arm in ARMS)} | {alone or '-'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
