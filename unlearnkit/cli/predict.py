"""``unlearnkit predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearnkit.cli.options import Jobs, ModelName, Settings, StorePath, optional
from unlearnkit.cli.output import DONE, Json, count, finish, readable
from unlearnkit.errors import DataError, ParameterError
from unlearnkit.typing import AnyArray

if TYPE_CHECKING:
    import pandas as pd


def predict(
    *,
    store: StorePath,
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
        sisa = load(store, estimator=estimator, refresh_s=0).set_params(n_jobs=jobs)
        answers = _answers(sisa, _features(sisa, read_table(data), data), probabilities=probabilities)
        if output is not None:
            write_table(answers, output)
    if output is not None:
        facts = {"rows": len(answers), "output": str(output)}
        finish(facts, [f"{count(len(answers), 'prediction')} in {output}"], as_json=as_json)
    if as_json:
        finish({name: answers[name].tolist() for name in answers.columns}, [], as_json=True)
    print(answers.to_csv(index=False), end="")  # noqa: T201
    raise typer.Exit(DONE)


def _features(sisa: Any, frame: pd.DataFrame, path: Path) -> Any:
    """The columns that the model was fitted with, whatever else the file has."""
    if not hasattr(sisa, "feature_names_in_"):
        return frame.to_numpy()
    names = sisa.feature_names_in_.tolist()
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path} lacks {count(len(missing), 'column')} that the model was fitted with: "
            f"{', '.join(map(repr, missing[:20]))}{', ...' if len(missing) > 20 else ''}; nothing was done."  # noqa: PLR2004
        )
    return frame[names]


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
