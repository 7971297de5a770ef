"""The tunes of the composer: style, distance from real music, steering, copying, cost.

    python benchmarks/composing.py --data ../shared/data/symbolic

Each section is saved in ``docs/measured/composing.json`` when it is done, and skipped if it exists
for the same model and number of tunes. ``scripts/write_composing_results.py`` writes the page.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

import argparse
import json
import statistics as stats
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepmusic.composer import Composer, ComposerNetwork, Request
from deepmusic.composer.encoding import ATTRIBUTES
from deepmusic.composer.likelihood import likelihood, poses_before
from deepmusic.composer.sampling import write_music
from deepmusic.composer.training import encoded_sides, sample_pieces
from deepmusic.datasets import SymbolicDataset, load_styles
from deepmusic.files import write_atomically
from deepmusic.music import Grid, Key, estimate_key, midi_bytes, render, score_to_grid
from deepmusic.pretrained import load_composer
from music_statistics import MusicStatistics, distance, statistics

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "measured" / "composing.json"
BARS = 16
POSE_DRAWS = 6
COMPARED = ROOT / "runs" / "composer-no-capsules"
"""Made by ``scripts/train_composer.py --no-capsules --run runs/composer-no-capsules``; left out of
the comparison where it is not there."""
MEASURES = ("note_density", "mean_pitch", "polyphony", "note_length", "syncopation")


def grids_of(composer: Composer, style: str, seeds: Sequence[int], **options: Any) -> list[Grid]:
    """Tunes as grids, each as a user gets it."""
    grids = []
    for seed in seeds:
        request = Request(style={style: 1.0}, bars=BARS, seed=seed, allow_copies=True, **options)
        tune = composer.compose(request)
        grids.append(score_to_grid(tune.score, composer.config.steps_per_beat))
    return grids


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def classified(composer: Composer, grids: dict[str, list[Grid]]) -> dict[str, float]:
    """Percentage of the tunes of each style that the critic classifies as that style."""
    shares = {}
    for style, mine in grids.items():
        verdicts = [composer.critic.probabilities(grid) for grid in mine]
        shares[style] = stats.mean(float(max(v, key=v.__getitem__) == style) for v in verdicts)
    shares["all"] = stats.mean(shares.values())
    return {name: round(100 * share, 1) for name, share in shares.items()}


def cut(grids: Sequence[Grid], steps: int) -> list[Grid]:
    """Consecutive excerpts of this many steps."""
    excerpts = []
    for grid in grids:
        for start in range(0, grid.steps - steps + 1, steps):
            kept = (grid.onset >= start) & (grid.onset < start + steps)
            if kept.any():
                onset = grid.onset[kept] - start
                excerpts.append(
                    Grid(
                        grid.steps_per_beat,
                        steps,
                        onset,
                        np.minimum(grid.duration[kept], steps - onset),
                        grid.pitch[kept],
                        part=grid.part[kept],
                        parts=grid.parts,
                    )
                )
    return excerpts


def measure_recognition(composer: Composer, data: SymbolicDataset, tunes: int) -> dict[str, Any]:
    seeds = range(tunes)
    plain = {s: grids_of(composer, s, seeds, candidates=1) for s in composer.styles}
    best = {s: grids_of(composer, s, seeds, candidates=4) for s in composer.styles}
    real = {
        style: cut([p.grid for p in data.test if p.style == style], BARS * 16)
        for style in composer.styles
    }
    copies = {}
    for style, mine in plain.items():
        figures = [composer.copy_index.overlap(grid) for grid in mine]
        people = [r for r in composer.references[style] if r.excerpt_steps == BARS * 16]
        copies[style] = {
            name: {
                "p50": float(np.percentile([getattr(f, name) for f in figures], 50)),
                "p95": float(np.percentile([getattr(f, name) for f in figures], 95)),
                "people_p50": getattr(people[0], name).p50 if people else None,
                "people_p95": getattr(people[0], name).p95 if people else None,
            }
            for name in ("steps", "chords")
        }
    train = {
        style: cut([p.grid for p in data.train if p.style == style][:100], BARS * 16)
        for style in composer.styles
    }
    apart = {}
    for style in composer.styles:
        reference = measures(real[style])
        apart[style] = {
            "tunes": distances(measures(best[style]), reference),
            "train": distances(measures(train[style]), reference),
        }
    return {
        "without_choice": classified(composer, plain),
        "best_of_4": classified(composer, best),
        "real_test_excerpts": classified(composer, real),
        "copying": copies,
        "distance": apart,
    }


def measure_confidence(composer: Composer, data: SymbolicDataset, tunes: int) -> dict[str, Any]:
    """The critic's mean probability of the correct style."""
    rows: dict[str, dict[str, float]] = {"tunes": {}, "people": {}}
    for style in composer.styles:
        chances = []
        for seed in range(-(-tunes // 8)):
            plan = composer.plan(Request(style={style: 1.0}, bars=BARS, seed=seed))
            written = write_music(
                composer.network,
                plan,
                candidates=8,
                random=np.random.default_rng(seed),
            )
            chances += [composer.critic.probabilities(grid)[style] for grid, _ in written]
        real = cut([p.grid for p in data.test if p.style == style], BARS * 16)[:100]
        people = [composer.critic.probabilities(grid)[style] for grid in real]
        rows["tunes"][style] = round(stats.mean(chances), 3)
        rows["people"][style] = round(stats.mean(people), 3)
    return rows


def measures(grids: Sequence[Grid]) -> list[MusicStatistics]:
    return [statistics(grid, steps_per_bar=16) for grid in grids]


def distances(
    sample: Sequence[MusicStatistics], reference: Sequence[MusicStatistics]
) -> dict[str, list[float]]:
    """Shift in deviations of the reference, and overlap, of each measure."""
    return {
        name: [round(float(d.shift), 2), round(float(d.overlap), 2)]
        for name, d in distance(sample, reference).items()
    }


def measure_steering(composer: Composer, data: SymbolicDataset, tunes: int) -> dict[str, Any]:
    """The effect of poses on the music: one dimension or attribute at a time, by two deviations."""
    result: dict[str, Any] = {}
    names = [*ATTRIBUTES, *map(str, range(composer.config.pose_dim))]
    for style in composer.styles:
        index = composer.styles.index(style)
        scale = np.sqrt((composer.network.pose_spread[index] ** 2).sum(axis=1))
        rows = {}
        for name in names:
            amount = 2.0 if name in ATTRIBUTES else 2.0 * float(scale[int(name)])
            values = {}
            for sign in (-1, 1):
                request = Request(
                    style={style: 1.0}, bars=8, seed=0, pose={name: sign * amount}, metre="4/4"
                )
                plan = composer.plan(request)
                mean = composer.network.pose_mean[index] + composer.pose_shift(request.pose, index)
                poses = plan.poses.copy()
                poses[index] = mean
                written = write_music(
                    composer.network,
                    replace(plan, poses=poses, key=Key(0, False)),
                    candidates=tunes,
                    random=np.random.default_rng(0),
                )
                measured = measures([grid for grid, _ in written])
                values[sign] = {m: [getattr(f, m) for f in measured] for m in MEASURES}
            rows[name] = {m: effect(values[-1][m], values[1][m]) for m in MEASURES}
        result[style] = rows
    return result


def effect(low: list[float], high: list[float]) -> list[float]:
    """Difference of means, and the same over the pooled deviation (Cohen's d)."""
    a, b = np.array(low, float), np.array(high, float)
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if len(a) < 2 or len(b) < 2:
        return [float("nan"), float("nan")]
    pooled = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2) + 1e-9
    gain = float(b.mean() - a.mean())
    return [round(gain, 3), round(gain / float(pooled), 2)]


def measure_controls(composer: Composer, data: SymbolicDataset, tunes: int) -> dict[str, Any]:
    """How far the controls are followed."""
    result: dict[str, Any] = {}
    keys = []
    for seed in range(tunes):
        key = ("D major", "F# minor", "Bb major", "E minor")[seed % 4]
        style = composer.styles[seed % len(composer.styles)]
        (grid,) = grids_of(composer, style, [seed], key=key, candidates=1)
        keys.append(float(estimate_key(grid).name == key))
    result["key_recovered_percent"] = round(100 * stats.mean(keys), 1)
    surprise = {}
    for temperature in (0.7, 1.0, 1.3):
        nats = []
        for seed in range(tunes // 2):
            request = Request(
                style={"folk": 1.0},
                bars=8,
                seed=seed,
                temperature=temperature,
                top_p=1.0,
                candidates=1,
                allow_copies=True,
            )
            nats.append(composer.compose(request).report["nats_per_step"])
        surprise[str(temperature)] = round(stats.mean(nats), 3)
    result["nats_per_step_by_temperature"] = surprise
    mixing = {}
    for share in (0.9, 0.5, 0.1):
        chances = []
        for seed in range(tunes // 2):
            request = Request(
                style={"chorale": share, "folk": 1 - share},
                bars=8,
                seed=seed,
                candidates=1,
                allow_copies=True,
            )
            tune = composer.compose(request)
            chances.append(composer.critic.probabilities(score_to_grid(tune.score, 4)))
        mixing[str(share)] = {
            style: round(stats.mean(c[style] for c in chances), 3) for style in ("chorale", "folk")
        }
    result["critic_by_share_of_chorale"] = mixing
    endings = []
    for has_end in (True, False):
        last = []
        for seed in range(tunes // 2):
            request = Request(
                style={"folk": 1.0},
                bars=8,
                seed=seed,
                candidates=1,
                has_end=has_end,
                allow_copies=True,
                key="C major",
            )
            grid = score_to_grid(composer.compose(request).score, 4)
            ends = grid.onset + grid.duration
            final = grid.pitch[ends == ends.max()]
            last.append(float(np.isin(final % 12, (0, 4, 7)).all() and final.min() % 12 == 0))
        endings.append(round(100 * stats.mean(last), 1))
    result["ends_on_tonic_percent"] = {"with_ending": endings[0], "without": endings[1]}
    return result


def measure_likelihood(composer: Composer, data: SymbolicDataset, tunes: int) -> dict[str, Any]:
    """Test nats per step with the causal pose, that of another piece, and none."""
    sides, _ = encoded_sides(data, composer.config)
    pieces = sample_pieces(sides["test"], 16_000)
    network = ComposerNetwork.of(composer.network)
    true = [poses_before(network, piece, hop=16) for piece, _ in pieces]
    shuffled = list(true)
    for number in range(len(composer.styles)):
        mine = [n for n, piece in enumerate(pieces) if piece.style == number]
        for n, other in zip(mine, [*mine[1:], mine[0]], strict=True):
            shuffled[n] = true[other]
    prior = [network.pose_mean for _ in pieces]
    rows = {}
    for name, poses in (
        ("none", None),
        ("prior mean", prior),
        ("causal", true),
        ("shuffled", shuffled),
    ):
        scored = likelihood(network, pieces, poses=poses)
        rows[name] = rounded(scored.by_style(composer.styles))
    # the global stochastic pose: one for the piece, drawn from the prior; a bound of its likelihood
    draws = []
    random = np.random.default_rng(0)
    for _ in range(POSE_DRAWS):
        poses = []
        for _ in pieces:
            drawn = torch.from_numpy(random.standard_normal(network.pose_mean.shape)).float()
            poses.append(network.pose_mean + (network.pose_spread @ drawn.unsqueeze(2)).squeeze(2))
        scored = likelihood(network, pieces, poses=poses)
        draws.append(-scored.nats)
    bound = -(np.logaddexp.reduce(draws, axis=0) - np.log(POSE_DRAWS))
    rows[f"drawn for the piece, bound of {POSE_DRAWS}"] = rounded(
        scored._replace(nats=bound).by_style(composer.styles)
    )
    result: dict[str, Any] = {"pieces": len(pieces), "nats_per_step": rows}
    if COMPARED.exists():
        other = ComposerNetwork.of(Composer.load(COMPARED).network)
        result["compared"] = {
            "a decoder conditioned on the style's name alone": rounded(
                likelihood(other, pieces).by_style(composer.styles)
            )
        }
    return result


def measure_cost(composer: Composer, data: SymbolicDataset, tunes: int) -> dict[str, Any]:
    """Seconds of one CPU core to write music of several lengths, and sound."""
    rows = {}
    for bars in (8, 16, 32, 64, 128, 256):
        seconds = []
        for seed in range(3 if bars <= 64 else 1):
            request = Request(
                style={"chorale": 1.0}, bars=bars, seed=seed, candidates=1, allow_copies=True
            )
            began = time.process_time()
            midi_bytes(composer.compose(request).score)
            seconds.append(time.process_time() - began)
        rows[str(bars)] = round(stats.median(seconds), 3)
    sound = {}
    for style in composer.styles:
        request = Request(style={style: 1.0}, bars=32, seed=0, candidates=1, allow_copies=True)
        score = composer.compose(request).score
        seconds = []
        for _ in range(3):
            began = time.process_time()
            render(score)
            seconds.append(time.process_time() - began)
        sound[style] = round(score.seconds / stats.median(seconds))
    return {"cpu_seconds_by_bars": rows, "wav_times_real_time": sound}


SECTIONS: dict[str, tuple[Callable[[Composer, SymbolicDataset, int], dict[str, Any]], int]] = {
    "likelihood": (measure_likelihood, 0),
    "cost": (measure_cost, 0),
    "recognition": (measure_recognition, 50),
    "confidence": (measure_confidence, 32),
    "steering": (measure_steering, 12),
    "controls": (measure_controls, 24),
}
"""The measurement of each section, and its number of tunes (per style, move or setting)."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/symbolic"))
    parser.add_argument("--model", default="composer")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="comma-separated")
    parser.add_argument("--tunes", type=int, help="in place of each section's own number")
    parser.add_argument("--out", type=Path, default=MEASURED)
    options = parser.parse_args()
    torch.set_num_threads(1)
    composer = load_composer(options.model)
    results: dict[str, Any] = {}
    if options.out.exists():
        results = json.loads(options.out.read_text(encoding="utf-8"))
    data: SymbolicDataset | None = None
    for name in options.sections.split(","):
        measure, tunes = SECTIONS[name]
        tunes = options.tunes or tunes
        key = {"model": composer.digest, "tunes": tunes}
        if results.get(name, {}).get("of") == key:
            continue
        data = data or load_styles(options.data)
        began = time.monotonic()
        results[name] = {"of": key, **measure(composer, data, tunes)}
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        with write_atomically(options.out) as file:
            json.dump(results, file, indent=1)
            file.write("\n")
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
