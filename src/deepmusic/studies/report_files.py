"""Writing the report of a study into its folder: page, Markdown, table, pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from deepmusic.datasets.groups import group_tracks
from deepmusic.errors import DeepMusicError
from deepmusic.files import write_atomically
from deepmusic.studies.data import StudyData
from deepmusic.studies.jobs import SHOWN_CAPSULES, Job, Plan, Results, work_folder
from deepmusic.studies.models import QUICK_KINDS
from deepmusic.studies.report import Report, make_report
from deepmusic.studies.report_html import page
from deepmusic.studies.report_pictures import (
    draw_figures,
    draw_histories,
    draw_map,
    draw_occlusion,
)
from deepmusic.studies.report_text import Picture, markdown, write_table

if TYPE_CHECKING:
    from deepmusic.classifier import Classifier
    from deepmusic.studies.explanations import Explained
    from deepmusic.studies.models import StudyModel

_MOST_ON_MAP = 3000


def write_report(
    data: StudyData,
    plan: Plan,
    results: Results,
    study: Path,
    models: Mapping[str, StudyModel],
    *,
    failures: Mapping[str, str] | None = None,
    about: Sequence[str] = (),
    explains: bool = True,
    on_progress: Callable[[int, int], object] | None = None,
) -> Report:
    """Write ``report.html``, ``report.md``, ``table.csv`` and ``pictures/`` from what is done.

    Args:
        data: what was learned from.
        plan: the jobs.
        results: of those that are done.
        study: the folder of the study.
        models: by name.
        failures: one sentence by mark of a job that failed.
        about: sentences on the data, to stand first.
        explains: whether to explain tracks, where that was not done before: it takes a while.
        on_progress: called with the tracks explained and the tracks to explain.

    Returns:
        What was written.

    Raises:
        DeepMusicError: the folder cannot be written.
    """
    folder = study / "pictures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeepMusicError(f"{folder} could not be made: {error.strerror}.") from error
    missing: list[str] = []
    pictures: list[Picture] = []
    heard = _Capsules(data, plan, results, study)
    explained = heard.explained(missing, explains=explains, on_progress=on_progress)
    occlusion = None
    if explained:
        from deepmusic.studies.explanations import summarise

        tracks = data.dataset.tracks
        groups = dict(zip([t.path for t in tracks], group_tracks(tracks), strict=True))
        occlusion = summarise(explained, groups)
        pictures.append(draw_occlusion(explained, folder))
        pictures += heard.draw_tracks(explained, folder, missing)
    pictures += heard.draw_map(folder, missing)
    networks: dict[str, list[Path]] = {}
    for job in plan.main():
        if job.kind not in QUICK_KINDS and job.mark in results.by_mark:
            networks.setdefault(job.model, []).append(work_folder(study, job))
    pictures += draw_histories(networks, folder)
    report = make_report(
        data,
        plan,
        results,
        models,
        failures=failures,
        about=about,
        occlusion=occlusion,
        missing=missing,
    )
    pictures = [*draw_figures(report, folder), *pictures]
    with write_atomically(study / "report.html") as file:
        file.write(page(report, pictures, folder))
    with write_atomically(study / "report.md") as file:
        file.write(markdown(report, pictures))
    write_table(report, study / "table.csv")
    for path in folder.glob("*.png"):  # of an earlier report
        if path.name not in {picture.file for picture in pictures}:
            with suppress(OSError):
                path.unlink()
    return report


class _Capsules:
    """The capsule networks of the first seed that were kept, and what they show."""

    def __init__(self, data: StudyData, plan: Plan, results: Results, study: Path) -> None:
        self._data, self._plan, self._study = data, plan, study
        self._jobs: list[Job] = []
        self._classifiers: list[Classifier] = []
        kept = [job for job in plan.main([SHOWN_CAPSULES]) if job.seed == 0]
        for job in kept if data.spectrograms is not None else ():
            path = work_folder(study, job) / "model" / "weights.safetensors"
            if job.mark not in results.by_mark or not path.exists():
                continue
            from deepmusic.classifier import Classifier

            with suppress(DeepMusicError):  # damaged since: as good as not there
                self._classifiers.append(Classifier.load(path, device="cpu"))
                self._jobs.append(job)

    def explained(
        self,
        missing: list[str],
        *,
        explains: bool,
        on_progress: Callable[[int, int], object] | None,
    ) -> list[Explained]:
        """Test tracks with what hiding did, as kept before or computed now."""
        from deepmusic.studies.explanations import Explained, explain_tracks

        what = "What the capsules hear"
        if not self._jobs:
            missing.append(
                f"{what}: there is no trained network of {SHOWN_CAPSULES!r} to explain tracks."
            )
            return []
        mark = hashlib.sha256(" ".join(job.mark for job in self._jobs).encode()).hexdigest()[:16]
        path = self._study / "data" / f"explained-{mark}.json"
        with suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(path.read_text(encoding="utf-8"))
            missing += kept["problems"]
            return [Explained(**record) for record in kept["tracks"]]
        if not explains:
            missing.append(f"{what}: not computed yet, as the run was cut short.")
            return []
        folds = [self._plan.folds[job.fold_mark].test for job in self._jobs]
        found, problems = explain_tracks(
            self._data,
            list(zip(self._classifiers, folds, strict=True)),
            on_progress=on_progress,
        )
        with write_atomically(path) as file:
            json.dump({"tracks": [e.to_dict() for e in found], "problems": problems}, file)
        missing += problems
        return found

    def draw_tracks(
        self, explained: Sequence[Explained], folder: Path, missing: list[str]
    ) -> list[Picture]:
        """Explanation, and reconstruction where there is a decoder, of a track a genre."""
        from deepmusic.studies.explanations import (
            draw_explained,
            draw_rebuilt,
            rebuild,
            shown_tracks,
        )

        tracks = {track.path: track for track in self._data.dataset.tracks}
        place = {track.path: number for number, track in enumerate(self._data.dataset.tracks)}
        spectrograms = self._data.spectrograms
        assert spectrograms is not None
        pictures = []
        has_decoder = True
        for number, one in enumerate(shown_tracks(explained)):
            verdict = "rightly" if one.genre == one.truth else f"in truth {one.truth}"
            title = f"{one.path}: heard as {one.genre} ({one.probability:.0%}), {verdict}"
            file = f"track-{number}.png"
            try:
                draw_explained(
                    self._classifiers[one.fold], self._data, tracks[one.path], one, folder / file
                )
            except DeepMusicError as error:
                missing.append(f"The picture of {one.path!r}: {error}")
                continue
            says = (
                "Orange cells spoke for the genre, blue ones against it; below, the votes of the "
                "moments and the parts of the vote. Hiding the marked tenth lowers the probability "
                f"by {100 * one.marked:.1f} points, hiding elsewhere by {100 * one.random:.1f}."
            )
            pictures.append(Picture(file, title, says, "hearing"))
            run = work_folder(self._study, self._jobs[one.fold])
            rebuilt = rebuild(run, spectrograms(place[one.path]), one.genre)
            if rebuilt is None:
                has_decoder = False
                continue
            file = f"track-{number}-rebuilt.png"
            draw_rebuilt(rebuilt, folder / file)
            says = (
                f"The segment in which the capsule of {one.genre} is longest, averaged to 16 "
                "columns, and what the decoder makes of that capsule's pose alone."
            )
            pictures.append(Picture(file, f"{one.path}: rebuilt", says, "hearing"))
        if not has_decoder:
            missing.append("Reconstructions: the networks have no decoder.")
        return pictures

    def draw_map(self, folder: Path, missing: list[str]) -> list[Picture]:
        """The map by poses of the first fold's network, else by feature columns."""
        data = self._data
        places = range(len(data.dataset.tracks))
        # every n-th track of large data: a point more could not be seen
        places = places[:: -(-len(places) // _MOST_ON_MAP)]
        labels = [int(data.labels[place]) for place in places]
        if self._jobs and self._classifiers[0].config.routing != "none":
            from deepmusic.studies.explanations import genre_poses

            poses = genre_poses(self._classifiers[0], data, places)
            test = set(self._plan.folds[self._jobs[0].fold_mark].test)
            tested = [place in test for place in places]
            of = f"the poses of the genre capsules of {SHOWN_CAPSULES}"
            return [draw_map(poses, labels, tested, data.genres, of, folder)]
        if data.columns is not None:
            vectors = data.columns[list(places)]
            of = "their 518 feature columns"
            every = [True] * len(places)
            return [draw_map(vectors, labels, every, data.genres, of, folder)]
        missing.append("The map: there are neither capsule networks nor feature columns.")
        return []
