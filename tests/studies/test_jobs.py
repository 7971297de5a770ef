"""Jobs of a study: stored when done, never mixed up, and no failure stops the others."""

from __future__ import annotations

import subprocess
import sys
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
from deepmusic.studies.data import StudyData
from deepmusic.studies.ensembles import PARTS
from deepmusic.studies.jobs import (
    JobRecord,
    JobResult,
    open_results,
    pool_ensembles,
    run_jobs,
    study_results,
    work_folder,
)
from deepmusic.studies.plan import StudyConfig, StudyPlan, plan_study, smaller_fold

DATA = made_data()


def plan_of(*models: str, data: StudyData = DATA, seeds: int = 1, **settings: object) -> StudyPlan:
    options: dict[str, object] = {"folds": 3, "sizes": (1.0,)}
    config = StudyConfig(models, seeds=seeds, **(options | settings))  # type: ignore[arg-type]
    return plan_study(data, config, FAKES)


def run(
    plan: StudyPlan, study: Path, data: StudyData = DATA, **options: object
) -> tuple[dict[str, JobRecord], list[JobResult]]:
    study.mkdir(exist_ok=True)
    with open_results(study) as store:
        done = list(run_jobs(data, plan, study, store, **options))  # type: ignore[arg-type]
        return study_results(store), done


def test_a_result_is_the_prediction_for_the_test_tracks(tmp_path: Path) -> None:
    plan = plan_of("logistic", protocol="random")
    results, done = run(plan, tmp_path)
    assert len(done) == 3
    paths: list[str] = []
    for job in plan.jobs:
        record, fold = results[job.key], plan.folds[job.fold_key]
        tested = [DATA.dataset.tracks[index] for index in fold.test]
        assert list(record["probabilities"]) == [track.path for track in tested]
        assert record["truth"] == [track.genre for track in tested]
        expected = FAKES["logistic"].fit(DATA, fold, 0, tmp_path).predict_proba(DATA, fold.test)
        rows = np.array(list(record["probabilities"].values()))
        np.testing.assert_allclose(rows, expected, atol=1e-6)
        right = rows.argmax(axis=1) == DATA.labels[list(fold.test)]
        assert record["correct"] == right.sum()
        assert record["trained_on"] == len(fold.train) + len(fold.validation)
        assert record["peak_memory_bytes"] > 10_000_000
        paths += record["probabilities"]
    assert sorted(paths) == sorted(track.path for track in DATA.dataset.tracks)


def test_finished_jobs_are_not_repeated(tmp_path: Path) -> None:
    run(plan_of("logistic", protocol="random"), tmp_path)
    plan = plan_of("logistic", "majority", protocol="random")
    results, done = run(plan, tmp_path)
    assert {plan.by_key[result.path].model for result in done} == {"majority"}
    assert set(results) == {job.key for job in plan.jobs}


@pytest.mark.parametrize("change", ["content", "columns", "genre"])
def test_results_of_other_data_are_ignored(change: str) -> None:
    data, first = DATA, DATA.dataset.tracks[0]
    assert DATA.columns is not None
    if change == "columns":
        data = replace(DATA, columns=DATA.columns + 1)
        networks = [plan_of("cnn", data=d, protocol="random").jobs for d in (DATA, data)]
        assert networks[0] == networks[1]  # networks do not read columns
    else:
        field = "content_hash" if change == "content" else "genre"
        tracks = (replace(first, **{field: "rock"}), *DATA.dataset.tracks[1:])
        data = replace(DATA, dataset=replace(DATA.dataset, tracks=tracks))
    before = [job.key for job in plan_of("logistic", seeds=2, protocol="random").jobs]
    after = [job.key for job in plan_of("logistic", data=data, seeds=2, protocol="random").jobs]
    assert len(set(before)) == len(before) == 6
    assert not set(before) & set(after)


def test_failures_are_sentences_and_the_others_go_on(tmp_path: Path) -> None:
    plan = plan_of("few", "broken", "nan", "logistic", protocol="random")
    results, done = run(plan, tmp_path)
    errors = {plan.by_key[result.path].model: result.error for result in done}
    assert errors["few"] == "There are too few tracks of 'jazz' for this model."
    assert errors["broken"] == "Unexpected ZeroDivisionError: a bug of two lines."
    assert "negative or not finite" in errors["nan"]
    assert errors["logistic"] == ""
    assert {record["model"] for record in results.values()} == {"logistic"}


@pytest.mark.slow
def test_workers_give_the_same(tmp_path: Path) -> None:
    plan = plan_of("logistic", protocol="random", folds=2)
    one, _ = run(plan, tmp_path / "one")
    two, _ = run(plan, tmp_path / "two", workers=2)
    for key, record in one.items():
        assert two[key]["probabilities"] == record["probabilities"]
    assert {path.name for path in (tmp_path / "two").iterdir()} == {"results.db"}


@pytest.mark.slow
def test_a_kill_loses_only_the_jobs_in_flight(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import fake_models
from deepmusic.studies.jobs import open_results, run_jobs
from deepmusic.studies.plan import StudyConfig, plan_study

def slow(*arguments):
    time.sleep(0.1)
    return fake_models.fit_mean(*arguments)

models = {{"logistic": fake_models.model("logistic", slow)}}
data = fake_models.made_data()
plan = plan_study(data, StudyConfig(("logistic",), protocol="random", folds=8), models)
study = Path({str(tmp_path)!r})
with open_results(study) as store:
    for _ in run_jobs(data, plan, study, store):
        print("done", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline() == b"done\n"
    process.kill()
    process.communicate()
    with open_results(tmp_path) as store:
        before = len(store)
    assert 3 <= before < 40
    plan = plan_study(DATA, StudyConfig(("logistic",), protocol="random", folds=8), FAKES)
    results, done = run(plan, tmp_path)
    assert len(done) == len(plan.jobs) - before
    assert len(results) == len(plan.jobs)


@pytest.mark.slow
def test_a_job_that_crashes_its_worker_costs_only_itself(tmp_path: Path) -> None:
    plan = plan_of("logistic", "deadly", protocol="random", folds=2)
    _, done = run(plan, tmp_path, workers=2)
    assert {(plan.by_key[r.path].model, r.error.partition(";")[0]) for r in done} == {
        ("logistic", ""),
        ("deadly", "It crashed its worker process twice"),
    }


def test_no_job_begins_after_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of("logistic", protocol="random")
    clock = iter(range(0, 100_000, 100))
    monkeypatch.setattr("deepmusic.studies.jobs.time.time", lambda: next(clock))
    _, done = run(plan, tmp_path, seconds=150)
    assert [result.is_skipped for result in done] == [False, True, True]
    monkeypatch.undo()
    assert len(run(plan, tmp_path)[1]) == 2


def test_histories_stay_checkpoints_go_and_explained_capsules_stay_whole(tmp_path: Path) -> None:
    plan = plan_of("cnn", "capsules", seeds=2, protocol="random")
    run(plan, tmp_path)
    for job in plan.jobs:
        left = {p.name for p in work_folder(tmp_path, job).rglob("*") if p.is_file()}
        wanted = {"history.jsonl", "config.json"}
        if job.model == "capsules" and job.seed == 0:
            wanted |= {"weights.bin", "model.json"}
        assert left == wanted


@pytest.mark.slow
def test_quick_models_also_get_leaking_folds_and_parts_of_the_tracks() -> None:
    plan = plan_of("majority", "logistic", "cnn", sizes=(0.25, 0.5, 1.0), seeds=2)
    extras = [job for job in plan.jobs if not plan.is_main(job)]
    assert {job.model for job in extras} == {"logistic"}
    assert sum(job.protocol == "random" for job in extras) == 6
    assert len(plan.main_jobs()) == 3 * 6
    # quick ones first, the extras of a kind after the models of that kind
    assert [job.kind for job in plan.jobs] == ["features"] * 30 + ["segments"] * 6
    trained: dict[tuple[int, int], dict[float, set[int]]] = {}
    for job in plan.jobs:
        if job.protocol == "grouped" and job.model == "logistic":
            fold = plan.folds[job.fold_key]
            sizes = trained.setdefault((job.seed, job.fold), {})
            sizes[job.size] = {*fold.train, *fold.validation}
    for sizes in trained.values():
        assert sizes[0.25] < sizes[0.5] < sizes[1.0]
        assert 0.45 <= len(sizes[0.5]) / len(sizes[1.0]) <= 0.7


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
    few = FolderDataset(
        dataset.root,
        tuple(t for t in dataset.tracks if t.genre != "pop" or t.path.startswith("pop/0-0")),
        dataset.genres,
    )
    with pytest.raises(DataError, match="'pop' has 1 track in 1 group "):
        plan_of("logistic", data=StudyData(few))


@pytest.mark.parametrize(
    "bad", [{"folds": 1}, {"seeds": 0}, {"sizes": (0.0,)}, {"sizes": (1.5,)}, {"models": ()}]
)
def test_impossible_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        StudyConfig(**({"models": ("logistic",)} | bad))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
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
    # the group decides the side of a track, as in a grouped fold
    fold = Fold(*(tuple(i for i, g in enumerate(groups) if g % 3 == side) for side in range(3)))
    small = smaller_fold(fold, groups, labels, size, seed=seed)
    larger = smaller_fold(fold, groups, labels, min(1.0, size * 1.5), seed=seed)
    assert small.test == fold.test
    for kept, more, whole in (
        (small.train, larger.train, fold.train),
        (small.validation, larger.validation, fold.validation),
    ):
        members = {groups[i] for i in kept}
        assert set(kept) == {i for i in whole if groups[i] in members}
        assert {labels[i] for i in kept} == {labels[i] for i in whole}
        assert set(kept) <= set(more)


def test_ensembles_are_pooled_where_all_parts_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "average-features", ("logistic", "svc-rbf"))
    plan = plan_of("logistic", "svc-rbf", ensembles=("average-features",), protocol="random")
    run(plan, tmp_path)
    gone = plan.jobs[0]
    with open_results(tmp_path) as store:
        store.delete(gone.key)
        pool_ensembles(plan, store)
        pool_ensembles(plan, store)  # nothing is left to do
        results = study_results(store)
    assert sum(record["model"] == "average-features" for record in results.values()) == 2
    for job, parts in plan.ensemble_jobs():
        if job.fold == gone.fold:
            assert job.key not in results
            continue
        pooled = results[job.key]
        one, other = (results[part.key] for part in parts)
        for path, row in pooled["probabilities"].items():
            product = np.sqrt(
                np.array(one["probabilities"][path]).clip(1e-6)
                * np.array(other["probabilities"][path]).clip(1e-6)
            )
            np.testing.assert_allclose(row, product / product.sum(), atol=2e-6)
        assert pooled["parameters"] == one["parameters"] + other["parameters"]
        assert pooled["seconds"] == pytest.approx(one["seconds"] + other["seconds"], abs=1e-4)
