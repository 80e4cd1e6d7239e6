"""The report: what a store holds and what was done in it, as one HTML file for people who do not use Python.

::

    facts      what there is to tell, read from the ledger
    proof      the signed statements, verified on the spot
    timeline   requests on a time line, as places on a drawing
    page       from all that to one self-contained page
"""

from __future__ import annotations

from unlearnkit.report.facts import Facts, facts_of
from unlearnkit.report.page import page

__all__ = ["Facts", "facts_of", "page"]
