"""The report: its figures against sums by hand, and what it says of what is missing."""

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
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_models import FAKES, made_data

from deepmusic.classifier.calibration import calibration_error
from deepmusic.datasets import Fold
from deepmusic.studies.averages import PARTS
from deepmusic.studies.comparison import heard
from deepmusic.studies.data import StudyData
from deepmusic.studies.explanations import Explained, summarise
from deepmusic.studies.jobs import (
    Plan,
    Results,
    StudyConfig,
    plan_study,
    pool_averages,
    run_jobs,
    work_folder,
)
from deepmusic.studies.report import Report, make_report
from deepmusic.studies.report_files import write_report
from deepmusic.studies.report_pictures import draw_histories, draw_map, draw_occlusion
from deepmusic.studies.report_text import (
    headline,
    leak_table,
    merged_sentence,
    model_table,
    occlusion_sentence,
    seconds,
)

MODELS = ("majority", "logistic", "svc-rbf", "cnn", "capsules")


def studied(
    study: Path, *models: str, data: StudyData | None = None, **options: Any
) -> tuple[StudyData, Plan, Results, dict[str, str]]:
    data = data or made_data(artists=6, each=3, artist_says=2.0)
    study.mkdir(exist_ok=True)
    official = options.pop("official", None)
    settings = {"folds": 3, "seeds": 1, "sizes": (0.5, 1.0)} | options
    plan = plan_study(data, StudyConfig(models, **settings), FAKES, official=official)
    results = Results(study / "results.jsonl")
    failures = {
        outcome.job.mark: outcome.error
        for outcome in run_jobs(data, plan, study, results, models=FAKES)
        if outcome.error
    }
    return data, plan, results, failures


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    folder = tmp_path_factory.mktemp("reports") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PARTS, "average-features", ("logistic", "svc-rbf"))
        found = studied(folder, *MODELS, "few", averages=("average-features",), seeds=2)
        pool_averages(found[1], found[2])
        yield folder, found


@pytest.fixture(scope="module")
def report(study: tuple[Path, Any]) -> Report:
    folder, (data, plan, results, failures) = study
    from deepmusic.studies.models import MODELS as REAL

    models = {**FAKES, "average-features": REAL["average-features"]}
    return write_report(
        data, plan, results, folder, models, failures=failures, about=("Made music.",)
    )


def test_the_figures_are_those_of_the_results(study: tuple[Path, Any], report: Report) -> None:
    _, (_, plan, results, _) = study
    names = [row.name for row in report.rows]
    assert sorted(names) == sorted([*MODELS, "average-features"])
    accuracies = [row.accuracy for row in report.rows]
    assert accuracies == sorted(accuracies, reverse=True)
    row = report.row("logistic")
    assert row is not None
    by_seed, errors = [], []
    for seed in (0, 1):
        ours = results.of(job for job in plan.main(["logistic"]) if job.seed == seed)
        by_seed.append(sum(r["correct"] for r in ours) / sum(r["tracks"] for r in ours))
        errors.append(calibration_error(*heard(ours)))
    assert row.score.accuracy == pytest.approx(by_seed)
    assert row.over_seeds == pytest.approx(np.std(by_seed, ddof=1))
    assert row.score.calibration == pytest.approx(np.mean(errors))
    assert row.score.confusion.sum() == 2 * 54
    assert report.reference == "capsules"
    reference = report.row("capsules")
    assert reference is not None
    assert reference.difference is None
    # both fakes are the same model: no difference at all
    assert row.difference is not None
    assert row.difference[:3] == pytest.approx((0, 0, 0))


def test_leakage_is_the_difference_to_random_folds(study: tuple[Path, Any], report: Report) -> None:
    _, (_, plan, results, _) = study
    leaks = {leak.name: leak for leak in report.leaks}
    assert set(leaks) == {"logistic", "svc-rbf"}
    leak = leaks["svc-rbf"]  # the nearest track is by the same artist, where folds are random
    assert leak.difference.mean == pytest.approx(leak.random - leak.grouped)
    assert leak.difference.low > 0.1
    random = results.of(j for j in plan.jobs if j.model == "svc-rbf" and j.protocol == "random")
    assert leak.random == pytest.approx(sum(r["correct"] for r in random) / 108)
    assert all("random folds (leaks)" in row[0] for row in leak_table(report).rows)


def test_growth_has_a_point_a_size(report: Report) -> None:
    sizes = [size for size in report.sizes if size.name == "logistic"]
    assert len(sizes) == 2
    assert sizes[0].tracks < 0.8 * sizes[1].tracks
    row = report.row("logistic")
    assert row is not None
    assert sizes[1].accuracy == pytest.approx(row.accuracy)


def test_what_is_missing_is_named(report: Report) -> None:
    few = [said for said in report.missing if said.startswith("few")]
    assert few == [
        "few: of 6, 6 jobs are missing. There are too few tracks of 'jazz' for this model."
    ]
    assert any("What the capsules hear" in said for said in report.missing)


def test_nothing_pop_and_rock_merged_without_both(report: Report) -> None:
    sentence = merged_sentence(report)
    assert sentence is not None
    assert "pop+rock merged" in model_table(report).head
    bare = replace(report, genres=("jazz", "pop", "folk"))
    assert "pop+rock merged" not in model_table(bare).head


class _Page(HTMLParser):
    """Which tags are open, and what a page asks from elsewhere."""

    VOID = ("meta", "img", "br", "link", "!doctype")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(values["src"] or "")
        self.addresses += [v for k, v in attrs if k in ("src", "href") and v is not None]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_asks_nothing_from_elsewhere(
    study: tuple[Path, Any], report: Report
) -> None:
    folder, _ = study
    content = (folder / "report.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(content)
    assert page.open == []
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in page.addresses)
    anchors = [a[1:] for a in page.addresses if a.startswith("#")]
    assert all(f'id="{anchor}"' in content for anchor in anchors)
    assert "<script" not in content
    assert 'name="viewport"' in content
    for row in report.rows:
        assert row.name in page.text
    assert len(page.images) == len(list((folder / "pictures").glob("*.png")))
    for said in (*report.missing, *report.notes, "Made music."):
        assert said in page.text


def test_markdown_links_only_to_pictures_that_are_there(
    study: tuple[Path, Any], report: Report
) -> None:
    folder, _ = study
    text = (folder / "report.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((pictures/[^)]+)\)", text)
    assert len(links) >= 10
    assert all((folder / link).is_file() for link in links)
    blocks = [b for b in text.split("\n\n") if b.startswith("|")]
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert headline(report) in text
    for name in ("learning-loss", "learning-accuracy", "accuracy", "genres", "reliability"):
        assert f"pictures/{name}.png" in links
    for name in ("sizes", "map", "confusion-capsules"):
        assert f"pictures/{name}.png" in links


def test_the_table_holds_the_numbers(study: tuple[Path, Any], report: Report) -> None:
    folder, _ = study
    with open(folder / "table.csv", newline="", encoding="utf-8") as file:
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
    places = range(len(data.dataset.tracks))
    fold = Fold(
        tuple(p for p in places if p % 18 < 9),
        tuple(p for p in places if 9 <= p % 18 < 12),
        tuple(p for p in places if p % 18 >= 12),
    )
    _, plan, results, _ = studied(
        tmp_path,
        "logistic",
        "majority",
        data=data,
        protocol="official",
        seeds=2,
        official=lambda dataset: fold,
    )
    report = make_report(data, plan, results, FAKES)
    worse = report.rows[1]
    assert worse.difference is not None
    assert worse.difference.mean == pytest.approx(report.rows[1].accuracy - report.rows[0].accuracy)
    assert worse.difference.low < worse.difference.high
    assert report.leaks == ()
    assert any("bootstrap" in note for note in report.notes)
    assert any("official split, 27 / 9 / 18" in said for said in report.about)
    assert any("No capsule network" in said for said in report.warnings)


def test_random_folds_are_said_to_leak(tmp_path: Path) -> None:
    data, plan, results, _ = studied(tmp_path, "logistic", protocol="random", sizes=(1.0,))
    report = make_report(data, plan, results, FAKES)
    assert "leak" in report.warnings[0]


def test_a_study_without_results_still_says_so(tmp_path: Path) -> None:
    data, plan, results, failures = studied(tmp_path, "few", protocol="random", sizes=(1.0,))
    report = write_report(data, plan, results, tmp_path, FAKES, failures=failures)
    assert report.rows == ()
    text = (tmp_path / "report.md").read_text()
    assert "No model has a result." in text
    assert "too few tracks of 'jazz'" in text


def test_names_that_disturb_pages_pictures_and_tables_do_not(tmp_path: Path) -> None:
    data = made_data(artists=4, each=2)
    odd = {"jazz": "_<b>|$x^$", "pop": "pop\udcff\n\x1b[31m", "rock": "rök & roll"}
    tracks = tuple(replace(t, genre=odd[t.genre]) for t in data.dataset.tracks)
    genres = tuple(odd[genre] for genre in ("jazz", "pop", "rock"))
    data = replace(data, dataset=replace(data.dataset, tracks=tracks, genres=genres))
    _, plan, results, _ = studied(
        tmp_path, "logistic", "capsules", data=data, protocol="random", sizes=(1.0,)
    )
    write_report(data, plan, results, tmp_path, FAKES)
    page = _Page()
    page.feed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "_<b>|$x^$" in page.text
    assert "\x1b" not in page.text
    blocks = (tmp_path / "report.md").read_text(encoding="utf-8").split("\n\n")
    for block in (b for b in blocks if b.startswith("|")):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(cells) == 1
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        assert len({len(row) for row in csv.reader(file)}) == 1


def test_curves_are_means_over_networks_that_still_train(tmp_path: Path) -> None:
    from deepmusic.studies.report_pictures import _mean_curves

    histories = [
        [{"train": {"loss": v}, "validation": {"loss": v + 1}} for v in values]
        for values in ((3.0, 2.0, 1.0, 0.0), (5.0, 4.0), (7.0, 6.0, 5.0))
    ]
    curves = _mean_curves(histories, "loss")
    assert curves == {"train": [5.0, 4.0, 3.0], "validation": [6.0, 5.0, 4.0]}
    assert draw_histories({"cnn": [tmp_path / "nowhere"]}, tmp_path) == []


def test_judges_and_networks_without_validation_are_no_part_of_the_curves(
    study: tuple[Path, Any], tmp_path: Path
) -> None:
    from deepmusic.studies.report_pictures import _histories

    for name in ("networks/0", "networks/1", "calibration/0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "history.jsonl").write_text(json.dumps({"train": {"loss": 1}}) + "\n")
    (tmp_path / "config.json").write_text('{"networks": 2}')
    assert len(list(_histories([tmp_path]))) == 2
    (tmp_path / "config.json").write_text('{"networks": 1}')
    assert len(list(_histories([tmp_path]))) == 1
    folder, (_, plan, _, _) = study
    job = plan.main(["cnn"])[0]
    assert len(list(_histories([work_folder(folder, job)]))) == 1


def test_the_map_does_without_values_and_with_few_tracks(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    vectors[0, 0] = np.nan
    vectors[:, 1] = np.nan
    vectors[:, 2] = 7.0
    picture = draw_map(vectors, [0, 1] * 3, [True] * 6, ("a", "b"), "columns", tmp_path)
    assert (tmp_path / picture.file).stat().st_size > 1000
    draw_map(vectors[:, :1], [0, 1] * 3, [True, False] * 3, ("a", "b"), "columns", tmp_path)


@pytest.mark.parametrize(
    ("lowered", "verdict"),
    [(0.3, "the marks mean something"), (-0.3, "the marks mislead"), (0.0, "from chance")],
)
def test_occlusion_is_judged_by_its_interval(lowered: float, verdict: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    found = [
        Explained(f"{n}", "a", "a" if n % 2 else "b", 0.9, lowered + noise, -noise, 0)
        for n, noise in enumerate(rng.normal(0, 0.05, 40))
    ]
    summary = summarise(found, {f"{n}": n for n in range(40)})
    assert verdict in occlusion_sentence(summary)
    assert summary.marked == pytest.approx(np.mean([e.marked for e in found]))
    draw_occlusion(found, tmp_path)
    assert (tmp_path / "occlusion.png").is_file()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, ""),
        (2e-5, "20 µs"),
        (0.0012, "1.20 ms"),
        (0.25, "250 ms"),
        (12.34, "12.3 s"),
        (600, "10.0 min"),
    ],
)
def test_times_are_short_and_have_units(value: float | None, said: str) -> None:
    assert seconds(value) == said


def test_a_model_with_missing_jobs_stands_last_without_an_interval(tmp_path: Path) -> None:
    data, plan, results, _ = studied(
        tmp_path, "logistic", "majority", "capsules", protocol="random", sizes=(1.0,)
    )
    whole = make_report(data, plan, results, FAKES)
    assert f"The best model is {whole.rows[0].name}" in headline(whole)
    del results.by_mark[plan.main(["capsules"])[0].mark]
    cut = make_report(data, plan, results, FAKES)
    assert cut.rows[-1].name == cut.reference == "capsules"
    assert model_table(cut).rows[-1][-1] == "2 of 3"
    assert headline(cut).endswith("capsules has done 2 of its 3 jobs only.")
    for row in cut.rows[:-1]:  # two folds tell nothing of five
        assert row.difference is not None
        assert not math.isnan(row.difference.mean)
        assert math.isnan(row.difference.p)
    for job in plan.main():
        if job.fold == 1:
            results.by_mark.pop(job.mark, None)
    assert "No model has done all its jobs" in headline(make_report(data, plan, results, FAKES))


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    data, plan, results, _ = studied(tmp_path, "logistic", protocol="random", sizes=(1.0,), folds=2)
    report = make_report(data, plan, results, FAKES)
    assert math.isnan(report.rows[0].over_seeds)
    assert model_table(report).rows[0][2] == ""
