"""Jobs of a study: kept when done, never mixed up, and no failure costs the others."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from fake_models import FAKES, made_data

from deepmusic.datasets import Fold
from deepmusic.datasets.folder import FolderDataset
from deepmusic.errors import DataError, RequestError
from deepmusic.studies.averages import PARTS
from deepmusic.studies.data import StudyData
from deepmusic.studies.jobs import (
    Outcome,
    Plan,
    Results,
    StudyConfig,
    average_jobs,
    plan_study,
    pool_averages,
    run_jobs,
    seconds_left,
    smaller_fold,
    work_folder,
)

DATA = made_data()


def plan_of(*models: str, data: StudyData = DATA, seeds: int = 1, **settings: object) -> Plan:
    options: dict[str, object] = {"folds": 3, "sizes": (1.0,)}
    config = StudyConfig(models, seeds=seeds, **(options | settings))  # type: ignore[arg-type]
    return plan_study(data, config, FAKES)


def run(
    plan: Plan, study: Path, data: StudyData = DATA, **options: object
) -> tuple[Results, list[Outcome]]:
    study.mkdir(exist_ok=True)
    results = Results(study / "results.jsonl")
    outcomes = run_jobs(data, plan, study, results, models=FAKES, **options)  # type: ignore[arg-type]
    return results, list(outcomes)


def test_a_result_is_what_the_model_says_of_the_test_tracks(tmp_path: Path) -> None:
    plan = plan_of("logistic", protocol="random")
    results, outcomes = run(plan, tmp_path)
    assert len(outcomes) == 3
    heard: list[str] = []
    for job in plan.jobs:
        result = results.by_mark[job.mark]
        fold = plan.folds[job.fold_mark]
        tested = [DATA.dataset.tracks[place] for place in fold.test]
        assert list(result["probabilities"]) == [track.path for track in tested]
        assert result["truth"] == [track.genre for track in tested]
        expected = FAKES["logistic"].fit(DATA, fold, 0, tmp_path).predict_proba(DATA, fold.test)
        rows = np.array(list(result["probabilities"].values()))
        np.testing.assert_allclose(rows, expected, atol=1e-6)
        right = rows.argmax(axis=1) == DATA.labels[list(fold.test)]
        assert result["correct"] == right.sum()
        assert result["trained_on"] == len(fold.train) + len(fold.validation)
        assert result["peak_memory_bytes"] > 10_000_000
        heard += result["probabilities"]
    assert sorted(heard) == sorted(track.path for track in DATA.dataset.tracks)


def test_what_is_done_is_not_done_again_and_a_cut_line_only_costs_itself(tmp_path: Path) -> None:
    plan = plan_of("logistic", "majority", protocol="random")
    run(plan, tmp_path)
    path = tmp_path / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert run(plan, tmp_path)[1] == []
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    again, outcomes = run(plan, tmp_path)
    assert len(outcomes) == 1
    assert len(again.by_mark) == len(plan.jobs)
    assert set(Results(path).by_mark) == {job.mark for job in plan.jobs}


def test_lines_of_other_hands_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('nonsense\n[1, 2]\n{"mark": "x"}\n{"mark": 3, "truth": null}\n\xff\n')
    assert Results(path).by_mark == {}


@pytest.mark.parametrize("change", ["content", "columns", "genre"])
def test_no_result_of_other_data_counts(change: str) -> None:
    data, first = DATA, DATA.dataset.tracks[0]
    assert DATA.columns is not None
    if change == "columns":
        data = replace(DATA, columns=DATA.columns + 1)
    else:
        field = "content_hash" if change == "content" else "genre"
        tracks = (replace(first, **{field: "rock"}), *DATA.dataset.tracks[1:])
        data = replace(DATA, dataset=replace(DATA.dataset, tracks=tracks))
    before = [job.mark for job in plan_of("logistic", seeds=2, protocol="random").jobs]
    after = [job.mark for job in plan_of("logistic", data=data, seeds=2, protocol="random").jobs]
    assert len(set(before)) == len(before) == 6
    assert not set(before) & set(after)


def test_results_of_other_models_stay() -> None:
    before = {job.mark for job in plan_of("logistic", protocol="random").jobs}
    after = {job.mark for job in plan_of("logistic", "majority", protocol="random").jobs}
    assert before < after
    assert len(after) == 6


def test_columns_do_not_matter_to_networks() -> None:
    assert DATA.columns is not None
    other = replace(DATA, columns=DATA.columns + 1)
    same = [plan_of("cnn", data=data, protocol="random").jobs for data in (DATA, other)]
    assert same[0] == same[1]


def test_failures_are_sentences_and_the_others_go_on(tmp_path: Path) -> None:
    plan = plan_of("few", "broken", "nan", "logistic", protocol="random")
    results, outcomes = run(plan, tmp_path)
    said = {outcome.job.model: outcome.error for outcome in outcomes}
    assert said["few"] == "There are too few tracks of 'jazz' for this model."
    assert said["broken"] == "Unexpected ZeroDivisionError: a bug of two lines."
    assert "negative or no numbers" in said["nan"]
    assert said["logistic"] == ""
    assert {result["model"] for result in results.by_mark.values()} == {"logistic"}


def test_workers_give_the_same(tmp_path: Path) -> None:
    plan = plan_of("logistic", protocol="random", folds=2)
    one, _ = run(plan, tmp_path / "one")
    two, _ = run(plan, tmp_path / "two", workers=2)
    for mark, result in one.by_mark.items():
        assert two.by_mark[mark]["probabilities"] == result["probabilities"]


@pytest.mark.slow
def test_a_kill_loses_only_the_jobs_in_flight(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from dataclasses import replace
import time
import fake_models
from deepmusic.studies.jobs import Results, StudyConfig, plan_study, run_jobs

def slow(*arguments):
    time.sleep(0.2)
    return fake_models.fit_mean(*arguments)

models = {{"logistic": fake_models.model("logistic", slow)}}
data = fake_models.made_data()
plan = plan_study(data, StudyConfig(("logistic",), protocol="random", folds=8), models)
study = Path({str(tmp_path)!r})
for _ in run_jobs(data, plan, study, Results(study / "results.jsonl"), models=models):
    pass
"""
    path = tmp_path / "results.jsonl"
    process = subprocess.Popen([sys.executable, "-c", script])
    while not (path.exists() and path.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = path.read_bytes().count(b"\n")
    assert before < 40
    plan = plan_study(DATA, StudyConfig(("logistic",), protocol="random", folds=8), FAKES)
    _, outcomes = run(plan, tmp_path)
    assert len(outcomes) == len(plan.jobs) - before
    assert len(Results(path).by_mark) == len(plan.jobs)


@pytest.mark.slow
def test_a_job_that_kills_its_worker_costs_only_itself(tmp_path: Path) -> None:
    _, outcomes = run(
        plan_of("logistic", "deadly", protocol="random", folds=2), tmp_path, workers=2
    )
    assert {o.job.model: o.error.partition(";")[0] for o in outcomes} == {
        "logistic": "",
        "deadly": "It twice ended the process that worked on it",
    }


def test_no_job_is_begun_after_the_time_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of("logistic", protocol="random")
    clock = iter(range(0, 100_000, 100))
    monkeypatch.setattr(time, "time", lambda: next(clock))
    _, outcomes = run(plan, tmp_path, seconds=150)
    assert [outcome.is_skipped for outcome in outcomes] == [False, True, True]
    monkeypatch.undo()
    assert len(run(plan, tmp_path)[1]) == 2


def test_histories_stay_checkpoints_go_and_shown_capsules_stay_whole(tmp_path: Path) -> None:
    plan = plan_of("cnn", "capsules", seeds=2, protocol="random")
    run(plan, tmp_path)
    for job in plan.jobs:
        left = {p.name for p in work_folder(tmp_path, job).rglob("*") if p.is_file()}
        if job.model == "capsules" and job.seed == 0:
            assert left == {"history.jsonl", "weights.bin", "model.json", "config.json"}
        else:
            assert left == {"history.jsonl", "config.json"}


def test_quick_models_also_get_leaking_folds_and_parts_of_the_tracks() -> None:
    plan = plan_of("majority", "logistic", "cnn", sizes=(0.5, 1.0), seeds=2)
    extras = [job for job in plan.jobs if job.protocol == "random" or job.size < 1]
    assert {job.model for job in extras} == {"logistic"}
    assert sum(job.protocol == "random" for job in extras) == 6
    assert sum(job.size == 0.5 for job in extras) == 6
    assert len(plan.main()) == 3 * 6
    # quick ones first, the extras of a kind after the models of that kind
    assert [job.kind for job in plan.jobs] == ["features"] * 24 + ["segments"] * 6


def test_an_official_split_is_one_fold_of_every_seed() -> None:
    fold = Fold(tuple(range(40)), tuple(range(40, 50)), tuple(range(50, 60)))
    config = StudyConfig(("logistic",), protocol="official", seeds=2, sizes=(1.0,))
    plan = plan_study(DATA, config, FAKES, official=lambda dataset: fold)
    assert [(job.seed, job.fold) for job in plan.jobs] == [(0, 0), (1, 0)]
    assert set(plan.folds.values()) == {fold}
    with pytest.raises(DataError, match="no official split"):
        plan_study(DATA, config, FAKES)


def test_too_few_artists_are_one_sentence() -> None:
    dataset = DATA.dataset
    alone = tuple(
        replace(track, artist="jazz alone") if track.genre == "jazz" else track
        for track in dataset.tracks
    )
    with pytest.raises(DataError, match=r"'jazz' has 24 tracks by 1 artist; .* 3 folds need"):
        plan_of("logistic", data=replace(DATA, dataset=replace(dataset, tracks=alone)))
    few = FolderDataset(
        dataset.root,
        tuple(t for t in dataset.tracks if t.genre != "pop" or t.path.startswith("pop/0-0")),
        dataset.genres,
    )
    with pytest.raises(DataError, match="'pop' has 1 track by 1 artist"):
        plan_of("logistic", data=StudyData(few))


@pytest.mark.parametrize(
    "bad", [{"folds": 1}, {"seeds": 0}, {"sizes": (0.0,)}, {"sizes": (1.5,)}, {"models": ()}]
)
def test_impossible_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        StudyConfig(**({"models": ("logistic",)} | bad))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(
    groups=st.lists(st.integers(0, 12), min_size=12, max_size=80),
    size=st.floats(0.05, 1.0),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_a_smaller_fold_keeps_whole_groups_every_genre_and_the_test(
    groups: list[int], size: float, seed: int, data: st.DataObject
) -> None:
    labels = data.draw(
        st.lists(st.integers(0, 2), min_size=len(groups), max_size=len(groups)), "labels"
    )
    # the group says where a track is, as in a grouped fold
    train = tuple(i for i, g in enumerate(groups) if g % 3 == 0)
    validation = tuple(i for i, g in enumerate(groups) if g % 3 == 1)
    test = tuple(i for i, g in enumerate(groups) if g % 3 == 2)
    fold = Fold(train, validation, test)
    small = smaller_fold(fold, groups, labels, size, seed=seed)
    larger = smaller_fold(fold, groups, labels, min(1.0, size * 1.5), seed=seed)
    assert small.test == test
    for kept, more, whole in (
        (small.train, larger.train, train),
        (small.validation, larger.validation, validation),
    ):
        assert set(kept) <= set(whole)
        members = {groups[i] for i in kept}
        assert set(kept) == {i for i in whole if groups[i] in members}
        assert {labels[i] for i in kept} == {labels[i] for i in whole}
        assert set(kept) <= set(more)
    assert smaller_fold(fold, groups, labels, size, seed=seed) == small


def test_half_the_tracks_are_about_half_and_a_part_of_more() -> None:
    plan = plan_of("logistic", seeds=2, sizes=(0.25, 0.5, 1.0))
    learned: dict[tuple[int, int], dict[float, set[int]]] = {}
    for job in plan.jobs:
        if job.protocol == "grouped":
            fold = plan.folds[job.fold_mark]
            sizes = learned.setdefault((job.seed, job.fold), {})
            sizes[job.size] = {*fold.train, *fold.validation}
    for sizes in learned.values():
        assert sizes[0.25] < sizes[0.5] < sizes[1.0]
        assert 0.45 <= len(sizes[0.5]) / len(sizes[1.0]) <= 0.7


def test_averages_are_pooled_of_the_parts_and_only_where_all_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "average-features", ("logistic", "svc-rbf"))
    plan = plan_of("logistic", "svc-rbf", averages=("average-features",), protocol="random")
    results, _ = run(plan, tmp_path)
    gone = plan.jobs[0]
    del results.by_mark[gone.mark]
    pool_averages(plan, results)
    jobs = {job.fold: (job, parts) for job, parts in average_jobs(plan)}
    assert len(jobs) == 3
    for fold, (job, parts) in jobs.items():
        if fold == gone.fold:
            assert job.mark not in results.by_mark
            continue
        pooled = results.by_mark[job.mark]
        one, other = (results.by_mark[part.mark] for part in parts)
        for path, row in pooled["probabilities"].items():
            product = np.sqrt(
                np.array(one["probabilities"][path]).clip(1e-6)
                * np.array(other["probabilities"][path]).clip(1e-6)
            )
            np.testing.assert_allclose(row, product / product.sum(), atol=2e-6)
        assert pooled["model"] == "average-features"
        assert pooled["parameters"] == one["parameters"] + other["parameters"]
        assert pooled["seconds"] == pytest.approx(one["seconds"] + other["seconds"], abs=1e-4)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    pool_averages(plan, results)
    assert (tmp_path / "results.jsonl").read_text().splitlines() == lines
    assert sum(json.loads(line)["model"] == "average-features" for line in lines) == 2


def test_the_time_left_is_that_of_the_models_that_are_left() -> None:
    jobs = plan_of("logistic", "cnn", protocol="random").jobs
    done = [{"model": "logistic", "seconds": 2.0}, {"model": "logistic", "seconds": 4.0}]
    assert seconds_left(jobs, done) == (9.0, False)
    done.append({"model": "cnn", "seconds": 30.0})
    assert seconds_left(jobs, done, workers=3) == (33.0, True)
