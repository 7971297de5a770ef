"""Write docs/results.md, and the figures in README.md, from the results of the benchmarks.

    python benchmarks/classify.py                                   # -> docs/measured/classify.json
    python benchmarks/log_mel.py --json docs/measured/log_mel.json
    python benchmarks/decoding.py --json docs/measured/decoding.json
    python scripts/write_results.py [--genres runs/genres/results.jsonl ...]

``--genres`` imports results of ``benchmarks/genres.py``, rounded, as docs/measured/genres.jsonl;
``--study`` the table that ``deepmusic study genres`` wrote, as docs/measured/study.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.classifier.evaluation import calibration_error, coverage_curve
from deepmusic.files import write_atomically
from deepmusic.studies.comparison import paired_difference, score

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from docs_page import with_parts  # noqa: E402

FEATURE_MODELS = ("majority", "logistic", "svc", "boosting", "forest", "lda", "knn")
SHIPPED, PLAIN = "capsules", "cnn"
NETWORKS = {
    SHIPPED: "the small model, without the ear: position and texture capsules, routed to genres, "
    "averaged with networks of textures alone",
    "capsules-networks": "without the networks of textures alone",
    "capsules-position": "without textures",
    "capsules-texture": "textures alone, no convolutions",
    "capsules-uniform": "with uniform couplings: no routing",
    PLAIN: "plain CNN: the same stem, budget and training, no capsules, no textures",
    "cnn-texture": "the plain CNN with textures as additional input",
}
MISSING = "Not measured yet.\n"
Result = dict[str, Any]


def read_lines(path: Path) -> list[Result]:
    """The records of a file of JSON lines; none if it is missing."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def read_json(path: Path) -> dict[str, Any]:
    """The record of a JSON file, or an empty one if it is missing."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return record


def short(row: Sequence[float]) -> list[float]:
    """Probabilities to three decimals; the most probable genre stays so."""
    rounded = [round(value, 3) for value in row]
    first = int(np.argmax(row))
    if int(np.argmax(rounded)) != first:
        rounded[first] = round(max(rounded) + 0.001, 3)
    return rounded


def take_over(sources: Iterable[Path], path: Path) -> None:
    """Merge results of ``benchmarks/genres.py``; later lines replace earlier ones."""
    merged = {}
    for result in (result for source in sources for result in read_lines(source)):
        rows = {track: short(row) for track, row in result["probabilities"].items()}
        key = result["model"], result["seed"], result["fold"]
        merged[key] = {**result, "probabilities": rows}
    with write_atomically(path) as file:
        for result in merged.values():
            file.write(json.dumps(result, separators=(",", ":")) + "\n")


def check_folds(results: Sequence[Result]) -> None:
    """Check that all models have the same folds.

    Raises:
        SystemExit: they do not.
    """
    marks: dict[tuple[int, int], str] = {}
    for r in results:
        if marks.setdefault((r["seed"], r["fold"]), r["fold_mark"]) != r["fold_mark"]:
            raise SystemExit(
                f"{r['model']}, seed {r['seed']}: its folds differ from those of the others"
            )


def tracks_of(results: Sequence[Result]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (tracks, genres) and labels (tracks,) of some folds."""
    genres = results[0]["genres"]
    rows = [row for result in results for row in result["probabilities"].values()]
    labels = [genres.index(genre) for result in results for genre in result["truth"]]
    return np.array(rows), np.array(labels)


def per_cent(values: Sequence[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def claims(results: Sequence[Result]) -> tuple[float, float]:
    """Share of tracks that get a genre at each fold's own threshold, and accuracy among them."""
    claimed = right = tracks = 0
    for result in results:
        rows, labels = tracks_of([result])
        sure = rows.max(axis=1) >= result["threshold"]
        claimed += int(sure.sum())
        right += int((rows.argmax(axis=1) == labels)[sure].sum())
        tracks += len(labels)
    return claimed / tracks, right / max(claimed, 1)


def best_feature_model(by_model: dict[str, list[Result]]) -> str | None:
    names = [name for name in by_model if name in FEATURE_MODELS]
    return max(names, key=lambda name: np.mean(score(by_model[name]).accuracy), default=None)


def genre_section(by_model: dict[str, list[Result]]) -> str:
    """The table of models."""
    if not by_model:
        return MISSING
    results = [result for found in by_model.values() for result in found]
    check_folds(results)
    reference = SHIPPED if SHIPPED in by_model else next(iter(by_model))
    seeds = {result["seed"] for result in results}
    tracks = sum(r["tracks"] for r in by_model[reference] if r["seed"] == min(seeds))
    most = max(map(len, by_model.values()))
    text = markdown_table(results, list(by_model), reference)
    text += f"""
{tracks} tracks, {len(results[0]["genres"])} genres, {len(seeds)} seeds. Each seed divides the
artists into different folds; all models get the same folds, and no artist is on two sides.
Accuracy, macro-F1 and recall in percent of tracks: the folds of a seed are scored together, and
the table shows mean and standard deviation over seeds. The difference is paired by fold, with the
95 % interval and p of the corrected resampled t-test (Nadeau and Bengio 2003); since folds of
several seeds share tracks, it is wider than the spread over seeds. Networks stop by validation
tracks; models of features learn from all but the test tracks. Parameters and seconds are medians
over folds, without the time for features and spectrograms.

"""
    text += "".join(f"- `{name}`: {NETWORKS[name]}.\n" for name in by_model if name in NETWORKS)
    features = ", ".join(f"`{name}`" for name in by_model if name in FEATURE_MODELS)
    if features:
        text += f"- {features}: scikit-learn on the 518 feature columns of FMA, by librosa.\n"
    for name, found in by_model.items():
        if len(found) < most:
            text += (
                f"\n`{name}` was run on {len(found)} of {most} folds only: compare it by the "
                "paired difference, not by its accuracy.\n"
            )
    return text


def targets_section(by_model: dict[str, list[Result]]) -> str:
    """The targets set before the measurements, and whether they were met."""
    if SHIPPED not in by_model:
        return MISSING
    ours = score(by_model[SHIPPED])
    reached = float(np.mean(ours.accuracy))
    minutes = statistics.median(r["seconds"] for r in by_model[SHIPPED]) / 60
    rows = [
        (
            "accuracy of the small model",
            f"{100 * reached:.1f} %",
            "at least 68 %",
            reached >= 0.68,
        )
    ]
    for name in (PLAIN, best_feature_model(by_model)):
        if name in by_model:
            theirs = score(by_model[name]).folds
            gain = paired_difference(ours.folds, theirs, overlap=0.25).mean
            what = f"accuracy against `{name}`, same folds"
            rows.append((what, f"{100 * gain:+.1f} points", "above", gain > 0))
    rows.append(
        ("training one fold, one thread", f"{minutes:.1f} min", "at most 5 min", minutes <= 5)
    )
    return rendered(
        ["what", "measured", "target", ""], [[*row[:3], verdict(row[3])] for row in rows]
    )


def coverage_section(by_model: dict[str, list[Result]]) -> str:
    """Coverage against accuracy, and calibration."""
    rows = []
    for name, found in by_model.items():
        seeds = sorted({r["seed"] for r in found})
        errors = [
            calibration_error(*tracks_of([r for r in found if r["seed"] == s])) for s in seeds
        ]
        row = [f"`{name}`", per_cent(score(found).accuracy), f"{100 * np.mean(errors):.1f}"]
        if all(r.get("threshold") is not None for r in found):
            covered, right = claims(found)
            threshold = statistics.mean(r["threshold"] for r in found)
            row += [f"{100 * value:.1f}" for value in (threshold, covered, right)]
        rows.append([*row, *[""] * (6 - len(row))])
    if not rows:
        return MISSING
    head = ["model", "accuracy", "calibration error", "threshold", "tracks with a genre"]
    text = rendered([*head, "accuracy among them"], rows)
    text += """
All in percent, on test tracks. The threshold below which a track is *unsure* is fitted in each fold
on validation tracks, to maximize right minus wrong answers; the table shows its mean. That of the
small model, fitted in the same way on all tracks, is in its card.
Calibration error: mean gap between confidence and accuracy, in ten bins of equal count.
"""
    if SHIPPED in by_model:
        columns = (("threshold", 0), ("coverage", 1), ("accuracy", 1))
        levels = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
        curve = [
            [f"{100 * point[name]:.{digits}f}" if name in point else "" for name, digits in columns]
            for point in coverage_curve(*tracks_of(by_model[SHIPPED]), levels)
        ]
        text += f"\n`{SHIPPED}` at other thresholds, over all seeds:\n\n"
        text += rendered(["threshold", "tracks with a genre", "accuracy among them"], curve)
    return text


def renew_study(table: Path, ours: Path) -> None:
    """Take over a table of the study; rows of models that it lacks stay, marked as earlier."""
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    done = {(row["model"], row["protocol"]) for row in rows}
    if ours.is_file():
        with open(ours, encoding="utf-8", newline="") as file:
            rows += [
                {**row, "earlier": "yes"}
                for row in csv.DictReader(file)
                if (row["model"], row["protocol"]) not in done
            ]
    rows.sort(key=lambda row: -float(row["accuracy"]))
    with write_atomically(ours) as file:
        writer = csv.DictWriter(file, list(dict.fromkeys([*rows[0], "earlier"])))
        writer.writeheader()
        writer.writerows(rows)


def study_section(path: Path) -> str:
    """The table of ``deepmusic study genres``."""
    if not path.is_file():
        return MISSING
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    models = [row for row in rows if row["protocol"] == "grouped"]
    leaking = [row for row in rows if row["protocol"] == "random"]
    counted = Counter(row["reference"] for row in models if row["reference"])
    reference = counted.most_common(1)[0][0] if counted else ""

    def share(row: dict[str, str], name: str) -> str:
        return f"{100 * float(row[name]):.1f}" if row[name] else ""

    def difference(row: dict[str, str]) -> str:
        if not row["difference"]:
            return ""
        text = f"{100 * float(row['difference']):+.1f}"
        if row["difference_low"]:  # of the same folds
            ends = (row[name] for name in ("difference_low", "difference_high"))
            text += f" [{', '.join(f'{100 * float(end):+.1f}' for end in ends)}]"
        if row["protocol"] == "grouped" and row["reference"] != reference:
            text += f" to {row['reference']}"
        return text

    text = rendered(
        [
            "model", "accuracy", "± seeds", "macro-F1", "pop+rock merged",
            f"difference to {reference}", "calibration error", "parameters",
            "training, s", "jobs",
        ],
        [
            [
                row["model"] + (" °" if row.get("earlier") else ""),
                share(row, "accuracy"),
                share(row, "accuracy_sd_seeds"),
                share(row, "macro_f1"),
                share(row, "pop_rock_merged"),
                difference(row),
                share(row, "calibration_error"),
                f"{float(row['parameters']):,.0f}",
                f"{float(row['training_s']):.1f}",
                f"{row['jobs']} of {row['wanted']}",
            ]
            for row in models
        ],
    )  # fmt: skip
    text += """
`deepmusic study genres --data emotify`, percent of tracks; 5 folds, the same for all, grouped by
artist, album and copy. A model with missing jobs was not run on all seeds: its figure is less
certain, and has no interval against models of other folds. `ear-*` learn from what the [pretrained
ear](study.md#models) gives, whose own parameters neither learn nor count. `capsules` is the design
without the ear; all other networks have the same number of parameters within a tenth, the same
segments, augmentation and 35 epochs ([networks](study-networks.md)); the hyper-parameters of
[models of features](baselines.md) are searched within the training tracks. `textures-*` are
scikit-learn models of the statistics that `capsules` reads. The source of these clips tags most pop
and most rock alike, as "Alternative Rock"; *pop+rock merged* is the accuracy with both counted as
one genre.
"""
    if any(row.get("earlier") for row in models):
        text += (
            "\n° From an earlier run on the same folds, whose own `capsules` are the reference.\n"
            "Training times of the other rows are from a busy machine.\n"
        )
    if leaking:
        text += "\nWith random folds, where artists are on both sides:\n\n"
        text += rendered(
            ["model", "random folds", "more than with grouped folds"],
            [[row["model"], share(row, "accuracy"), difference(row)] for row in leaking],
        )
    return text


def study_targets(table: Path, cost: dict[str, Any]) -> str:
    """The targets of the study set before the measurements, and whether they were met."""
    rows: list[tuple[str, str, str, bool]] = []
    if table.is_file():
        with open(table, encoding="utf-8", newline="") as file:
            found = {r["model"]: r for r in csv.DictReader(file) if r["protocol"] == "grouped"}
        whole = {
            n: 100 * float(r["accuracy"]) for n, r in found.items() if r["jobs"] == r["wanted"]
        }
        if SHIPPED in whole:
            best = max(whole, key=lambda name: whole[name])
            ours = max((n for n in whole if "capsules" in n), key=lambda name: whole[name])
            gap = whole[ours] - whole[best]
            rows += [
                (
                    f"`{SHIPPED}`, one file",
                    f"{whole[SHIPPED]:.1f} %",
                    "aim: 72 %",
                    whole[SHIPPED] >= 72,
                ),
                (f"best with capsules, `{ours}`", f"{whole[ours]:.1f} %", "the first", gap == 0),
            ]
        equals = [name for name in whole if name.startswith("capsules-")]
        if equals and PLAIN in whole:
            best = max(equals, key=lambda name: whole[name])
            gain = whole[best] - whole[PLAIN]
            what = f"`{best}` against `{PLAIN}` of equal size"
            rows.append((what, f"{gain:+.1f} points", "above", gain > 0))
    if "whole" in cost:
        minutes, jobs = cost["whole"]["minutes"], cost["whole"]["jobs"]
        what = f"all models of features, {jobs} jobs, two workers"
        rows.append((what, f"{minutes:.1f} min", "at most 10 min", minutes <= 10))
    if "workers" in cost:
        times = cost["workers"]["times"]
        rows.append(("two workers against one", f"{times:.2f} times", "at least 1.7", times >= 1.7))
    if not rows:
        return ""
    return rendered(
        ["what", "measured", "target", ""], [[*row[:3], verdict(row[3])] for row in rows]
    )


def speed_section(measured: dict[str, Any]) -> str:
    """Time and memory, with the targets."""
    if not measured:
        return MISSING
    rows = []
    for part in measured["parts"].values():
        for figure in part["figures"]:
            result = verdict(figure["met"]) if "met" in figure else ""
            value = f"{figure['value']:.3g} {figure['unit']}".strip()
            rows.append([figure["what"], value, figure.get("target", ""), result])
    text = rendered(["what", "measured", "target", ""], rows)
    when = " ".join(filter(None, [measured.get("date"), measured.get("state")]))
    text += f"\nBy `benchmarks/classify.py`, {when or 'undated'}: {measured['machine']}. "
    text += f"Model `{measured['model'][:12]}`.\n"
    if not measured["is_shipped"]:
        text += "This is not the shipped model.\n"
    busy = {
        name: measured["parts"][name]["load_before"]
        for name in ("start", "jobs")
        if measured["parts"].get(name, {}).get("load_before", 0) > 0.5
    }
    if busy:
        loads = ", ".join(f"`{name}` {load}" for name, load in busy.items())
        text += f"The machine was not idle before these parts (load {loads}).\n"
    return text


def parts_section(log_mel: dict[str, Any], decoding: dict[str, Any]) -> str:
    """Log-mel and decoding, compared with librosa."""
    text = ""
    if log_mel:
        rows = [[name, f"{ms:.1f}"] for name, ms in log_mel["ms"].items()]
        text += f"Log-mel spectrogram of {log_mel['seconds']:g} s, CPU time on one thread; largest "
        text += f"difference from librosa {log_mel['largest_difference_db']:.1e} dB:\n\n"
        text += rendered(["by", "ms"], rows) + "\n"
    if decoding:
        rows = [[stage, f"{ms:.1f}"] for stage, ms in decoding["ms"].items()]
        text += "Decoding a 30 s mp3 to mono at 22,050 Hz, CPU time on one thread:\n\n"
        text += rendered(["stage", "ms"], rows)
    return text or MISSING


def markdown_table(results: Sequence[Result], names: Sequence[str], reference: str) -> str:
    """The results as a table in Markdown, the best model first."""
    by_model = {name: [r for r in results if r["model"] == name] for name in names}
    scores = {name: score(records) for name, records in by_model.items() if records}
    genres = results[0]["genres"]
    overlap = sum(r["tracks"] for r in results) / sum(r["trained_on"] for r in results)
    merged = {"pop", "rock"} <= set(genres)
    head = ["model", "accuracy", "macro-F1", *genres, *(["pop+rock merged"] if merged else [])]
    head += [f"difference to {reference}", "p", "parameters", "s per fold", "jobs"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, ours in sorted(scores.items(), key=lambda item: -np.mean(item[1].accuracy)):
        spread = f" ± {100 * np.std(ours.accuracy, ddof=1):.1f}" if len(ours.accuracy) > 1 else ""
        row = [
            name,
            f"{100 * np.mean(ours.accuracy):.1f}{spread}",
            f"{100 * np.mean(ours.macro_f1):.1f}",
            *(f"{100 * value:.0f}" for value in ours.recall),
            *([] if ours.merged is None else [f"{100 * ours.merged:.1f}"]),
        ]
        if reference in scores and name != reference:
            theirs = scores[reference].folds
            mean, low, _, p = paired_difference(ours.folds, theirs, overlap=overlap)
            few = math.isnan(p)
            row.append(f"{100 * mean:+.1f}" + ("" if few else f" ± {100 * (mean - low):.1f}"))
            row.append("too few" if few else "< 0.01" if p < 0.01 else f"{p:.2f}")
        else:
            row += ["", ""]
        row += [f"{ours.parameters:,.0f}", f"{ours.seconds:.1f}", str(len(by_model[name]))]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def rendered(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def grouped(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results by model, the best first."""
    by_model: dict[str, list[Result]] = {}
    for result in results:
        by_model.setdefault(result["model"], []).append(result)
    order = sorted(by_model, key=lambda name: -np.mean(score(by_model[name]).accuracy))
    return {name: by_model[name] for name in order}


def page(measured: Path) -> str:
    """The text of docs/results.md."""
    by_model = grouped(read_lines(measured / "genres.jsonl"))
    parts = parts_section(
        read_json(measured / "log_mel.json"), read_json(measured / "decoding.json")
    )
    return f"""# Results

This page is written by `scripts/write_results.py` from the results of `benchmarks/` in
`docs/measured/`; a test checks that it is up to date. Failed attempts are in
[What did not work](what-did-not-work.md).

## Genres

{genre_section(by_model)}
### Targets

{targets_section(by_model)}
### How to read this

- The design was chosen by cross-validation on these tracks, so its figure is optimistic: expect
  less on other music by other artists.
- A few hundred clips of one record label decide few questions: a difference within its interval is
  not a difference.
- Pop and rock are the hard pair: in these data both have much the same tags. The column that counts
  them as one genre shows how much of the error is between them.

## The study

{study_section(measured / "study.csv")}
{study_targets(measured / "study.csv", read_json(measured / "study_cost.json"))}
## Unsure verdicts

{coverage_section(by_model)}
## Speed and memory

{speed_section(read_json(measured / "classify.json"))}
## Parts

{parts}"""


def summary(measured: Path) -> str:
    """The figures for the README, in two or three sentences."""
    by_model = grouped(read_lines(measured / "genres.jsonl"))
    if SHIPPED not in by_model:
        return MISSING
    found = by_model[SHIPPED]
    tracks = sum(r["tracks"] for r in found if r["seed"] == found[0]["seed"])
    seeds = len({r["seed"] for r in found})
    text = "On artists outside their training data, "
    text += ear_summary(measured / "study.csv")
    text += "the small model without the ear names the genre of\n"
    text += f"{per_cent(score(found).accuracy)} % of {tracks} tracks correctly (one of "
    text += f"{len(found[0]['genres'])} genres; mean and standard deviation over {seeds} seeds)"
    for title, name in (
        ("a plain CNN", PLAIN),
        ("the best model of FMA's features", best_feature_model(by_model)),
    ):
        if name in by_model:
            text += f",\n{title} {per_cent(score(by_model[name]).accuracy)} %"
    text += "."
    if all(r.get("threshold") is not None for r in found):
        covered, right = claims(found)
        threshold = statistics.mean(r["threshold"] for r in found)
        text += (
            f"\nThe small model names a genre for {100 * covered:.0f} % of tracks, and is correct "
        )
        text += f"for {100 * right:.0f} % of these,\nwith thresholds fitted in each fold, "
        text += f"{100 * threshold:.0f} % on average (the shipped file's is higher: see its card)."
    return text + "\n"


def ear_summary(table: Path) -> str:
    """What the study says of capsules over the ear, and of a line on the same features."""
    if not table.exists():
        return ""
    rows = {row["model"]: row for row in csv.DictReader(table.read_text().splitlines())}
    columns = ("accuracy", "accuracy_sd_seeds")
    shares = [
        " ± ".join(f"{100 * float(rows[name][column]):.1f}" for column in columns) + " %"
        for name in ("ear-capsules-self-attention", "ear-logistic")
        if name in rows
    ]
    if len(shares) < 2:
        return ""
    return (
        f"capsules over the pretrained ear name the genre\nof {shares[0]} of the tracks "
        f"correctly, logistic regression on the same features {shares[1]};\n"
    )


def with_summary(readme: str, text: str) -> str:
    """The README with the figures between its two markers replaced."""
    return with_parts(readme, "scripts/write_results.py", {"figures": text})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genres", type=Path, nargs="*", default=[], help="files to take over")
    parser.add_argument("--study", type=Path, help="table.csv to take over")
    options = parser.parse_args()
    measured = ROOT / "docs" / "measured"
    if options.study:
        renew_study(options.study, measured / "study.csv")
    if options.genres:
        take_over(options.genres, measured / "genres.jsonl")
    readme = ROOT / "README.md"
    renewed = with_summary(readme.read_text(encoding="utf-8"), summary(measured))
    for path, text in ((ROOT / "docs" / "results.md", page(measured)), (readme, renewed)):
        with write_atomically(path) as file:
            file.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
