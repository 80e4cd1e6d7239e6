from __future__ import annotations

import pytest

from unlearnkit.progress import progress


@pytest.mark.parametrize(("total", "shown"), [(3, False), (0, True)])
def test_nothing_is_shown_unasked(capsys, total, shown):
    with progress("Training", total, shown=shown) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_a_bar_goes_to_standard_error(capsys):
    with progress("Training", 3, shown=True) as advance:
        for _ in range(3):
            advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Training" in err
    assert "3/3" in err
