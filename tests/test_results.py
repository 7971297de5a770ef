"""The page of results is made from what was measured, and by nobody's hand."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

ROOT = Path(__file__).resolve().parents[1]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "write_results", ROOT / "scripts" / "write_results.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RESULTS = script()


def result(model: str, *, fold: int = 0, mark: str = "a", threshold: float = 0.6) -> dict[str, Any]:
    rows = {"a.mp3": [0.9, 0.1], "b.mp3": [0.55, 0.45], "c.mp3": [0.7, 0.3], "d.mp3": [0.2, 0.8]}
    return {
        "model": model,
        "seed": 0,
        "fold": fold,
        "fold_mark": mark,
        "correct": 3,
        "tracks": 4,
        "trained_on": 16,
        "seconds": 90.0,
        "parameters": 7,
        "threshold": threshold,
        "genres": ["rock", "folk"],
        "truth": ["rock", "rock", "folk", "folk"],
        "probabilities": rows,
    }


def write(path: Path, results: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in results), encoding="utf-8")
    return path


@pytest.mark.slow
def test_the_page_is_what_the_script_makes_of_the_measurements() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    again = "run scripts/write_results.py"
    assert page == RESULTS.page(ROOT / "docs" / "measured"), again
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == RESULTS.with_summary(readme, RESULTS.summary(ROOT / "docs" / "measured")), (
        again
    )


def test_a_page_without_measurements_says_so(tmp_path: Path) -> None:
    assert RESULTS.page(tmp_path).count("Not measured yet.") == 6
    assert RESULTS.summary(tmp_path) == "Not measured yet.\n"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_rounding_keeps_the_likeliest(row: list[float]) -> None:
    rounded = RESULTS.short(row)
    assert int(np.argmax(rounded)) == int(np.argmax(row))
    assert np.abs(np.array(rounded) - row).max() <= 0.0015 + 1e-9


def test_results_are_brought_together(tmp_path: Path) -> None:
    first = write(tmp_path / "1.jsonl", [result("cnn"), result("svc", threshold=0.5)])
    second = write(tmp_path / "2.jsonl", [result("cnn", threshold=0.8), result("cnn", fold=1)])
    RESULTS.take_over([first, second], tmp_path / "genres.jsonl")
    merged = RESULTS.read_lines(tmp_path / "genres.jsonl")
    assert [(r["model"], r["fold"], r["threshold"]) for r in merged] == [
        ("cnn", 0, 0.8),
        ("svc", 0, 0.5),
        ("cnn", 1, 0.6),
    ]
    assert merged[0]["probabilities"] == result("cnn")["probabilities"]


def test_other_folds_are_not_compared() -> None:
    with pytest.raises(SystemExit, match="svc, seed 0"):
        RESULTS.check_folds([result("cnn"), result("svc", mark="b")])


def test_what_silence_costs_and_brings() -> None:
    # at 0.6 the second track is unsure, and of the other three one is wrong
    assert RESULTS.claims([result("cnn")]) == (0.75, 2 / 3)
    # at 0.85 only the first is claimed; over both folds 4 of 8, 3 of them right
    both = [result("cnn"), result("cnn", fold=1, threshold=0.85)]
    assert RESULTS.claims(both) == (0.5, 0.75)
    assert RESULTS.claims([result("cnn", threshold=1.0)]) == (0.0, 0.0)


def test_a_missed_target_and_a_busy_machine_are_stated(tmp_path: Path) -> None:
    figures = [
        {"what": "fast", "value": 2.9, "unit": "s", "target": "at most 3", "met": True},
        {"what": "slow", "value": 3.1, "unit": "s", "target": "at most 3", "met": False},
    ]
    record = {
        "model": "0" * 64,
        "is_shipped": False,
        "machine": "a machine",
        "parts": {"start": {"figures": figures, "load_before": 1.5}},
    }
    (tmp_path / "classify.json").write_text(json.dumps(record), encoding="utf-8")
    page = RESULTS.page(tmp_path)
    assert "| fast | 2.9 s | at most 3 | met |" in page
    assert "| slow | 3.1 s | at most 3 | **missed** |" in page
    assert "load `start` 1.5" in page
    assert "not the shipped model" in page


def test_targets_compare_the_same_folds(tmp_path: Path) -> None:
    worse = result("svc", fold=1) | {"correct": 0}
    write(tmp_path / "genres.jsonl", [result("capsules"), result("svc"), worse])
    page = RESULTS.page(tmp_path)
    assert "| accuracy of the small model | 75.0 % | at least 68 % | met |" in page
    assert "| accuracy against `svc`, same folds | +0.0 points | above | **missed** |" in page
    assert "`capsules` was run on 1 of 2 folds only" in page


def test_the_study_is_told_with_what_was_not_run(tmp_path: Path) -> None:
    table = tmp_path / "study.csv"
    head = (
        "model,protocol,jobs,wanted,accuracy,accuracy_sd_seeds,macro_f1,pop_rock_merged,reference,"
        "difference,difference_low,difference_high,calibration_error,parameters,training_s\n"
    )
    table.write_text(
        head
        + "capsules,grouped,25,25,0.701,0.016,0.695,0.884,capsules,,,,0.069,857392,69.7\n"
        + "logistic,grouped,25,25,0.651,0.01,0.653,0.836,capsules,-0.05,-0.15,0.05,0.07,2076,0.4\n"
        + "ear-svc,grouped,25,25,0.7,0.01,0.7,0.9,ear-linear,-0.01,-0.02,0.01,0.1,105000,2.8\n"
        + "lstm,grouped,5,25,0.4,,0.38,0.6,capsules,-0.3,,,0.1,65020,14\n"
        + '"logistic",random,,,0.714,,,,"logistic, grouped",0.06,0.026,0.093,,,\n'
    )
    text = RESULTS.study_section(table)
    assert (
        "| logistic | 65.1 | 1.0 | 65.3 | 83.6 | -5.0 [-15.0, +5.0] | 7.0 | 2,076 | 0.4 | 25 of 25"
        in text
    )
    assert "| lstm | 40.0 |  | 38.0 | 60.0 | -30.0 | 10.0 | 65,020 | 14.0 | 5 of 25 |" in text
    assert "| logistic | 71.4 | +6.0 [+2.6, +9.3] |" in text
    assert "difference to capsules |" in text
    assert "| -1.0 [-2.0, +1.0] to ear-linear |" in text  # of a run without capsules
    assert RESULTS.study_section(tmp_path / "none.csv") == RESULTS.MISSING


def test_the_targets_of_the_study_are_of_whole_models_only(tmp_path: Path) -> None:
    table = tmp_path / "study.csv"
    table.write_text(
        "model,protocol,jobs,wanted,accuracy\n"
        "capsules,grouped,25,25,0.701\n"
        "hybrid-capsules-svcs,grouped,25,25,0.73\n"
        "logistic,grouped,25,25,0.74\n"
        "lstm,grouped,5,25,0.9\n"
        "capsules-em,grouped,25,25,0.61\n"
        "cnn,grouped,25,25,0.6\n"
        '"logistic",random,,,0.8\n'
    )
    cost = {"whole": {"minutes": 11.0, "jobs": 475}, "workers": {"times": 1.8}}
    text = RESULTS.study_targets(table, cost)
    assert "| `capsules`, one file | 70.1 % | aim: 72 % | **missed** |" in text
    assert (
        "| best with capsules, `hybrid-capsules-svcs` | 73.0 % | the first | **missed** |" in text
    )
    assert "| `capsules-em` against `cnn` of equal size | +1.0 points | above | met |" in text
    assert "475 jobs, two workers | 11.0 min | at most 10 min | **missed** |" in text
    assert "| two workers against one | 1.80 times | at least 1.7 | met |" in text
    assert RESULTS.study_targets(tmp_path / "none.csv", {}) == ""
