"""FMA's table of baselines on a miniature with the true layout, beside the notebook's own code."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import LabelEncoder, MultiLabelBinarizer, StandardScaler
from sklearn.svm import SVC
from sklearn.utils import shuffle

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from miniature_fma import ROOTS, make_miniature, write_checksums

from deepmusic.datasets.fma import Fma, read_fma
from deepmusic.errors import DataError, RequestError
from deepmusic.store import Store
from deepmusic.studies import fma_baselines
from deepmusic.studies.fma_baselines import reproduce
from deepmusic.studies.fma_table import (
    MODELS,
    PUBLISHED,
    Cell,
    Reproduction,
    csv_table,
    markdown,
    plain_text,
)

SETS = ("zcr", "mfcc/contrast", "all")
MULTI = "mfcc"


def make_separable(folder: Path, tracks: int = 72) -> Fma:
    """A miniature whose features separate genres, with errors."""
    mini = make_miniature(folder, tracks, audio=False)
    path = mini.metadata / "features.csv"
    lines = path.read_text().splitlines()
    tops = {row.id: row.genre_top for row in mini.rows}
    draw = np.random.default_rng(1)
    means = {title: draw.standard_normal(518) for title in (*ROOTS.values(), "")}
    for index, line in enumerate(lines[4:], start=4):
        track = int(line.split(",", 1)[0])
        values = means[tops[track]] + 2.5 * draw.standard_normal(518)
        lines[index] = ",".join([str(track), *(f"{value:.10e}" for value in values)])
    path.write_text("\n".join(lines) + "\n")
    write_checksums(mini.metadata)
    return read_fma(folder)


@pytest.fixture(scope="module")
def fma(tmp_path_factory: pytest.TempPathFactory) -> Fma:
    return make_separable(tmp_path_factory.mktemp("fma"))


@pytest.fixture(scope="module")
def whole(fma: Fma, tmp_path_factory: pytest.TempPathFactory) -> tuple[Reproduction, Path]:
    out = tmp_path_factory.mktemp("out") / "new" / "folder"
    result = reproduce(fma, out, sets=(*SETS, MULTI, "echonest_ranks"), tasks=("single", "multi"))
    return result, out


def notebook_accuracies(fma: Fma, families: Sequence[str]) -> dict[str, float]:
    """As FMA's notebook computes them: frames, label encoder, shuffling, classifiers of 2017."""
    tracks = fma.tracks[fma.tracks["set", "subset"] <= "medium"]
    train, test = (tracks.index[tracks["set", "split"] == part] for part in ("training", "test"))
    encoder = LabelEncoder().fit(tracks["track", "genre_top"].astype(str))
    y_train, y_test = (
        encoder.transform(tracks.loc[part, ("track", "genre_top")].astype(str))
        for part in (train, test)
    )
    x_train, x_test = (fma.features.loc[part, list(families)].to_numpy() for part in (train, test))
    x_train, y_train = shuffle(x_train, y_train, random_state=42)
    scaler = StandardScaler().fit(x_train)
    models = {
        "lr": OneVsRestClassifier(LogisticRegression(solver="liblinear")),
        "knn": KNeighborsClassifier(n_neighbors=min(200, len(train))),
        "svm": SVC(kernel="rbf", gamma="auto"),
        "mlp": MLPClassifier(hidden_layer_sizes=(100,), max_iter=2000, random_state=0),
    }
    return {
        name: model.fit(scaler.transform(x_train), y_train).score(scaler.transform(x_test), y_test)
        for name, model in models.items()
    }


@pytest.mark.slow
def test_accuracies_are_those_of_the_notebook(fma: Fma, whole: tuple[Reproduction, Path]) -> None:
    families = {
        "zcr": ["zcr"],
        "mfcc/contrast": ["mfcc", "spectral_contrast"],
        "all": list(fma.features.columns.levels[0]),
    }
    ours = {c.path: c.accuracy for c in whole[0].cells if c.task == "single"}
    for name, chosen in families.items():
        wanted = notebook_accuracies(fma, chosen)
        assert {model: ours[f"single:{name}:{model}"] for model in MODELS} == pytest.approx(wanted)
    assert max(wanted.values()) > 0.5  # there is something to learn, so that this says something


@pytest.mark.slow
def test_subset_accuracy_is_that_of_the_notebook(
    fma: Fma, whole: tuple[Reproduction, Path]
) -> None:
    tracks = fma.subset("medium")
    train = tracks.index[tracks["set", "split"] == "training"]
    test = tracks.index[tracks["set", "split"] == "test"]
    binarizer = MultiLabelBinarizer().fit(tracks["track", "genres_all"])
    y_train, y_test = (
        binarizer.transform(tracks.loc[part, ("track", "genres_all")]) for part in (train, test)
    )
    scaler = StandardScaler().fit(fma.features.loc[train, "mfcc"].to_numpy())
    x_train, x_test = (
        scaler.transform(fma.features.loc[part, "mfcc"].to_numpy()) for part in (train, test)
    )
    with pytest.warns(UserWarning, match="not"):  # labels that no training track has
        model = OneVsRestClassifier(LogisticRegression(solver="liblinear")).fit(x_train, y_train)
    cell = next(c for c in whole[0].cells if c.path == "multi:mfcc:lr")
    assert cell.accuracy == pytest.approx(model.score(x_test, y_test))
    assert cell.scores["labels"] == y_test.shape[1]
    has = y_test.any(axis=0)
    assert cell.scores["labels_left_out"] == (~has).sum()
    assert cell.scores["macro_average_precision"] == pytest.approx(
        average_precision_score(y_test[:, has], model.decision_function(x_test)[:, has])
    )


def test_cells_are_in_the_order_of_the_table(whole: tuple[Reproduction, Path]) -> None:
    result, _ = whole
    single = [f"single:{name}:{m}" for name in (*SETS, MULTI, "echonest_ranks") for m in MODELS]
    several = [f"multi:{MULTI}:{model}" for model in ("lr", "svm", "mlp")]
    assert [cell.path for cell in result.cells] == single + several
    assert not [cell.error for cell in result.cells if cell.error]
    ranks = next(cell for cell in result.cells if cell.features == "echonest_ranks")
    assert "tracks that Echonest has" in ranks.note
    assert 0 < ranks.training + ranks.test < result.counts[0] + result.counts[2]


def test_published_scores_are_beside(fma: Fma, whole: tuple[Reproduction, Path]) -> None:
    assert len(PUBLISHED) == 14 * 4
    assert max(PUBLISHED, key=PUBLISHED.__getitem__) == ("mfcc/contrast/centroid", "svm")
    assert PUBLISHED["all", "lr"] == pytest.approx(0.611)
    result, out = whole
    cell = next(cell for cell in result.cells if cell.path == "single:all:svm")
    assert cell.published == pytest.approx(0.629)
    assert cell.difference == pytest.approx(cell.accuracy - 0.629)
    assert all(c.published is None for c in result.cells if c.task == "multi")
    small = reproduce(fma, out.parent / "small", subset="small", sets=["zcr"], models=["lr"])
    assert small.cells[0].published is None


def test_the_majority_genre_is_that_of_training(whole: tuple[Reproduction, Path], fma: Fma) -> None:
    rows = fma.subset("medium")
    table = pd.crosstab(rows["track", "genre_top"], rows["set", "split"])
    assert table.loc[whole[0].majority_genre, "training"] == table["training"].max()
    share = table.loc[whole[0].majority_genre, "test"] / table["test"].sum()
    assert whole[0].majority_accuracy == pytest.approx(share)


def stored_settings(subset: str = "medium") -> dict[str, object]:
    return {"subset": subset, "seed": 0, "scikit_learn": sklearn.__version__}


def test_finished_cells_are_not_computed_again(
    fma: Fma, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reproduce(fma, tmp_path, sets=["zcr", "rmse"], models=["lr", "svm"])
    with Store(tmp_path / "results.db", "FMA baselines", stored_settings()) as store:
        store.delete("single:rmse:lr")
        store.delete("single:rmse:svm")
    computed: list[str] = []
    real = fma_baselines._fit

    def counted(cell: Cell, *rest: object) -> Cell:
        computed.append(cell.path)
        return real(cell, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fma_baselines, "_fit", counted)
    seen: list[tuple[str, int, int, bool]] = []
    again = reproduce(
        fma,
        tmp_path,
        sets=["zcr", "rmse", "tonnetz"],
        models=["lr", "svm"],
        on_cell=lambda cell, done, total, kept: seen.append((cell.path, done, total, kept)),
    )
    assert computed == [
        "single:rmse:lr",
        "single:rmse:svm",
        "single:tonnetz:lr",
        "single:tonnetz:svm",
    ]
    assert [entry[1:] for entry in seen] == [(n, 6, n <= 2) for n in range(1, 7)]
    assert [c.accuracy for c in again.cells[:4]] == [c.accuracy for c in first.cells]


def test_results_of_other_tables_are_not_taken(fma: Fma, tmp_path: Path) -> None:
    kept: list[bool] = []
    for data in (fma, make_separable(tmp_path / "other", 48)):
        reproduce(data, tmp_path / "out", sets=["zcr"], models=["lr"],
                  on_cell=lambda cell, done, total, was_kept: kept.append(was_kept))  # fmt: skip
    assert kept == [False, False]
    with pytest.raises(DataError, match="made with other settings"):
        reproduce(fma, tmp_path / "out", sets=["zcr"], models=["lr"], seed=1)


@pytest.mark.slow  # two new processes import scikit-learn
def test_two_workers_find_the_same(
    whole: tuple[Reproduction, Path], fma: Fma, tmp_path: Path
) -> None:
    result = reproduce(fma, tmp_path, sets=SETS, models=["lr", "mlp"], workers=2)
    wanted = {cell.path: cell.accuracy for cell in whole[0].cells}
    assert [cell.accuracy for cell in result.cells] == [wanted[cell.path] for cell in result.cells]


@pytest.mark.slow
def test_values_that_are_not_finite_fail_only_their_sets(tmp_path: Path) -> None:
    fma = make_separable(tmp_path)
    train = fma.subset("medium")["set", "split"].loc[lambda split: split == "training"].index
    fma.features.loc[train[:3], ("mfcc", "mean", "01")] = np.nan
    result = reproduce(fma, tmp_path / "out", sets=["mfcc", "zcr", "all"], models=["lr"])
    mfcc, zcr, everything = result.cells
    assert mfcc.error == (
        "mfcc with lr: 3 of its values in features.csv are not finite numbers; the published "
        "table has none, so unpack fma_metadata.zip again."
    )
    assert everything.error.startswith("all with lr: 3 of its values")
    assert zcr.accuracy is not None
    with Store(tmp_path / "out" / "results.db", "FMA baselines", stored_settings()) as store:
        assert [record["features"] for _, record in store.items()] == ["zcr"]
    assert "- mfcc with lr: 3 of its values" in markdown(result)
    assert "failed (57.8)" in plain_text(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sets": ["mfc"]}, "no feature set 'mfc'"),
        ({"models": ["forest"]}, "no model 'forest'; there are lr, knn, svm, mlp"),
        ({"sets": ["echonest_metadata"]}, "no feature set"),
        ({"tasks": ["several"]}, "'single' or 'multi'"),
        ({"tasks": ["multi"], "sets": ["zcr"]}, "Nothing is left to compute"),
        ({"models": []}, "Nothing is left to compute"),
    ],
)
def test_impossible_requests_are_refused(
    fma: Fma, tmp_path: Path, options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        reproduce(fma, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    fma = make_separable(tmp_path / "fma", 48)
    features, track = fma.features, fma.subset("medium").index[4]
    for damaged in (features.drop(index=track), features.drop(columns=[("zcr", "std", "01")])):
        fma._frames["features"] = damaged
        with pytest.raises(DataError, match=r"features\.csv of .* lacks columns, or tracks of"):
            reproduce(fma, tmp_path / "out", sets=["zcr"], models=["lr"])
    fma._frames["features"] = features
    sides = fma.tracks["set", "split"]
    fma.tracks["set", "split"] = "training"
    with pytest.raises(DataError, match="no test tracks"):
        reproduce(fma, tmp_path / "out", sets=["zcr"], models=["lr"])
    fma.tracks["set", "split"] = sides
    fma.tracks["track", "genre_top"] = pd.Categorical(["Rock"] * len(fma.tracks))
    with pytest.raises(DataError, match="two top genres"):
        reproduce(fma, tmp_path / "out", sets=["zcr"], models=["lr"])
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be made"):
        reproduce(fma, tmp_path / "file", sets=["zcr"], models=["lr"])


def test_columns_in_another_order_are_the_same_table(fma: Fma, tmp_path: Path) -> None:
    reordered = read_fma(fma.root.parent)
    reordered._frames["features"] = fma.features.iloc[::-1, ::-1]
    one, other = (
        reproduce(fma, tmp_path / name, sets=["mfcc"], models=["lr", "svm"]).cells
        for fma, name in ((fma, "one"), (reordered, "other"))
    )
    assert [cell.accuracy for cell in one] == [cell.accuracy for cell in other]


def test_markdown_and_plain_text(whole: tuple[Reproduction, Path]) -> None:
    text = markdown(whole[0])
    cell = next(cell for cell in whole[0].cells if cell.path == "single:all:lr")
    text_cell = f"{100 * cell.accuracy:.1f} (61.1, {100 * cell.difference:+.1f})"
    assert f"| all | 518 | {text_cell} |" in text
    assert "| features | columns | lr | knn | svm | mlp |\n|---|---|---|---|---|---|" in text
    assert "| features | columns | lr | svm | mlp |" in text
    assert "Always predicting" in text
    assert "neighbours, since there are no more training tracks" in text
    assert "these are other tracks" in text  # than the published ones
    rows = [line for line in plain_text(whole[0]).splitlines() if line.startswith("all ")]
    assert text_cell in rows[0]


def test_csv(whole: tuple[Reproduction, Path]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table(whole[0]))))
    assert len(rows) == len(whole[0].cells)
    for row, cell in zip(rows, whole[0].cells, strict=True):
        assert float(row["accuracy"]) == cell.accuracy
        assert (row["published"] == "") == (cell.published is None)
        assert int(row["columns"]) == cell.size
    assert float(rows[-1]["hierarchical_f"]) == whole[0].cells[-1].scores["hierarchical_f"]
