"""Train the shipped composer and write its model card.

    python scripts/train_composer.py --data ../shared/data/symbolic

Takes half an hour to an hour on one core; an interrupted run resumes. ``benchmarks/composing.py``
measures the tunes.
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

from deepmusic.composer import Composer, ComposerConfig, ComposerNetwork, train_composer
from deepmusic.composer.training import DEFAULT_TRAINING
from deepmusic.datasets import load_styles
from deepmusic.datasets.symbolic import STYLES
from deepmusic.files import write_atomically
from deepmusic.pretrained import MODELS

CARD = """# The shipped composer

A capsule encoder and a decoder: {parameters:,} parameters, with its style
critic and its index of the training music {size_mb:.1f} MB. It writes music in the styles {styles}.

## Trained on

{data}

Pieces were transposed to C major or A minor. Trained by `scripts/train_composer.py` with seed
{seed}, on one CPU core; data digest `{fingerprint}`. The pieces of each style were divided into
training, validation and test; the test pieces were not trained on.

## Likelihood of test pieces

Nats per step (a sixteenth), given the length of the piece; lower is better. The pose is routed
every four beats from the past alone.

| style | without a pose | causal pose |
|---|---|---|
{likelihoods}

The longest style capsule is that of the correct style for {accuracy:.1%} of the test pieces. Its
tunes are evaluated in `docs/composing-results.md`.

## What it cannot do

- It knows four narrow styles. Its folk is dance tunes of the British Isles and America with chord
  symbols; its pop is piano arrangements of Chinese pop songs; its classical is piano music on a
  grid of eighths, without repeated notes, from performances that someone sequenced.
- No dynamics, no pedal, no change of tempo or metre; loudness follows the bar.
- In its chorales a repeated note is sustained: the data do not distinguish the two. Bars of
  chorales, pop songs and piano pieces were estimated, and are not always the composers'.
- Steps are sixteenths: no triplets, no ornaments.
- A tune may wander: it plans no further than bars, repeats and the end.

## Licences of the training data

- Chorales by J. S. Bach (JSB Chorales, C. Z. Huang): public domain music, no licence file.
- Nottingham folk tunes (jukedeck's cleaned version): GPL-3.
- POP909: MIT for the data set; the songs themselves are under copyright.
- Piano-midi.de (in the version of Boulanger-Lewandowski et al. 2012): CC BY-SA (Germany).

None of these files is in the repository or the package; the index of the training music holds
hashes of passages, not the music. Whether a model inherits its data's licence is not settled
law. If you need certainty, train on your own music: `deepmusic train composer --data DIR`.
"""

SOURCES = {
    "chorale": "Bach chorales, four voices",
    "folk": "Nottingham folk tunes, melody and chords",
    "pop": "POP909 songs that fit a grid of sixteenths: melody, second melody, piano",
    "classical": "piano pieces of Piano-midi.de",
}


def model_card(composer: Composer, size: int) -> str:
    """The model card."""
    trained: dict[str, Any] = dict(composer.training)
    test = trained["metrics"]["test"]
    lines = [
        f"- {name}: {SOURCES[name]}; {composer.profiles[name].pieces} training pieces"
        for name in composer.styles
    ]
    rows = [
        f"| {name} | {test['without_pose'][name]:.2f} | {test['causal_pose'][name]:.2f} |"
        for name in composer.styles
    ]
    return CARD.format(
        parameters=sum(p.numel() for p in ComposerNetwork(composer.config).parameters()),
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
        help="train one conditioned on the style's name alone, for comparison",
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
    text = model_card(trained.composer, weights.stat().st_size)
    with write_atomically(weights.with_suffix(".md")) as file:
        file.write(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
