"""Widths of text in a terminal, with the same results as rich has."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len

from deepmusic.text import aligned, cells, shortened

LETTERS = st.text("abc é-ジャズ한국中文ﾊﾛｰ！Ｒ")


@given(LETTERS)
def test_widths_are_those_of_rich(text: str) -> None:
    assert cells(text) == cell_len(text)


@given(LETTERS, st.integers(2, 20))
def test_short_text_fits_and_begins_alike(text: str, width: int) -> None:
    short = shortened(text, width)
    assert cells(short) <= width
    assert text.startswith(short.removesuffix("…"))
    assert short == text or short.endswith("…")
    for right in (False, True):
        line = aligned(short, width, right=right)
        assert cells(line) == width
        assert line.endswith(short) if right else line.startswith(short)


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("e\u0301", 1), ("R\u200d", 1), ("\u3000", 2)]
)
def test_marks_take_no_cell(text: str, width: int) -> None:
    assert cells(text) == width
