"""Trains the composer that ships with the package, and writes its card.

    python scripts/train_composer.py --data ../shared/data/symbolic

Half an hour to an hour of one core; a run that was stopped goes on. What the model writes is
measured by ``benchmarks/composing.py``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same weights on any number of cores

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from deepmusic.composer import Composer, ComposerConfig, train_composer
from deepmusic.composer.training import DEFAULT_TRAINING
from deepmusic.datasets import load_styles
from deepmusic.datasets.symbolic import STYLES
from deepmusic.files import write_atomically
from deepmusic.pretrained import MODELS

CARD = """# The shipped composer

A capsule network that listens and a decoder that writes: {parameters:,} parameters, with its judge
and its index of the training music {size_mb:.1f} MB. It writes music in the styles {styles}.

## Trained on

{data}

Pieces were moved to C major or A minor. Trained by `scripts/train_composer.py` with seed {seed}, on
one CPU core; data fingerprint `{fingerprint}`. The pieces of each style were divided into training,
validation and test; the test pieces were never learned from.

## How well it foretells test pieces

Nats a step (a sixteenth), given the length of the piece; less is better. The pose is routed every
four beats from the past alone.

| style | without a pose | causal pose |
|---|---|---|
{likelihoods}

The longest style capsule is that of the right style for {accuracy:.1%} of the test pieces. What it
writes is measured in `docs/composing-results.md`.

## What it cannot do

- It knows four narrow styles. Its folk is dance tunes of the British Isles and America with chord
  symbols; its pop is piano arrangements of Chinese pop songs; its classical is piano music on a
  grid of eighths, without repeated notes, from performances that someone sequenced.
- No dynamics, no pedal, no change of tempo or metre; loudness follows the bar.
- In its chorales a note that is struck again is held: the data do not tell the two apart. Bars of
  chorales, pop songs and piano pieces were estimated, and are not always the composers'.
- Steps are sixteenths: no triplets, no ornaments.
- A tune may wander: nothing in it plans further than bars, repeats and the end.

## Licences of what it learned from

- Chorales by J. S. Bach (JSB Chorales, C. Z. Huang): public domain music, no licence file.
- Nottingham folk tunes (jukedeck's cleaned version): GPL-3.
- POP909: MIT for the data set; the songs themselves are under copyright.
- Piano-midi.de (in the version of Boulanger-Lewandowski et al. 2012): CC BY-SA (Germany).

None of these files is in the repository or the package; the index of the training music holds
hashes of passages, not the music. Whether a model inherits its data's licence is not settled
law. If you need certainty, train on music of your own: `deepmusic train composer --data DIR`.
"""

SOURCES = {
    "chorale": "Bach chorales, four voices",
    "folk": "Nottingham folk tunes, melody and chords",
    "pop": "POP909 songs that fit a grid of sixteenths: melody, second melody, piano",
    "classical": "piano pieces of Piano-midi.de",
}


def card(composer: Composer, size: int) -> str:
    """The model card."""
    trained: dict[str, Any] = dict(composer.card)
    test = trained["metrics"]["test"]
    lines = [
        f"- {name}: {SOURCES[name]}; {composer.cards[name].pieces} training pieces"
        for name in composer.styles
    ]
    rows = [
        f"| {name} | {test['without_pose'][name]:.2f} | {test['causal_pose'][name]:.2f} |"
        for name in composer.styles
    ]
    return CARD.format(
        parameters=sum(p.numel() for p in composer.network.parameters()),
        size_mb=size / 1e6,
        styles=", ".join(composer.styles),
        data="\n".join(lines),
        seed=trained["training"]["seed"],
        fingerprint=trained["data"],
        likelihoods="\n".join(rows),
        accuracy=test["style_accuracy"],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/symbolic"))
    parser.add_argument("--run", type=Path, default=Path("runs/composer"))
    parser.add_argument(
        "--no-capsules",
        action="store_true",
        help="train one that is told the style's name alone, to compare; it is not shipped",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = None
    if arguments.no_capsules:
        config = ComposerConfig(styles=tuple(STYLES), parts=4, capsules=False)
    trained = train_composer(
        load_styles(arguments.data),
        arguments.run,
        config=config,
        training=DEFAULT_TRAINING,
        resume=arguments.run.exists(),
        on_progress=lambda progress: (
            print(progress.record, file=sys.stderr) if progress.record else None
        ),
    )
    if arguments.no_capsules:
        print(trained.metrics)
        return 0
    weights = MODELS["composer"]
    weights.parent.mkdir(exist_ok=True)
    shutil.copyfile(arguments.run / "model.safetensors", weights)
    text = card(trained.composer, weights.stat().st_size)
    with write_atomically(weights.with_suffix(".md")) as file:
        file.write(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
