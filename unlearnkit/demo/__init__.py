"""The demonstration: real data, all four frameworks, and the proof that what is left is what a refit gives.

Every line trains a plain model and a SISA model of the same kind, forgets the records of two ids, and compares the
result with a model that was fitted apart, by `pinned()`, on the records that remain.
"""

from __future__ import annotations

from unlearnkit.demo.cases import BUNDLED, Case, cases_for
from unlearnkit.demo.csvfile import read_csv
from unlearnkit.demo.data import Data
from unlearnkit.demo.measure import Line, Numbers, run

__all__ = ["BUNDLED", "Case", "Data", "Line", "Numbers", "cases_for", "read_csv", "run"]
