"""``deepmusic benchmark``: our figures, measured now, next to published ones."""

from __future__ import annotations

import click

from deepmusic.cli.options import at_least, option
from deepmusic.cli.output import table_lines
from deepmusic.cli.progress import display, training_progress
from deepmusic.extras import need


@click.command()
@click.argument(
    "name", type=click.Choice(["jsb", "nottingham", "musedata", "piano-midi", "chorales"])
)
@option("--data DIR", "Folder of the data sets: polymusic, jsb ...", required=True)
@option("--seed N", "Seed of the training.", type=at_least(0), default=0)
@option("--capsules/--no-capsules", "Use a capsule memory of the past.", default=False)
def benchmark(name: str, data: str, seed: int, capsules: bool) -> None:
    """Train a composer on a public data set, and print its likelihood of the test pieces.

    Nats per step (lower is better), next to published figures. On one core jsb takes about five
    minutes, the others up to half an hour.
    """
    need("train")
    from deepmusic.datasets import load_symbolic
    from deepmusic.studies import likelihood
    from deepmusic.studies.piano_rolls import KEY_MODELS

    dataset = load_symbolic(name, data)
    with display() as screen:
        figures = likelihood.measure_composer(
            dataset, seed, capsules=capsules, on_progress=training_progress(screen)
        )
    rows: dict[str, float] = {}
    if name == likelihood.CHORALES:
        click.echo("Nats per token (a voice in a sixteenth) of the validation chorales:")
        rows |= likelihood.PUBLISHED_CHORALES
        rows["this composer"] = figures["validation"] / 4
    else:
        click.echo(f"Nats per step of the test pieces of {name}:")
        rolls = [[p.grid.roll() for p in pieces] for pieces in (dataset.train, dataset.test)]
        rows |= {model: score(*rolls) for model, score in KEY_MODELS.items()}
        index = likelihood.SETS.index(name)
        published = {model: values[index] for model, values in likelihood.PUBLISHED.items()}
        rows |= {model: value for model, value in published.items() if value is not None}
        rows["this composer"] = figures["test"]
    ordered = sorted(rows.items(), key=lambda row: -row[1])
    for line in table_lines([(model, f"{nats:.3f}") for model, nats in ordered]):
        click.echo(line)
