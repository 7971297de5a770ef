"""``deepmusic study genres``: all models on a data set, job by job, and the report."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.output import printable
from deepmusic.cli.progress import EVERY_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deepmusic.datasets.load import LoadedDataset
    from deepmusic.datasets.splits import Protocol
    from deepmusic.studies.data import Need, StudyData
    from deepmusic.studies.jobs import Outcome, Plan, Results, StudyConfig
    from deepmusic.studies.models import StudyModel

_GROUPS = {
    "tables": ("features",),
    "textures": ("textures",),
    "networks": ("segments",),
    "averages": ("hybrid", "average"),
}


@click.command(no_args_is_help=True)
@click.option(
    "--data",
    "place",
    metavar="PLACE",
    required=True,
    help="A folder DIR/GENRE/*, with or without tracks.csv, a CSV, GTZAN or FMA.",
)
@click.option(
    "--out",
    metavar="STUDY",
    default="study",
    show_default=True,
    help="Folder that keeps results and gets the report; made if need be.",
)
@click.option(
    "--models",
    "wanted",
    metavar="NAMES",
    default="all",
    show_default=True,
    help="Names with commas between; tables, textures, networks, averages and all stand for many.",
)
@click.option(
    "--folds",
    metavar="K",
    type=click.IntRange(min=2),
    help="Folds of a seed.  [default: 5; an official split is one]",
)
@click.option(
    "--seeds",
    metavar="N",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Seeds 0 to N-1; each deals the artists to other folds.",
)
@click.option(
    "--protocol",
    type=click.Choice(["grouped", "official", "random"]),
    default="grouped",
    show_default=True,
    help="Whole artists, albums and copies apart; as published (FMA, GTZAN); or blindly, which "
    "leaks.",
)
@click.option(
    "--sizes",
    metavar="SHARES",
    default="0.25,0.5,1",
    show_default=True,
    help="Shares of the tracks that quick models also learn from; 1 for none but all.",
)
@click.option(
    "--features",
    metavar="TABLE",
    help="Feature table of the tracks, of 'features extract'.  [default: computed]",
)
@click.option(
    "--cache",
    metavar="DIR",
    help="Where features and spectrograms are kept.  [default: STUDY/cache]",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes of this machine, a job each.",
)
@click.option("--dask", metavar="ADDRESS", help="Work on the Dask cluster of this scheduler.")
@click.option(
    "--budget",
    metavar="MINUTES",
    type=click.FloatRange(min=0, min_open=True),
    help="Begin no job later than this; run again for the rest.",
)
@click.option(
    "--as",
    "kind",
    type=click.Choice(["folder", "gtzan", "fma"]),
    help="Take PLACE for this, whatever it looks like.",
)
@click.option("--table", metavar="CSV", help="Genres and artists of the tracks.")
@click.option(
    "--subset",
    type=click.Choice(["small", "medium", "large", "full"]),
    default="small",
    show_default=True,
    help="Of FMA.",
)
@click.option("--audio", metavar="DIR", help="Of FMA: where its audio is.")
@click.pass_context
def genres(
    ctx: click.Context,
    *,
    place: str,
    out: str,
    wanted: str,
    folds: int | None,
    seeds: int,
    protocol: Protocol,
    sizes: str,
    features: str | None,
    cache: str | None,
    workers: int,
    dask: str | None,
    budget: float | None,
    kind: str | None,
    table: str | None,
    subset: str,
    audio: str | None,
) -> None:
    """Train and compare models of music genres, and write one report.

    Every model on every fold of every seed is a job, kept in STUDY/results.jsonl when it is done:
    after a stop, run again, and the rest is done. STUDY gets report.html, report.md, table.csv and
    pictures. The table of models goes to standard output. Exit status: 0 all well, 1 some tracks or
    models failed, 2 wrong usage, 130 interrupted.
    """
    if dask is not None and workers != 1:
        raise click.UsageError("--workers is for this machine, --dask for a cluster; choose one.")
    if protocol == "official" and folds is not None:
        raise click.UsageError("An official split is as it was published; leave --folds out.")
    study = Path(out)
    if study.exists() and not study.is_dir():
        raise click.UsageError(f"--out: {out} is a file; name a folder.")

    from deepmusic.studies.jobs import Results, plan_study, pool_averages, run_jobs
    from deepmusic.studies.models import MODELS

    config = _config(wanted, protocol, folds or 5, seeds, sizes)
    loaded, data = _data(
        place, config, study, features, cache, workers, dask, (kind, table, subset, audio)
    )
    plan = plan_study(data, config, MODELS, official=loaded.official_split)
    if protocol == "random":
        click.echo("Random folds leak artists and copies: all figures will be too good.", err=True)
    results = Results(study / "results.jsonl")
    failures: dict[str, str] = {}
    status = _Status(plan, results, workers)
    try:
        outcomes = run_jobs(
            data,
            plan,
            study,
            results,
            workers=workers,
            dask=dask,
            seconds=None if budget is None else 60 * budget,
        )
        for outcome in outcomes:
            if outcome.error:
                failures[outcome.job.mark] = outcome.error
            status.tell(outcome)
    except KeyboardInterrupt:
        status.end()
        click.echo("Interrupted; the report is written of what is done.", err=True)
        pool_averages(plan, results)
        _write(data, plan, results, study, MODELS, failures, loaded.about, explains=False)
        raise
    status.end()
    pool_averages(plan, results)
    _write(data, plan, results, study, MODELS, failures, loaded.about, explains=True)
    if status.skipped:
        click.echo(f"{status.skipped} jobs were not begun in time; run again for them.", err=True)
    from deepmusic.cli.data_options import has_failures

    has_problems = has_failures(loaded) or len(data.dataset.tracks) < len(loaded.dataset.tracks)
    ctx.exit(1 if failures or has_problems else 0)


def _config(wanted: str, protocol: Protocol, folds: int, seeds: int, sizes: str) -> StudyConfig:
    """What to measure; names are looked up before anything is loaded."""
    from deepmusic.studies.jobs import StudyConfig
    from deepmusic.studies.models import MODELS, model_named

    names: list[str] = []
    for word in (word.strip() for word in wanted.split(",")):
        if word == "all":
            names += MODELS
        elif word in _GROUPS:
            names += [name for name, model in MODELS.items() if model.kind in _GROUPS[word]]
        elif word:
            names.append(model_named(word).name)
    if not names:
        raise click.UsageError("--models: name at least one model.")
    try:
        shares = tuple(float(share) for share in sizes.split(",") if share.strip())
    except ValueError:
        raise click.UsageError(
            f"--sizes: {sizes} are no shares; give numbers such as 0.25,0.5,1."
        ) from None
    from deepmusic.studies.averages import PARTS

    averages = [name for name in dict.fromkeys(names) if name in PARTS]
    parts = [part for name in averages for part in PARTS[name]]
    chosen = {name for name in names if name not in PARTS}
    if added := [part for part in dict.fromkeys(parts) if part not in chosen]:
        click.echo(f"Also trained, as parts of averages: {', '.join(added)}.", err=True)
    trained = tuple(name for name in MODELS if name in chosen or name in added)
    return StudyConfig(trained, tuple(averages), protocol, folds, seeds, shares)


def _data(
    place: str,
    config: StudyConfig,
    study: Path,
    features: str | None,
    cache: str | None,
    workers: int,
    dask: str | None,
    options: tuple[Any, str | None, str, str | None],
) -> tuple[LoadedDataset, StudyData]:
    from deepmusic.cli.data_options import file_progress, load_with_progress, report_problems
    from deepmusic.studies.data import load_study_data
    from deepmusic.studies.models import MODELS

    loaded = load_with_progress(place, *options)
    kinds = {MODELS[name].kind for name in config.models}
    needs: list[Need] = ["columns"] if kinds & {"features", "hybrid"} else []
    needs += ["spectrograms"] if kinds - {"features"} else []
    try:
        study.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise click.UsageError(f"--out: {study} cannot be made: {reason}.") from error
    shown = ""
    with (
        file_progress() as tell_copies,
        file_progress() as tell_features,
        file_progress() as tell_spectrograms,
    ):
        tellers = {
            "copies": tell_copies,
            "features": tell_features,
            "spectrograms": tell_spectrograms,
        }

        def on_progress(stage: str, done: int, total: int) -> None:
            nonlocal shown
            if stage != shown:
                shown = stage
                click.echo(f"{stage} of {total} tracks", err=True)
            tellers[stage](done, total)

        data = load_study_data(
            loaded,
            cache=study / "cache" if cache is None else cache,
            needs=needs,
            features=features,
            finds_copies=config.protocol == "grouped",
            workers=workers,
            dask=dask,
            on_progress=on_progress,
        )
    report_problems(data.dataset)
    return loaded, data


def _write(
    data: StudyData,
    plan: Plan,
    results: Results,
    study: Path,
    models: Mapping[str, StudyModel],
    failures: Mapping[str, str],
    about: str,
    *,
    explains: bool,
) -> None:
    from deepmusic.cli.data_options import file_progress
    from deepmusic.studies.report_files import write_report
    from deepmusic.studies.report_text import leak_table, model_table

    with file_progress() as tell:
        report = write_report(
            data,
            plan,
            results,
            study,
            models,
            failures=failures,
            about=(about,),
            explains=explains,
            on_progress=tell,
        )
    for table in (model_table(report), leak_table(report)):
        if table.rows:
            for line in _aligned((table.head, *table.rows)):
                click.echo(printable(line))
    for sentence in report.missing:
        click.echo(printable(f"missing: {sentence}"), err=True)
    click.echo(printable(f"{study / 'report.html'}: {len(report.rows)} models."), err=True)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


class _Status:
    """Tells on standard error how far the jobs are, and of each that failed."""

    def __init__(self, plan: Plan, results: Results, workers: int) -> None:
        self._results, self._workers = results, workers
        self._left = {job.mark: job for job in plan.jobs if job.mark not in results.by_mark}
        self._total = len(self._left)
        self._started = self._told = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._failed: set[tuple[str, str]] = set()
        self.skipped = 0
        kept = len({job.mark for job in plan.jobs}) - self._total
        if kept:
            click.echo(f"{kept} jobs are there from before, {self._total} are to do.", err=True)

    def tell(self, outcome: Outcome) -> None:
        """Say what came of a job, where it failed, and now and then how far all is."""
        job = outcome.job
        self._left.pop(job.mark, None)
        if outcome.is_skipped:
            self.skipped += 1
            return
        if outcome.error and (job.model, outcome.error) not in self._failed:
            self._failed.add((job.model, outcome.error))  # once, not on every fold
            self._clear()
            click.echo(printable(f"{job.name}: {outcome.error}"), err=True)
        now = time.monotonic()
        if self._is_terminal:
            self._clear()
            click.echo(self._line(outcome, now), nl=False, err=True)
        elif now - self._told >= EVERY_S:
            self._told = now
            click.echo(self._line(outcome, now), err=True)

    def end(self) -> None:
        """Leave the terminal's line to others."""
        self._clear()

    def _clear(self) -> None:
        if self._is_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _line(self, outcome: Outcome, now: float) -> str:
        from deepmusic.studies.jobs import seconds_left

        done = self._total - len(self._left)
        rate = 60 * done / max(now - self._started, 1e-6)
        found = self._results.by_mark.values()
        left_s, is_known = seconds_left(self._left.values(), found, workers=self._workers)
        left = timedelta(seconds=round(left_s))
        said = ""
        if outcome.result is not None:
            said = (
                f"; {outcome.job.model} {outcome.result['correct'] / outcome.result['tracks']:.0%}"
            )
        return (
            f"{done} of {self._total} jobs, {rate:.1f} a minute, "
            f"{'about' if is_known else 'more than'} {left} left{said}"
        )
