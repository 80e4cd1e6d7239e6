"""``unlearnkit predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearnkit.cli.given import features_of
from unlearnkit.cli.options import BundlePath, Jobs, ModelName, Settings, StorePathOrNone, one_of, optional
from unlearnkit.cli.output import DONE, Json, finish, readable
from unlearnkit.errors import ParameterError
from unlearnkit.typing import AnyArray
from unlearnkit.words import count

if TYPE_CHECKING:
    import pandas as pd


def predict(
    *,
    store: StorePathOrNone = None,
    bundle: BundlePath = None,
    data: Annotated[Path, typer.Option(metavar="FILE", help="The rows: CSV with a header line, or Parquet.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="CSV or Parquet, as its name says.")
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also the probability of each class.")] = False,
    model: ModelName = None,
    settings: Settings = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Predict for the rows of a file, in their order; without --output as CSV on standard output."""
    with readable():
        from unlearnkit.estimators import load
        from unlearnkit.tables import check_writable, read_table, write_table

        estimator = optional(model, settings)
        if output is not None:
            check_writable(output)
        sisa = load(one_of(store, bundle), estimator=estimator, refresh_s=0).set_params(n_jobs=jobs)
        answers = _answers(sisa, features_of(sisa, read_table(data), data), probabilities=probabilities)
        if output is not None:
            write_table(answers, output)
    if output is not None:
        facts = {"rows": len(answers), "output": str(output)}
        finish(facts, [f"{count(len(answers), 'prediction')} in {output}"], as_json=as_json)
    if as_json:
        finish({name: answers[name].tolist() for name in answers.columns}, [], as_json=True)
    print(answers.to_csv(index=False), end="")  # noqa: T201
    raise typer.Exit(DONE)


def _answers(sisa: Any, X: Any, *, probabilities: bool) -> pd.DataFrame:
    import pandas as pd

    if probabilities and not hasattr(sisa, "predict_proba"):
        raise ParameterError("This model gives no probabilities; nothing was done. Leave --probabilities out.")
    if not probabilities:
        return pd.DataFrame(_named("prediction", sisa.predict(X)))
    shares = sisa.predict_proba(X)
    columns = {"prediction": sisa.classes_[shares.argmax(axis=1)]}
    return pd.DataFrame(columns | {f"probability_{c}": shares[:, i] for i, c in enumerate(sisa.classes_.tolist())})


def _named(name: str, values: AnyArray) -> dict[str, AnyArray]:
    return {name: values} if values.ndim == 1 else {f"{name}_{i}": column for i, column in enumerate(values.T)}
