"""The report of a study: figures against sums by hand, and pages that hold what they name."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_models import FAKES, made_data

from deepmusic.classifier.evaluation import calibration_error
from deepmusic.datasets import Fold
from deepmusic.store import Store
from deepmusic.studies.comparison import Difference, predictions
from deepmusic.studies.data import StudyData
from deepmusic.studies.ensembles import PARTS
from deepmusic.studies.jobs import (
    JobRecord,
    open_results,
    pool_ensembles,
    records_of,
    run_jobs,
    study_results,
    work_folder,
)
from deepmusic.studies.occlusion import Occlusion
from deepmusic.studies.plan import StudyConfig, StudyPlan, plan_study
from deepmusic.studies.report import Report, make_report
from deepmusic.studies.report_files import mean_curves, read_histories, write_report
from deepmusic.studies.report_pages import (
    format_seconds,
    leak_table,
    model_table,
    row_figures,
    write_pages,
)

MODELS = ("logistic", "svc-rbf", "capsules")


class Studied(NamedTuple):
    data: StudyData
    plan: StudyPlan
    store: Store
    failures: dict[str, str]
    folder: Path

    @property
    def results(self) -> dict[str, JobRecord]:
        return study_results(self.store)

    def report(self) -> Report:
        return make_report(self.data, self.plan, self.results, self.failures)

    def write(self) -> Report:
        return write_report(
            self.data,
            self.plan,
            self.store,
            self.folder,
            failures=self.failures,
            about=("Synthetic music.",),
        )


def text_of(report: Report, folder: Path) -> str:
    """The report as Markdown, without pictures."""
    write_pages(report, [], folder)
    return (folder / "report.md").read_text(encoding="utf-8")


def studied(study: Path, *models: str, data: StudyData | None = None, **options: Any) -> Studied:
    data = data or made_data(artists=6, each=3, artist_effect=2.0)
    study.mkdir(exist_ok=True)
    official = options.pop("official", None)
    settings: dict[str, Any] = {"folds": 3, "seeds": 1, "sizes": (0.5, 1.0)} | options
    plan = plan_study(data, StudyConfig(models, **settings), FAKES, official=official)
    store = open_results(study)
    done = run_jobs(data, plan, study, store)
    failures = {result.path: result.error for result in done if result.error}
    return Studied(data, plan, store, failures, study)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studied]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PARTS, "average-features", ("logistic", "svc-rbf"))
        folder = tmp_path_factory.mktemp("reports") / "study"
        found = studied(folder, *MODELS, "few", ensembles=("average-features",), seeds=2)
        pool_ensembles(found.plan, found.store)
        yield found
        found.store.close()


@pytest.fixture(scope="module")
def report(study: Studied) -> Report:
    return study.write()


@pytest.mark.slow
def test_the_figures_are_those_of_the_results(study: Studied, report: Report) -> None:
    assert sorted(row.name for row in report.rows) == sorted([*MODELS, "average-features"])
    accuracies = [row.accuracy for row in report.rows]
    assert accuracies == sorted(accuracies, reverse=True)
    row = report.row("logistic")
    assert row is not None
    by_seed, errors = [], []
    for seed in (0, 1):
        jobs = [job for job in study.plan.main_jobs(["logistic"]) if job.seed == seed]
        ours = records_of(study.results, jobs)
        by_seed.append(sum(r["correct"] for r in ours) / sum(r["tracks"] for r in ours))
        errors.append(calibration_error(*predictions(ours)))
    assert row.score.accuracy == pytest.approx(by_seed)
    assert row.score.calibration == pytest.approx(np.mean(errors))
    assert row.score.confusion.sum() == 2 * 54
    confidence, right = row.score.reliability
    assert np.all(np.diff(confidence) > 0)
    assert right.mean() == pytest.approx(row.accuracy, abs=0.05)  # bins of about equal count
    assert report.reference == "capsules"
    reference = report.row("capsules")
    assert reference is not None
    assert reference.difference is None
    # both fakes are the same model: no difference at all
    assert row.difference is not None
    assert row.difference[:3] == pytest.approx((0, 0, 0))


@pytest.mark.slow
def test_leakage_is_the_difference_to_random_folds(study: Studied, report: Report) -> None:
    leaks = {leak.name: leak for leak in report.leaks}
    assert set(leaks) == {"logistic", "svc-rbf"}
    leak = leaks["svc-rbf"]  # the nearest track is by the same artist, where folds are random
    assert leak.difference.mean == pytest.approx(leak.random - leak.grouped)
    assert leak.difference.low > 0.1
    jobs = [j for j in study.plan.jobs if j.model == "svc-rbf" and j.protocol == "random"]
    random = records_of(study.results, jobs)
    assert leak.random == pytest.approx(sum(r["correct"] for r in random) / 108)
    assert all("random folds (leaks)" in row[0] for row in leak_table(report).rows)


@pytest.mark.slow
def test_learning_curves_have_one_point_per_size(report: Report) -> None:
    sizes = [size for size in report.sizes if size.name == "logistic"]
    row = report.row("logistic")
    assert row is not None
    assert len(sizes) == 2
    assert sizes[0].tracks < 0.8 * sizes[1].tracks
    assert sizes[1].accuracy == pytest.approx(row.accuracy)


def test_missing_results_are_named(report: Report) -> None:
    few = "few: 6 of 6 jobs are missing. There are too few tracks of 'jazz' for this model."
    assert few in report.missing
    assert any("What the capsules use" in sentence for sentence in report.missing)


@pytest.mark.slow
def test_where_artists_are_unknown_the_report_says_so(report: Report, tmp_path: Path) -> None:
    assert (report.has_leaks, report.unknown_artists) == (False, 0)
    assert "is unknown" not in text_of(report, tmp_path)
    unknown = replace(report, has_leaks="unknown", unknown_artists=3)
    text = " ".join(text_of(unknown, tmp_path).split())
    assert "was both trained on and tested is unknown: 3 tracks name no artist" in text
    assert "copy that is known is on two sides" in text
    assert row_figures(unknown, unknown.rows[0])["leaks"] == "unknown"


class _Page(HTMLParser):
    """Which tags are open, and what a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images = 0
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.images += tag == "img"
        addresses = [value or "" for name, value in attrs if name in ("src", "href")]
        assert all(value.startswith(("data:image/png;base64,", "#")) for value in addresses)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_pages(study: Path) -> tuple[str, str, list[str]]:
    """Text of the page, Markdown, and its pictures; all files must be well-formed."""
    page = _Page()
    page.feed((study / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    text = (study / "report.md").read_text(encoding="utf-8")
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    for table in tables:
        assert (
            len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines() if line}) == 1
        )
    pictures = re.findall(r"\]\(pictures/([^)]+).png\)", text)
    assert sorted(pictures) == sorted(path.stem for path in (study / "pictures").iterdir())
    assert page.images == len(pictures)
    with open(study / "table.csv", newline="", encoding="utf-8") as file:
        assert len({len(row) for row in csv.reader(file)}) == 1
    return page.text, text, pictures


def test_the_pages_are_complete_and_load_nothing(study: Studied, report: Report) -> None:
    page, text, pictures = read_pages(study.folder)
    for sentence in (*report.missing, "p is not corrected", "Synthetic music.", "pop+rock merged"):
        assert sentence in page
        assert sentence in text
    names = {f"confusion-{row.name}" for row in report.rows}
    names |= {"accuracy", "recall", "reliability", "sizes", "map"}
    assert set(pictures) == names | {"learning-loss", "learning-accuracy"}
    assert f"The best model is {report.rows[0].name}" in text
    assert "With pop and rock counted as one genre" in text


@pytest.mark.slow
def test_strange_names_do_not_break_pages_pictures_and_tables(tmp_path: Path) -> None:
    data = made_data(artists=4, each=2)
    odd = {"jazz": "_<b>|$x^$", "pop": "pop\udcff\n\x1b[31m", "rock": "rök & roll"}
    tracks = tuple(replace(t, genre=odd[t.genre]) for t in data.dataset.tracks)
    data = replace(data, dataset=replace(data.dataset, tracks=tracks, genres=tuple(odd.values())))
    studied(tmp_path, "logistic", data=data, protocol="random", sizes=(1.0,)).write()
    page, _, _ = read_pages(tmp_path)
    assert "_<b>|$x^$" in page
    assert "\x1b" not in page


def test_the_table_holds_the_numbers(study: Studied, report: Report) -> None:
    with open(study.folder / "table.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_name = {row["model"]: row for row in rows if row["protocol"] == "grouped"}
    for row in report.rows:
        written = by_name[row.name]
        assert float(written["accuracy"]) == pytest.approx(row.accuracy, rel=1e-5)
        assert float(written["recall_pop"]) == pytest.approx(float(row.score.recall[1]), rel=1e-5)
        assert float(written["parameters"]) == row.score.parameters
    assert {row["model"] for row in rows if row["protocol"] == "random"} == {"logistic", "svc-rbf"}


def test_an_official_split_is_compared_track_by_track(tmp_path: Path) -> None:
    data = made_data(artists=6, each=3)
    indices = range(len(data.dataset.tracks))
    fold = Fold(
        tuple(i for i in indices if i % 18 < 9),
        tuple(i for i in indices if 9 <= i % 18 < 12),
        tuple(i for i in indices if i % 18 >= 12),
    )
    options = {"protocol": "official", "seeds": 2, "official": lambda dataset: fold}
    report = studied(tmp_path, "logistic", "majority", data=data, **options).report()
    worse = report.rows[1]
    assert worse.difference is not None
    assert worse.difference.mean == pytest.approx(worse.accuracy - report.rows[0].accuracy)
    assert worse.difference.low < worse.difference.high
    assert report.leaks == ()
    text = text_of(report, tmp_path)
    for words in ("bootstrap", "official split, 27 / 9 / 18", "No capsule network"):
        assert words in text


@pytest.mark.slow
def test_random_folds_and_empty_studies_are_reported_as_such(tmp_path: Path) -> None:
    random = studied(tmp_path / "random", "logistic", protocol="random", sizes=(1.0,), folds=2)
    report = random.report()
    assert "These folds leak" in text_of(report, tmp_path)
    assert model_table(report).rows[0][2] == ""  # one seed has no spread
    empty = studied(tmp_path / "empty", "few", protocol="random", sizes=(1.0,))
    assert empty.write().rows == ()
    text = (tmp_path / "empty" / "report.md").read_text()
    assert "No model has a result." in text
    assert "too few tracks of 'jazz'" in text


def test_curves_are_means_over_validated_networks_still_in_training(
    study: Studied, tmp_path: Path
) -> None:
    histories = [
        [{"train": {"loss": v}, "validation": {"loss": v + 1}} for v in values]
        for values in ((3.0, 2.0, 1.0, 0.0), (5.0, 4.0), (7.0, 6.0, 5.0))
    ]
    curves = mean_curves(histories, "loss")
    assert curves == {"train": [5.0, 4.0, 3.0], "validation": [6.0, 5.0, 4.0]}
    for name in ("networks/0", "networks/1", "calibration/0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "history.jsonl").write_text(json.dumps({"train": {"loss": 1}}) + "\n")
    for count in (2, 1):
        (tmp_path / "config.json").write_text(json.dumps({"networks": count}))
        assert len(read_histories(tmp_path)) == count
    job = study.plan.main_jobs(["capsules"])[0]
    assert len(read_histories(work_folder(study.folder, job))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "marked cells matter"), (-0.3, -0.1, "mislead"), (-0.1, 0.1, "do not differ")],
)
def test_occlusion_is_judged_by_its_interval(
    report: Report, tmp_path: Path, low: float, high: float, verdict: str
) -> None:
    difference = Difference((low + high) / 2, low, high, 0.1)
    occlusion = Occlusion(40, 0.3, 0.1, difference, 0.8)
    assert verdict in text_of(replace(report, occlusion=occlusion), tmp_path)


def test_times_are_short_and_have_units() -> None:
    values = (None, 2e-5, 0.0012, 0.25, 12.34, 600)
    texts = ["", "20 µs", "1.20 ms", "250 ms", "12.3 s", "10.0 min"]
    assert [format_seconds(value) for value in values] == texts


def test_a_model_with_missing_jobs_is_last_without_an_interval(tmp_path: Path) -> None:
    found = studied(tmp_path, "logistic", "majority", "capsules", protocol="random", sizes=(1.0,))
    found.store.delete(found.plan.main_jobs(["capsules"])[0].key)
    cut = found.report()
    assert cut.rows[-1].name == cut.reference == "capsules"
    assert model_table(cut).rows[-1][-1] == "2 of 3"
    assert "capsules has done only 2 of its 3 jobs." in text_of(cut, tmp_path)
    for row in cut.rows[:-1]:
        assert row.difference is not None
        assert not math.isnan(row.difference.mean)
        assert math.isnan(row.difference.p)
    for job in found.plan.main_jobs():
        if job.fold == 1:
            found.store.delete(job.key)
    assert "No model has done all its jobs" in text_of(found.report(), tmp_path)
