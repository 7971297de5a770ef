"""``deepmusic study``: all models on your own data, and FMA's table of baselines."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from deepmusic.cli.data_options import dataset_options, has_failures, load_with_progress
from deepmusic.cli.options import (
    MUSIC,
    POSITIVE,
    PROTOCOL,
    WORKERS_OR_DASK,
    at_least,
    format_option,
    option,
    output_folder,
)
from deepmusic.cli.output import printable, report, report_problems, table_lines
from deepmusic.cli.progress import display
from deepmusic.errors import counted, os_reason
from deepmusic.extras import need

if TYPE_CHECKING:
    from deepmusic.datasets.splits import Protocol
    from deepmusic.store import Store
    from deepmusic.studies.data import Need, StudyData
    from deepmusic.studies.fma_table import Cell, Task
    from deepmusic.studies.plan import StudyPlan


_GROUPS = {
    "tables": ("features",),
    "textures": ("textures",),
    "ear": ("ear",),
    "networks": ("segments",),
    "averages": ("hybrid", "average"),
}


@click.command(no_args_is_help=True)
@MUSIC
@dataset_options
@option(
    "--out STUDY",
    "Folder for results and report; created if missing.",
    default="study",
    callback=output_folder,
)
@option(
    "--models NAMES",
    "Comma-separated names; tables, textures, ear, networks, averages and all are groups.",
    name="names",
    default="all",
)
@option("--folds K", "Folds per seed.  [default: 5; an official split is one]", type=at_least(2))
@option(
    "--seeds N",
    "Seeds 0 to N-1; each assigns the artists to different folds.",
    type=at_least(1),
    default=5,
)
@PROTOCOL
@option(
    "--sizes SHARES",
    "Shares of the tracks that quick models are also trained on; 1 for none.",
    default="0.25,0.5,1",
)
@option(
    "--features TABLE", "Feature table of the tracks, from 'features extract'.  [default: computed]"
)
@option(
    "--cache DIR",
    "Where features and spectrograms are kept.  [default: STUDY/cache]",
    callback=output_folder,
)
@WORKERS_OR_DASK
@option("--budget MINUTES", "Start no job later than this; run again for the rest.", type=POSITIVE)
@click.pass_context
def genres(
    ctx: click.Context,
    /,
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
    **options: Any,
) -> None:
    """Train and compare models of music genres, and write one report.

    Every model on every fold of every seed is a job, stored in STUDY/results.db when it is done:
    run again after an interruption to do the rest. STUDY gets report.html, report.md, table.csv and
    pictures. The table of models goes to standard output. Exit status: 0 all well, 1 some tracks or
    models failed, 2 wrong usage, 130 interrupted.
    """
    need("study")
    if protocol == "official" and folds is not None:
        raise click.UsageError("An official split is as it was published; omit --folds.")
    study = Path(out)

    from deepmusic.classifier.data import check_division
    from deepmusic.datasets import make_folds
    from deepmusic.datasets.coding import dataset_coding
    from deepmusic.files import make_folder, write_json
    from deepmusic.studies.data import load_study_data
    from deepmusic.studies.jobs import open_results, pool_ensembles
    from deepmusic.studies.models import MODELS, TABLE_KINDS
    from deepmusic.studies.plan import StudyConfig, plan_study

    trained, ensembles = _chosen_models(names)
    config = StudyConfig(trained, ensembles, protocol, folds or 5, seeds, _shares(sizes))
    kinds = {MODELS[name].kind for name in config.models}
    if not kinds <= set(TABLE_KINDS):
        need("train")
    loaded = load_with_progress(data, options)
    if protocol == "official":
        loaded.official_split()
    else:
        divide = partial(make_folds, folds=config.folds, seed=0, protocol=protocol)
        check_division(divide, loaded.dataset)
    try:
        study.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--out: {study} cannot be created: {os_reason(error)}.") from error
    needs: list[Need] = ["columns"] if "features" in kinds else []
    needs += ["spectrograms"] if kinds & {"textures", "segments"} else []
    needs += ["ear"] if "ear" in kinds else []
    kept = make_folder(cache or study / "cache")
    with display() as screen:
        studied = load_study_data(
            loaded,
            cache=kept,
            needs=needs,
            features=features,
            finds_copies=protocol == "grouped",
            workers=workers,
            dask=dask,
            on_progress=lambda stage, done, total: screen.advance(done, total, stage),
        )
    coding = dataset_coding(studied.dataset, cache=kept / "codings.db", workers=workers)
    report_problems(studied.dataset.problems, studied.dataset.notes, coding=coding)
    write_json(study / "coding.json", coding.to_dict())
    plan = plan_study(studied, config, MODELS, official=loaded.official_split)
    if protocol == "random":
        click.echo("Random folds leak artists and copies: all figures will be too good.", err=True)
    run = {"workers": workers, "dask": dask, "seconds": None if budget is None else 60 * budget}
    failures: dict[str, str] = {}
    with open_results(study) as store:
        try:
            _run(studied, plan, study, store, failures, run)
            is_interrupted = False
        except KeyboardInterrupt:
            is_interrupted = True
            click.echo("Interrupted; the report is written from what is done.", err=True)
        pool_ensembles(plan, store)
        about, explains = (loaded.about, coding.summary), not is_interrupted
        _write(studied, plan, study, store, failures=failures, about=about, explains=explains)
    if is_interrupted:
        raise KeyboardInterrupt
    has_problems = has_failures(loaded) or len(studied.labels) < len(loaded.dataset.tracks)
    ctx.exit(1 if failures or has_problems else 0)


def _chosen_models(names: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The models to train, and the hybrids and averages to pool from these."""
    from deepmusic.studies.ensembles import PARTS
    from deepmusic.studies.models import MODELS, model_named

    chosen: set[str] = set()
    for word in filter(None, (word.strip() for word in names.split(","))):
        if word == "all":
            chosen |= _all_models()
        elif word in _GROUPS:
            chosen |= {name for name, model in MODELS.items() if model.kind in _GROUPS[word]}
        else:
            chosen.add(model_named(word).name)
    if not chosen:
        raise click.UsageError("--models: name at least one model.")
    if any(MODELS[name].kind == "ear" for name in chosen):
        from deepmusic.classifier.ear import read_ear

        read_ear()  # refuses in one sentence, before any work
    ensembles = tuple(n for n in MODELS if n in chosen and MODELS[n].kind in _GROUPS["averages"])
    parts = {part for name in ensembles for part in PARTS[name]}
    trained = tuple(n for n in MODELS if n in (chosen | parts) and n not in ensembles)
    if added := [name for name in trained if name not in chosen]:
        click.echo(f"Also trained, as parts of averages: {', '.join(added)}.", err=True)
    return trained, ensembles


def _all_models() -> set[str]:
    """All models, without those of the pretrained ear where it is not installed."""
    from deepmusic.classifier.ear import has_ear
    from deepmusic.studies.models import MODELS

    names = set(MODELS) if has_ear() else {n for n, m in MODELS.items() if m.kind != "ear"}
    if left_out := [name for name in MODELS if name not in names]:
        click.echo(
            f"Left out, as the pretrained ear is not installed: {', '.join(left_out)}; run: "
            "deepmusic ear install.",
            err=True,
        )
    return names


def _shares(sizes: str) -> tuple[float, ...]:
    try:
        return tuple(float(share) for share in sizes.split(",") if share.strip())
    except ValueError:
        raise click.UsageError(
            f"--sizes: {sizes} is not a list of shares; give numbers such as 0.25,0.5,1."
        ) from None


def _run(
    data: StudyData,
    plan: StudyPlan,
    study: Path,
    store: Store,
    failures: dict[str, str],
    options: dict[str, Any],
) -> None:
    """Do the jobs that are left, and collect a sentence by key of each job that fails."""
    from deepmusic.studies.jobs import run_jobs

    left = sum(key not in store for key in plan.by_key)
    if left < len(plan.by_key):
        done = len(plan.by_key) - left
        click.echo(f"{done} jobs are already done, {left} are left.", err=True)
    skipped = 0
    with display(left, unit="jobs") as screen:
        for result in run_jobs(data, plan, study, store, **options):
            job = plan.by_key[result.path]
            skipped += result.is_skipped
            if result.error and result.error not in failures.values():
                screen.report(printable(f"{job.display_name}: {result.error}"))
            if result.error:
                failures[result.path] = result.error
            screen.advance(note=job.model)
    if skipped:
        click.echo(f"{skipped} jobs did not start in time; run again for them.", err=True)


def _write(data: StudyData, plan: StudyPlan, study: Path, store: Store, **options: Any) -> None:
    """Write the report, and print its tables."""
    from deepmusic.studies.report_files import write_report
    from deepmusic.studies.report_pages import leak_table, model_table

    with display() as screen:
        written = write_report(data, plan, store, study, on_progress=screen.advance, **options)
    for table in (model_table(written), leak_table(written)):
        if table.rows:
            for line in table_lines((table.head, *table.rows)):
                click.echo(line)
    for sentence in written.missing:
        report(f"missing: {sentence}")
    report(f"{study / 'report.html'}: {counted(len(written.rows), 'model')}.")


@click.command("fma-baselines", no_args_is_help=True)
@option(
    "--data FMA_DIR",
    "The folder that holds fma_metadata or fma_metadata.zip, or either of them.",
    required=True,
)
@option("--subset [small|medium|large]", "Published scores are of medium.", default="medium")
@option(
    "--out DIR",
    "Where finished cells and the tables are kept; made if needed.",
    default="fma-baselines",
    callback=output_folder,
)
@option("--models NAMES", "Classifiers, comma-separated.", default="lr,knn,svm,mlp")
@option(
    "--sets NAMES",
    "Feature sets, comma-separated: a family (mfcc), a combination (mfcc/contrast), all, "
    "families of your choice (mfcc+zcr), or Echonest's (echonest_audio).  [default: the 18 of the "
    "notebook]",
)
@option(
    "--task [single|multi|both]",
    "The top genre of each track, or all its genres.",
    default="single",
)
@option("--seed N", "Seed of the perceptron's initial weights.", type=at_least(0), default=0)
@WORKERS_OR_DASK
@format_option("text", "markdown", "csv")
@click.pass_context
def fma_baselines(
    ctx: click.Context,
    *,
    data: str,
    subset: str,
    out: str,
    models: str,
    sets: str | None,
    task: Literal["single", "multi", "both"],
    seed: int,
    workers: int,
    dask: str | None,
    form: str,
) -> None:
    """Compute FMA's table of baselines, each accuracy beside the published one.

    Needs the tables of fma_metadata, no audio. Each pair of a feature set and a classifier is kept
    in DIR when it is finished; run again after an interruption to compute the rest. DIR gets
    table.md and table.csv. Exit status: 0 success, 1 some pairs failed, 2 wrong usage.
    """
    need("study")
    from deepmusic.datasets.fma import read_fma
    from deepmusic.files import write_atomically
    from deepmusic.studies.feature_sets import FEATURE_SETS
    from deepmusic.studies.fma_baselines import reproduce
    from deepmusic.studies.fma_table import csv_table, markdown, plain_text

    tasks: tuple[Task, ...] = ("single", "multi") if task == "both" else (task,)
    fma = read_fma(data)
    with display(unit="cells") as screen:

        def on_cell(cell: Cell, done: int, total: int, was_done: bool) -> None:
            if not was_done:
                screen.report(printable(f"{done} of {total}  {_cell_summary(cell)}"))
            screen.advance(done, total)

        table = reproduce(
            fma,
            out,
            subset=subset,
            sets=tuple(FEATURE_SETS) if sets is None else _split_names(sets),
            models=_split_names(models),
            tasks=tasks,
            seed=seed,
            workers=workers,
            dask=dask,
            on_cell=on_cell,
        )
    report_problems((), fma.notes)
    texts = {"text": plain_text(table), "markdown": markdown(table), "csv": csv_table(table)}
    for name, text in {"table.md": texts["markdown"], "table.csv": texts["csv"]}.items():
        with write_atomically(Path(out) / name) as file:
            file.write(text)
    click.echo(texts[form], nl=False)
    failed = sum(bool(cell.error) for cell in table.cells)
    if failed:
        click.echo(f"{failed} of {len(table.cells)} cells of the table failed.", err=True)
    ctx.exit(1 if failed else 0)


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _cell_summary(cell: Cell) -> str:
    if cell.accuracy is None:
        return cell.error
    published = "" if cell.published is None else f", published {cell.published:.1%}"
    return f"{cell.features} {cell.model}: {cell.accuracy:.1%}{published}, {cell.seconds:.0f} s"
