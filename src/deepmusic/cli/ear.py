"""``deepmusic ear install``: the weights of the pretrained ear, into the user's cache."""

from __future__ import annotations

import click

from deepmusic.cli.options import option
from deepmusic.cli.output import printable


@click.command()
@option("--wheel FILE", "The wheel of musicnn 0.1.0, where pip or the network is missing.")
def install(wheel: str | None) -> None:
    """Install the pretrained ear: seventeen genres and fifty tags in place of four genres.

    pip downloads musicnn 0.1.0 (29 MB, ISC licence) once and checks its hash; 2.4 MB of it are
    kept in the cache folder, or in that of the environment variable DEEPMUSIC_CACHE. Nothing is
    downloaded where they are there already.
    """
    from deepmusic.classifier.ear.install import ear_path, ear_weights, install_ear
    from deepmusic.errors import CheckpointError

    try:
        ear_weights()
    except CheckpointError:
        install_ear(wheel)
    click.echo(f"The ear is in {printable(str(ear_path()))}; its licence is beside it.")
