"""The heat map: what it says of shards and slices, in words as well as in shades."""

from __future__ import annotations

import re

import pytest

from unlearnkit.figures import MOST_COLUMNS, MOST_ROWS, ShardRow, heat_map


def body_rows(html):
    return re.findall(r"<tr>(.*?)</tr>", html[html.index("<tbody>") :], re.DOTALL)


def words(html):
    return re.sub(r"<[^>]*>", " ", html)


def test_each_shard_has_a_row_and_each_slice_a_column():
    found = heat_map([ShardRow((4, 0)), ShardRow((2, 1, 5))], 2)
    first, second = body_rows(found)
    assert "2 shards x 2 slices, 12 records, 5 of them arrived later, none degraded" in found
    assert words(first).split() == ["0", "4", "4", "trained"]
    assert words(second).split() == ["1", "2", "1", "5", "8", "trained"]
    assert "arrived 2" in found
    # Darkest where most are, and no shade where none are.
    assert first.count("rgba(31,119,180,0.40)") == 1
    assert second.count("rgba(31,119,180,0.50)") == 1


@pytest.mark.parametrize(
    ("row", "told", "hatched"),
    [
        (ShardRow((3, 3)), "trained", 0),
        (ShardRow((3, 3), due=1), "waits for repair from slice 1", 1),
        (ShardRow((3, 3), due=0, serves=False), "waits for repair from slice 0, abstains", 2),
        (ShardRow((3, 0), due=0, serves=False, why="<ValueError> & so on"), "cannot be trained: <ValueError>", 1),
        (ShardRow((0, 0), serves=False), "no records", 0),
    ],
)
def test_the_state_is_told_in_words_and_shown_without_colour(row, told, hatched):
    found = heat_map([row], 2)
    assert row.state.startswith(told)
    assert told.replace("<", "&lt;").replace(">", "&gt;") in found
    assert found.count('class="due"') == found.count(", not trained") == hatched
    assert ("&#9888;" in found) is row.degraded is (row.due is not None)
    assert "<ValueError>" not in found


def test_a_large_model_shows_all_that_is_degraded():
    shards = [ShardRow((1,) * 50, due=30 if s in (7, 199) else None) for s in range(200)]
    found = heat_map(shards, 50)
    rows = body_rows(found)
    assert len(rows) == MOST_ROWS + 2
    assert found.count("waits for repair from slice 30") == 2
    assert "and 159 more shards, all trained" in rows[-1]
    assert rows[0].count("<td") <= MOST_COLUMNS + 2
    assert "10,000 records, 2 degraded" in found


def test_it_is_self_contained():
    found = heat_map([ShardRow((1, 2, 3), due=2)], 2)
    assert not re.search(r"<script|https?:|url\(|@import", found)


def test_nothing_to_show():
    assert "1 shard x 1 slice, 0 records, none degraded" in heat_map([ShardRow((0,), serves=False)], 1)
    assert body_rows(heat_map([], 3)) == []
