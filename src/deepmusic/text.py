"""Text in columns of a terminal, where Chinese, Japanese and Korean letters take two cells."""

from __future__ import annotations

import unicodedata


def cells(text: str) -> int:
    """How many cells of a terminal a text takes (Unicode Standard Annex 11).

    Example:
        >>> cells("jazz"), cells("ジャズ")
        (4, 6)
    """
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def aligned(text: str, width: int, *, right: bool = False) -> str:
    """A text with spaces up to a width in cells."""
    space = " " * (width - cells(text))
    return space + text if right else text + space


def shortened(text: str, width: int) -> str:
    """A text cut to a width in cells, with an ellipsis where something is missing."""
    if cells(text) <= width:
        return text
    while cells(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…"
