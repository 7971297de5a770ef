"""``deepmusic study genres``: all models on a data set, job by job, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.output import printable
from deepmusic.cli.progress import display
from deepmusic.errors import os_reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepmusic.datasets.load import LoadedDataset
    from deepmusic.datasets.splits import Protocol
    from deepmusic.store import Store
    from deepmusic.studies.data import Need, StudyData
    from deepmusic.studies.plan import StudyConfig, StudyPlan

_GROUPS = {
    "tables": ("features",),
    "textures": ("textures",),
    "networks": ("segments",),
    "averages": ("hybrid", "average"),
}


@click.command(no_args_is_help=True)
@click.option(
    "--data",
    metavar="DATA",
    required=True,
    help="A folder DIR/GENRE/*, with or without tracks.csv, a CSV, GTZAN or FMA.",
)
@click.option(
    "--out",
    metavar="STUDY",
    default="study",
    show_default=True,
    help="Folder for results and report; created if missing.",
)
@click.option(
    "--models",
    "names",
    metavar="NAMES",
    default="all",
    show_default=True,
    help="Comma-separated names; tables, textures, networks, averages and all are groups.",
)
@click.option(
    "--folds",
    metavar="K",
    type=click.IntRange(min=2),
    help="Folds per seed.  [default: 5; an official split is one]",
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
    help="Whole artists, albums and copies apart; as published (FMA, GTZAN); or at random, which "
    "leaks.",
)
@click.option(
    "--sizes",
    metavar="SHARES",
    default="0.25,0.5,1",
    show_default=True,
    help="Shares of the tracks that quick models are also trained on; 1 for none.",
)
@click.option(
    "--features",
    metavar="TABLE",
    help="Feature table of the tracks, from 'features extract'.  [default: computed]",
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
    help="Processes on this machine, one job each.",
)
@click.option("--dask", metavar="ADDRESS", help="Use the Dask cluster of this scheduler.")
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
    help="Read DATA as this kind of data set instead of guessing.",
)
@click.option("--table", metavar="CSV", help="Genres and artists of the tracks.")
@click.option(
    "--subset",
    type=click.Choice(["small", "medium", "large", "full"]),
    default="small",
    show_default=True,
    help="FMA only: the subset.",
)
@click.option("--audio", metavar="DIR", help="FMA only: the folder of the audio.")
@click.pass_context
def genres(
    ctx: click.Context,
    *,
    data: str,
    out: str,
    names: str,
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

    Every model on every fold of every seed is a job, stored in STUDY/results.db when it is done:
    after an interruption, run again, and the rest is done. STUDY gets report.html, report.md,
    table.csv and pictures. The table of models goes to standard output. Exit status: 0 all well, 1
    some tracks or models failed, 2 wrong usage, 130 interrupted.
    """
    if dask is not None and workers != 1:
        raise click.UsageError("--workers is for this machine, --dask for a cluster; choose one.")
    if protocol == "official" and folds is not None:
        raise click.UsageError("An official split is as it was published; omit --folds.")
    study = Path(out)
    if study.exists() and not study.is_dir():
        raise click.UsageError(f"--out: {out} is a file; name a folder.")

    from deepmusic.cli.data_options import has_failures, load_with_progress
    from deepmusic.studies.jobs import open_results, pool_ensembles, run_jobs
    from deepmusic.studies.models import MODELS
    from deepmusic.studies.plan import plan_study

    config = _config(names, protocol, folds or 5, seeds, sizes)
    loaded = load_with_progress(data, kind, table, subset, audio)
    try:
        study.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--out: {study} cannot be created: {os_reason(error)}.") from error
    studied = _load(loaded, config, Path(cache or study / "cache"), features, workers, dask)
    plan = plan_study(studied, config, MODELS, official=loaded.official_split)
    if protocol == "random":
        click.echo("Random folds leak artists and copies: all figures will be too good.", err=True)
    failures: dict[str, str] = {}
    is_interrupted, skipped = False, 0
    with open_results(study) as store:
        left = sum(key not in store for key in plan.by_key)
        if left < len(plan.by_key):
            done = len(plan.by_key) - left
            click.echo(f"{done} jobs are already done, {left} are left.", err=True)
        try:
            with display(left, unit="jobs") as shown:
                for result in run_jobs(
                    studied,
                    plan,
                    study,
                    store,
                    models=MODELS,
                    workers=workers,
                    dask=dask,
                    seconds=None if budget is None else 60 * budget,
                ):
                    job = plan.by_key[result.path]
                    skipped += result.is_skipped
                    if result.error and result.error not in failures.values():
                        shown.report(printable(f"{job.display_name}: {result.error}"))
                    if result.error:
                        failures[result.path] = result.error
                    shown.advance(note=job.model)
        except KeyboardInterrupt:
            is_interrupted = True
        if is_interrupted:
            click.echo("Interrupted; the report is written from what is done.", err=True)
        pool_ensembles(plan, store, MODELS)
        _write(studied, plan, store, study, failures, loaded.about, explains=not is_interrupted)
    if is_interrupted:
        raise KeyboardInterrupt
    if skipped:
        click.echo(f"{skipped} jobs did not begin in time; run again for them.", err=True)
    has_problems = has_failures(loaded) or len(studied.labels) < len(loaded.dataset.tracks)
    ctx.exit(1 if failures or has_problems else 0)


def _config(names: str, protocol: Protocol, folds: int, seeds: int, sizes: str) -> StudyConfig:
    """What to measure; names are checked before anything is loaded."""
    from deepmusic.studies.models import MODELS, model_named
    from deepmusic.studies.plan import StudyConfig

    wanted: dict[str, None] = {}
    for word in (word.strip() for word in names.split(",")):
        if word == "all":
            wanted |= dict.fromkeys(MODELS)
        elif word in _GROUPS:
            group = _GROUPS[word]
            wanted |= {name: None for name, model in MODELS.items() if model.kind in group}
        elif word:
            wanted[model_named(word).name] = None
    if not wanted:
        raise click.UsageError("--models: name at least one model.")
    try:
        shares = tuple(float(share) for share in sizes.split(",") if share.strip())
    except ValueError:
        raise click.UsageError(
            f"--sizes: {sizes} is not a list of shares; give numbers such as 0.25,0.5,1."
        ) from None
    pooled = ("hybrid", "average")
    ensembles = tuple(name for name in wanted if MODELS[name].kind in pooled)
    parts: dict[str, None] = {}
    if ensembles:
        from deepmusic.studies.ensembles import PARTS

        parts = dict.fromkeys(part for name in ensembles for part in PARTS[name])
    if added := [part for part in parts if part not in wanted]:
        click.echo(f"Also trained, as parts of averages: {', '.join(added)}.", err=True)
    trained = tuple(
        name for name in MODELS if (name in wanted or name in parts) and name not in ensembles
    )
    return StudyConfig(trained, ensembles, protocol, folds, seeds, shares)


def _load(
    loaded: LoadedDataset,
    config: StudyConfig,
    cache: Path,
    features: str | None,
    workers: int,
    dask: str | None,
) -> StudyData:
    from deepmusic.cli.data_options import file_progress, report_problems
    from deepmusic.studies.data import load_study_data
    from deepmusic.studies.models import MODELS

    kinds = {MODELS[name].kind for name in config.models}
    needs: list[Need] = ["columns"] if "features" in kinds else []
    needs += ["spectrograms"] if kinds - {"features"} else []
    with file_progress() as show:
        data = load_study_data(
            loaded,
            cache=cache,
            needs=needs,
            features=features,
            finds_copies=config.protocol == "grouped",
            workers=workers,
            dask=dask,
            on_progress=lambda _, done, total: show(done, total),
        )
    report_problems(data.dataset)
    return data


def _write(
    data: StudyData,
    plan: StudyPlan,
    store: Store,
    study: Path,
    failures: dict[str, str],
    about: str,
    *,
    explains: bool,
) -> None:
    from deepmusic.cli.data_options import file_progress
    from deepmusic.studies.models import MODELS
    from deepmusic.studies.report_files import write_report
    from deepmusic.studies.report_pages import leak_table, model_table

    with file_progress() as show:
        report = write_report(
            data,
            plan,
            store,
            study,
            MODELS,
            failures=failures,
            about=(about,),
            explains=explains,
            on_progress=show,
        )
    for table in (model_table(report), leak_table(report)):
        if table.rows:
            _print_table((table.head, *table.rows))
    for sentence in report.missing:
        click.echo(printable(f"missing: {sentence}"), err=True)
    click.echo(printable(f"{study / 'report.html'}: {len(report.rows)} models."), err=True)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        click.echo(printable("  ".join([first.ljust(widths[0]), *cells]).rstrip()))
