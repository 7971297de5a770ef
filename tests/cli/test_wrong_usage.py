"""Wrong usage of any command: a sentence on standard error, exit status 2, and nothing is done."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from training_runs import Call, write_folder

from deepmusic import extras

WRONG = [
    ("no-such-command", "No such command"),
    ("classify --no-such-option", "No such option"),
    ("classify --timeline", "name at least one file"),
    ("classify --dry-run x", "--dry-run is about tags"),
    ("classify --overwrite-tags x", "needs --write-tags"),
    ("classify --timeline --format csv x", "CSV cannot hold"),
    ("classify --tags --format csv x", "CSV cannot hold --tags"),
    ("classify --jobs 0 x", "0 is not in the range"),
    ("classify --max-minutes 0 x", "0.0 is not in the range"),
    ("classify --undo-tags log --write-tags x", "two different runs"),
    ("classify x --device abacus", "there is no device 'abacus'"),
    ("classify x --results gone/r.db", "the folder of gone/r.db does not exist; make it first"),
    ("classify x --results .", ". is a folder; name a file"),
    ("classify x --write-tags --tag-log gone/log.db", "the folder of gone/log.db does not exist"),
    ("generate -o gone/tune.mid", "the folder of gone/tune does not exist; make it first"),
    ("generate --style polka", "no style 'polka'"),
    ("data check . -o gone/report.json", "the folder of gone/report.json does not exist"),
    ("data check . --cache .", "is a folder; name a file"),
    ("data split . --cache gone/prints", "the folder of gone/prints does not exist"),
    ("data stats . --decode --cache gone/scans", "the folder of gone/scans does not exist"),
    ("features extract . -o gone/table.parquet", "the folder of gone/table.parquet does not"),
    ("features extract . more --split", "--split takes one PATH"),
    ("features show song.wav -o gone/picture.png", "the folder of gone/picture.png does not"),
    ("train classifier", "Missing option '--data'"),
    ("train classifier --data . --test 0.9", "0.9 is not in the range"),
    ("train classifier --data . --networks 0", "0 is not in the range"),
    ("train classifier --data . --networks 2", "--networks is for whole networks; add --from-sc"),
    ("train classifier --data . --no-compile", "--compile is for whole networks"),
    ("train classifier --data . --from-scratch --min-tracks 2", "--min-tracks is for"),
    ("train classifier --data . --device abacus", "'abacus' is not one of"),
    ("train composer --data . --learning-rate nan", "'nan' is not a finite number"),
    ("evaluate", "Missing argument"),
    ("evaluate run --all", "need --data"),
    ("benchmark", "Missing argument"),
    ("benchmark jsb", "Missing option '--data'"),
    ("benchmark pop909 --data .", "'pop909' is not one of"),  # nobody measured this data set
    ("benchmark jsb --data . --seed -1", "-1 is not in the range"),
    ("benchmark jsb nottingham --data .", "unexpected extra argument"),
    ("data build . -o out --start end", "not middle, random or a number"),
    ("data build . -o out --format aac", "'aac' is not one of"),
    ("data build . -o out --workers 0", "0 is not in the range"),
    ("data build . -o out --seconds x", "'x' is not a valid float"),
    ("data check . -o report.txt", "ends in .json, .csv or .parquet"),
    ("data check . --workers 2 --dask tcp://x:1", "--workers is for this machine"),
    ("data check . more --dataset", "A data set is one PATH"),
    ("data download jsb", "Missing option '--to'"),
    ("data download --to x", "Missing argument"),
    ("data download three --to x", "no data set called 'three'; choose from fma-meta"),
    ("data download jsb --to x --from ftp://host/a", "give an http(s) address"),
    ("data download jsb gtzan --to x --from a.zip", "one file for several"),
    ("data download jsb gtzan --to x --from https://h/a", "one file for several"),
    ("data get fma --to x", "Missing option '--track'"),
    ("data get fma --track 2", "Missing option '--to'"),
    ("data get gtzan --track 2 --to x", "'gtzan' is not"),
    ("data get fma --track 1000000 --to x", "not in the range"),
    ("data get fma --track 2 --to x --from ftp://host/a", "give an http(s)"),
    ("data split . --folds 3 --test 0.2", "omit --test"),
    ("data split . --protocol official --seed 1", "official split is fixed"),
    ("data split . --protocol official --folds 3", "official split is fixed"),
    ("data split . --folds 1", "1 is not in the range"),
    ("data split . -o .", "is a folder"),
    ("data split . -o gone/s.json", "does not exist; make it first"),
    ("data stats . --cache x", "belongs to --decode"),
    ("data stats . --as fma --decode", "counted from its tables"),
    ("data stats . --format xml", "'xml' is not one of"),
    ("features check a", "Missing argument"),
    ("features check a b --tolerance -1", "not in the range"),
    ("features check a b --tolerance nan", "not a finite number"),
    ("features extract . --recipe fmaa", "no recipe 'fmaa'; choose one of fma, fma-librosa"),
    ("features extract . --dask tcp://x:1 --workers 2", "--workers is for this machine"),
    ("features show song.wav -o picture.jpg", "is a PNG file"),
    ("features show song.wav -o .", "is a PNG file"),
    ("features show song.wav --from inf", "not a finite number"),
    ("features show song.wav --seconds 0", "not in the range"),
    ("features show song.wav --recipe gtzan", "'gtzan' is not one of"),
    ("study fma-baselines --data . --subset huge", "'huge' is not one of"),
    ("study fma-baselines --data . --workers 2 --dask tcp://x:1", "choose one"),
    ("study genres --data . --models polka", "no model 'polka'"),
    ("study genres --data . --models ,", "at least one model"),
    ("study genres --data . --sizes half", "not a list of shares"),
    ("study genres --data . --sizes 2", "above 0 to 1"),
    ("study genres --data . --protocol official --folds 2", "omit --folds"),
]


NO_FOLDER = [
    *("classify x --timeline-picture F", "classify x --explain F/below", "data build . -o F"),
    *(
        "data stats . --pictures F",
        "data download jsb --to F/below",
        "data get fma --track 2 --to F",
    ),
    *("train classifier --data . --out F", "train composer --data . --out F/run"),
    *("train baseline --data . --out F", "train classifier --data . --out run --cache F"),
    *("study genres --data . --out F", "study genres --data . --cache F"),
    "study fma-baselines --data . --out F",
]


@pytest.mark.parametrize("command", NO_FOLDER)
def test_a_file_is_no_folder_for_results(
    command: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("F").write_text("mine")
    done = call(*shlex.split(command))
    assert done.status == 2, done.error
    assert "is a file; name a folder" in " ".join(done.error.split())
    assert Path("F").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["F"]


def test_notation_without_its_library_is_refused_before_a_tune_is_composed(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "partitura" else name)
    done = call("generate", "--musicxml")
    assert (done.status, done.output) == (2, "")
    assert "This needs partitura" in done.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command",
    [
        "train classifier --from-scratch --epochs 1 --out run",
        "train classifier --from-scratch --test 0 --out run",
        "train baseline --out run",
        "study genres --models knn",
    ],
)
def test_a_genre_of_one_track_is_refused_before_tracks_are_decoded(
    command: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    music = write_folder(tmp_path / "music", artists=6, seconds=0.5, each=1)
    (music / "polka").mkdir()
    first = next(music.glob("*/0.wav"))
    (music / "polka" / "only.wav").write_bytes(first.read_bytes()[:-64])  # no copy
    with open(music / "tracks.csv", "a") as table:
        table.write("polka/only.wav,polka,Frankie,\n")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a track is decoded")

    monkeypatch.setattr("deepmusic.studies.data._analyze", refuse)
    monkeypatch.setattr("deepmusic.classifier.data.SpectrogramStore.fill", refuse)
    done = call(*shlex.split(command), "--data", "music")
    assert done.status == 1
    assert "'polka' has 1 track" in done.error


@pytest.mark.parametrize(("command", "message"), WRONG, ids=[command for command, _ in WRONG])
def test_wrong_usage_is_refused_before_anything_is_done(
    command: str, message: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*shlex.split(command))
    assert (done.status, done.output) == (2, ""), done.error
    assert message in " ".join(done.error.split())
    assert "Traceback" not in done.error
    assert not list(tmp_path.iterdir())
