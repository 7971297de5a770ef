from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, strategies as st
from miniature_fma import ROOTS

from deepmusic.datasets.genre_tree import Genre, GenreTree
from deepmusic.errors import DataError


def trees() -> st.SearchStrategy[list[Genre]]:
    """Forests: each genre's parent is one before it or none; numbers are shuffled."""

    def build(parents: list[int], numbers: list[int]) -> list[Genre]:
        return [
            Genre(numbers[index], f"genre {index}", numbers[parent] if parent < index else None)
            for index, parent in enumerate(parents)
        ]

    return st.integers(1, 12).flatmap(
        lambda size: st.builds(
            build,
            st.lists(st.integers(0, size), min_size=size, max_size=size),
            st.lists(st.integers(1, 2000), min_size=size, max_size=size, unique=True),
        )
    )


@given(trees())
def test_relations_agree_with_each_other(genres: list[Genre]) -> None:
    tree = GenreTree(genres)
    assert tree.ids == tuple(sorted(genre.id for genre in genres))
    for genre in genres:
        number = genre.id
        above = []
        link = genre
        while link.parent is not None:  # the slow way up
            above.append(link.parent)
            link = tree[link.parent]
        assert tree.path(number) == (*reversed(above), number)
        assert tree.path(number)[0] in tree.roots
        assert tree.children(number) == tuple(sorted(g.id for g in genres if g.parent == number))


def test_the_real_tree() -> None:
    frame = pd.read_csv(Path(__file__).with_name("fma_genres.csv"), index_col=0)
    tree = GenreTree.from_frame(frame)
    assert len(tree.ids) == 163
    assert Counter(len(tree.path(genre)) for genre in tree.ids) == {
        1: 16,
        2: 106,
        3: 37,
        4: 3,
        5: 1,
    }
    assert {root: tree[root].title for root in tree.roots} == ROOTS
    deepest = [genre.id for genre in tree if len(tree.path(genre.id)) == 5]
    assert [tree[genre].title for genre in tree.path(deepest[0])] == [
        "Experimental", "Novelty", "Sound Effects", "Holiday", "Christmas",
    ]  # fmt: skip
    assert [genre.title for genre in tree if genre.tracks == 0] == ["Bollywood", "Be-Bop"]
    for number, row in frame.iterrows():
        assert tree.path(number)[0] == row["top_level"]
        assert tree[number] == Genre(number, row["title"], row["parent"] or None, row["#tracks"])
    with pytest.raises(DataError, match="parent"):
        GenreTree.from_frame(frame.drop(columns="parent"))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("1,5,2,A,1\n2,5,1,B,1", "its own ancestor"),
        ("1,5,1,A,1", "its own ancestor"),
        ("1,5,0,A,1\n2,5,7,B,1", r"the parent 7, which is not in the tree"),
        ("1,5,0,A,1\n1,5,0,B,1", "occurs twice"),
        ("1,5,0,A,1\n2,5,x,B,1", "damaged"),
        ("1,5,0,A,1\n2,5", "damaged"),
        ("1,5.5,0,A,1", "damaged"),
    ],
)
def test_tables_that_are_not_trees_are_refused(rows: str, sentence: str) -> None:
    text = f"genre_id,#tracks,parent,title,top_level\n{rows}\n"
    with pytest.raises(DataError, match=sentence):
        GenreTree.from_frame(pd.read_csv(io.StringIO(text), index_col=0))


def test_unknown_genres_are_refused() -> None:
    tree = GenreTree([Genre(12, "Rock", None)])
    for ask in (tree.path, tree.children, tree.__getitem__):
        with pytest.raises(DataError, match="no genre 99"):
            ask(99)
