from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from miniature_fma import ROOTS, read_tree, write_genres

from deepmusic.datasets.genre_tree import Genre, GenreTree
from deepmusic.errors import DataError


def trees() -> st.SearchStrategy[list[Genre]]:
    """Forests: each genre's parent is one before it or none; numbers are shuffled."""

    def build(parents: list[int], numbers: list[int]) -> list[Genre]:
        return [
            Genre(numbers[place], f"genre {place}", numbers[parent] if parent < place else None)
            for place, parent in enumerate(parents)
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
    assert sum(tree.depth_counts().values()) == len(tree) == len(genres)
    for genre in genres:
        number = genre.id
        above = []
        link = genre
        while link.parent is not None:  # the slow way up
            above.append(link.parent)
            link = tree[link.parent]
        assert tree.ancestors(number) == tuple(above)
        assert tree.path(number) == (*reversed(above), number)
        assert tree.depth(number) == len(above) + 1
        assert tree.top_level(number) == (above[-1] if above else number)
        assert tree.top_level(number) in tree.roots
        below = {other.id for other in genres if number in tree.ancestors(other.id)}
        assert tree.descendants(number) == tuple(sorted(below))
        assert tree.children(number) == tuple(sorted(g.id for g in genres if g.parent == number))
        assert tree.find(genre.title.upper()) == number


def test_the_real_tree() -> None:
    path = Path(__file__).with_name("fma_genres.csv")
    tree = GenreTree.read(path)
    assert len(tree) == 163
    assert tree.depth_counts() == {1: 16, 2: 106, 3: 37, 4: 3, 5: 1}
    assert {root: tree.title(root) for root in tree.roots} == ROOTS
    deepest = [genre.id for genre in tree if tree.depth(genre.id) == 5]
    assert [tree.title(genre) for genre in tree.path(deepest[0])] == [
        "Experimental", "Novelty", "Sound Effects", "Holiday", "Christmas",
    ]  # fmt: skip
    assert [genre.title for genre in tree if genre.tracks == 0] == ["Bollywood", "Be-Bop"]
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            genre = int(row["genre_id"])
            assert tree.top_level(genre) == int(row["top_level"])
            assert tree[genre] == Genre(
                genre, row["title"], int(row["parent"]) or None, int(row["#tracks"])
            )


def test_a_tree_of_that_shape_without_the_real_one(tmp_path: Path) -> None:
    write_genres(tmp_path / "genres.csv", read_tree())
    tree = GenreTree.read(tmp_path / "genres.csv")
    assert tree.depth_counts() == {1: 16, 2: 106, 3: 37, 4: 3, 5: 1}


def test_frame_and_file_give_one_tree(tmp_path: Path) -> None:
    import pandas as pd

    write_genres(tmp_path / "genres.csv", read_tree())
    frame = pd.read_csv(tmp_path / "genres.csv", index_col=0)
    assert list(GenreTree.from_frame(frame)) == list(GenreTree.read(tmp_path / "genres.csv"))
    with pytest.raises(DataError, match="'parent' is missing"):
        GenreTree.from_frame(frame.drop(columns="parent"))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("1,5,2,A,1\n2,5,1,B,1", "above itself"),
        ("1,5,1,A,1", "above itself"),
        ("1,5,0,A,1\n2,5,7,B,1", r"the parent 7, which is not in the tree"),
        ("1,5,0,A,1\n1,5,0,B,1", "stands twice"),
        ("1,5,0,A,1\n2,5,1,B,2", "contradicts itself"),
        ("1,5,0,A,1\n2,5,x,B,1", "does not hold numbers"),
        ("1,5,0,A,1\n2,5", "does not hold numbers"),
        ("1,5,0,A,1.5", "does not hold numbers"),
    ],
)
def test_what_is_no_tree_is_refused(tmp_path: Path, rows: str, sentence: str) -> None:
    path = tmp_path / "genres.csv"
    path.write_text(f"genre_id,#tracks,parent,title,top_level\n{rows}\n")
    with pytest.raises(DataError, match=sentence) as caught:
        GenreTree.read(path)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "genres.csv"
    with pytest.raises(DataError, match="does not exist"):
        GenreTree.read(path)
    with pytest.raises(DataError, match="not a file"):
        GenreTree.read(tmp_path)
    for content in (b"", b"a,b\n1,2\n", b"\xff\xfe\x00", b"genre_id,#tracks,parent,title\n"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"not FMA's genres\.csv"):
            GenreTree.read(path)


def test_what_is_not_in_the_tree_is_told() -> None:
    tree = GenreTree([Genre(12, "Rock", None), Genre(25, "Punk", 12), Genre(26, "punk", 12)])
    assert 25 in tree
    assert 99 not in tree
    for ask in (tree.title, tree.path, tree.children, tree.descendants, tree.parent):
        with pytest.raises(DataError, match="no genre 99"):
            ask(99)
    with pytest.raises(DataError, match="Several genres are called 'PUNK': 25, 26"):
        tree.find("PUNK")
    with pytest.raises(DataError, match="'Rock'"):
        tree.find("Rok")
    with pytest.raises(DataError, match="No genre is called 'zzz' in the tree"):
        tree.find("zzz")
