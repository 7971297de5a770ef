"""Occlusion: whether the cells that an explanation marks as evidence for a genre really matter.

An explanation marks cells of time and frequency. To test it, the tenth of the cells with the most
evidence is hidden, each mel band filled with its mean over the track, and then the same pattern
shifted at random in time and frequency. If the marks mean anything, hiding the marked cells lowers
the probability of the genre more (Samek et al., Evaluating the visualization of what a deep neural
network has learned, 2017).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import DeepMusicError
from deepmusic.studies.comparison import Difference, bootstrap_difference

if TYPE_CHECKING:
    from deepmusic.classifier import Classifier, ClassifierConfig
    from deepmusic.classifier.model import Views
    from deepmusic.studies.data import StudyData

MAX_SECONDS = 60.0
"""Of a track, no more than this is explained."""
_SHARE = 0.1  # of the cells that is hidden
_SHIFTS = 4


class TrackOcclusion(NamedTuple):
    """The effect of hiding cells of one track."""

    path: str
    genre: str  # that the model predicted, and that is explained
    truth: str
    probability: float  # of the predicted genre
    marked: float  # how much hiding the marked cells lowers it; negative where it rises
    random: float  # likewise for shifted patterns, mean over the shifts
    fold: int  # whose model was asked, which was not trained on the track

    @property
    def title(self) -> str:
        """The track and what it was classified as."""
        verdict = "correct" if self.genre == self.truth else f"in truth {self.truth}"
        return f"{self.path}: {self.genre}, {verdict}"


class Occlusion(NamedTuple):
    """Hiding marked cells against hiding others, over many tracks."""

    tracks: int
    marked: float  # mean lowering of the genre's probability
    random: float  # likewise for shifted patterns
    difference: Difference  # between the two, with an interval over artists
    share: float  # of the tracks in which the marked cells lowered it more


def marked_cells(evidence: NDArray[np.floating], share: float = _SHARE) -> NDArray[np.bool_]:
    """The cells ``(bands, frames)`` with the most evidence."""
    flat = np.asarray(evidence, np.float64).ravel()
    mask = np.zeros(flat.size, bool)
    mask[np.argsort(-flat, kind="stable")[: max(1, round(share * flat.size))]] = True
    return mask.reshape(evidence.shape)


def shifted(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """The same pattern of cells ``(bands, frames)``, rolled at random along both axes."""
    bands, frames = mask.shape
    return np.roll(mask, (int(rng.integers(bands)), int(rng.integers(frames))), axis=(0, 1))


def hide(spectrogram: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A spectrogram ``(n_mels, frames)`` in dB with the cells of a mask ``(bands, frames)`` hidden.

    A hidden cell gets the mean of its mel band over the track; a band is several mels.
    """
    image = np.array(spectrogram, np.float32)
    cells = np.repeat(mask, len(image) // len(mask), axis=0)
    means = np.broadcast_to(image.mean(axis=1, keepdims=True), image.shape)
    image[cells] = means[cells]
    return image


def occlude(
    score: Callable[[NDArray[np.float32]], float],
    spectrogram: NDArray[np.floating],
    evidence: NDArray[np.floating],
    *,
    share: float = _SHARE,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Hide a share of the cells: the marked ones, and four times the same pattern elsewhere.

    Args:
        score: gives the probability of the explained genre for a spectrogram.
        spectrogram: ``(n_mels, frames)`` in dB.
        evidence: ``(bands, frames)``, what each cell adds for the genre; ``bands`` divides
            ``n_mels``.
        share: of the cells to hide, in (0, 1).
        seed: of the shifts.

    Returns:
        The probability, how much hiding the marked cells lowers it, and the mean lowering by the
        shifted patterns.
    """
    rng = np.random.default_rng(seed)
    mask = marked_cells(evidence, share)
    whole = score(np.asarray(spectrogram, np.float32))
    marked = whole - score(hide(spectrogram, mask))
    others = [whole - score(hide(spectrogram, shifted(mask, rng))) for _ in range(_SHIFTS)]
    return whole, marked, float(np.mean(others))


def occlude_tracks(
    data: StudyData,
    classifiers: Sequence[tuple[Classifier, Sequence[int]]],
    *,
    max_tracks: int = 240,
    on_progress: Callable[[int, int], object] | None = None,
) -> tuple[list[TrackOcclusion], list[str]]:
    """Explain test tracks, and check each explanation by occlusion.

    Args:
        data: with spectrograms.
        classifiers: of each fold, with the indices of tracks that it was not trained on.
        max_tracks: at most, spread evenly over the folds; the mean of more would hardly change.
        on_progress: called with the tracks done and the tracks there are.

    Returns:
        The tracks, and a sentence for each that could not be explained.
    """
    chosen = [(n, index) for n, (_, indices) in enumerate(classifiers) for index in indices]
    if len(chosen) > max_tracks:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, max_tracks).astype(int)]
    tracks: list[TrackOcclusion] = []
    problems: list[str] = []
    for done, (fold, index) in enumerate(chosen, start=1):
        try:
            tracks.append(_occlude_track(data, classifiers[fold][0], index, fold))
        except DeepMusicError as error:
            path = data.dataset.tracks[index].path
            problems.append(f"{path!r} is not explained: {error}")
        if on_progress is not None:
            on_progress(done, len(chosen))
    return tracks, problems


def _occlude_track(
    data: StudyData, classifier: Classifier, index: int, fold: int
) -> TrackOcclusion:
    from deepmusic.audio import wrap
    from deepmusic.classifier.explanation import explain

    assert data.spectrograms is not None
    track, config = data.dataset.tracks[index], classifier.config
    whole = np.asarray(data.spectrograms(index), np.float32)
    winner = int(classifier.predict_spectrogram(whole).argmax())
    genre = config.genres[winner]
    explanation = explain(
        classifier, data.dataset.file(track), genre=genre, max_seconds=MAX_SECONDS
    )
    # a track shorter than a segment is repeated, and so are its marks
    evidence = wrap(explanation.evidence.astype(np.float32), config.segment_frames)
    spectrogram = whole[:, : evidence.shape[1]]
    figures = occlude(
        lambda log_mel: float(classifier.predict_spectrogram(log_mel)[winner]),
        spectrogram,
        evidence[:, : spectrogram.shape[1]],
        seed=index,
    )
    return TrackOcclusion(track.path, genre, track.genre, *figures, fold)


def summarize(tracks: Sequence[TrackOcclusion], groups: Mapping[str, int]) -> Occlusion:
    """The figures over at least one track; tracks of one group (by path) are resampled together."""
    marked, random = np.array([(track.marked, track.random) for track in tracks]).T
    return Occlusion(
        len(tracks),
        float(marked.mean()),
        float(random.mean()),
        bootstrap_difference(marked, random, [groups[track.path] for track in tracks]),
        float(np.mean(marked > random)),
    )


def example_tracks(tracks: Iterable[TrackOcclusion], *, most: int = 8) -> list[TrackOcclusion]:
    """Tracks for pictures: the most confident correct one of each genre, and one error."""
    surest = sorted(tracks, key=lambda track: -track.probability)
    right: dict[str, TrackOcclusion] = {}
    for track in surest:
        if track.genre == track.truth:
            right.setdefault(track.genre, track)
    wrong = [track for track in surest if track.genre != track.truth][:1]
    return [*(right[genre] for genre in sorted(right))][: most - len(wrong)] + wrong


class Reconstruction(NamedTuple):
    """A segment and what a decoder makes of one genre capsule, as coarse images ``(bands, 16)``.

    Values are in standard deviations from each band's mean.
    """

    original: NDArray[np.float32]
    rebuilt: NDArray[np.float32]
    start_s: float
    end_s: float


def reconstruct(run: Path, log_mel: NDArray[np.floating], genre: str) -> Reconstruction | None:
    """The reconstruction from a genre's capsule, in the segment in which the capsule is longest.

    It is that of the first network of an ensemble that was trained in the folder ``run``, for a
    spectrogram ``(n_mels, frames)`` in dB; None where that network is gone or has no decoder.

    Raises:
        CheckpointError: the weights are damaged.
    """
    import torch

    from deepmusic.classifier.config import ClassifierConfig
    from deepmusic.classifier.model import ClassifierNetwork
    from deepmusic.training.checkpoint import best_path
    from deepmusic.training.weights import fill_model, load_weights

    path = best_path(run / "networks" / "0")
    try:
        config = ClassifierConfig.from_dict(json.loads((run / "config.json").read_text("utf-8")))
    except (OSError, ValueError):
        return None
    network = ClassifierNetwork(config.network_configs[0])
    if network.decoder is None or not path.exists():
        return None
    fill_model(network, load_weights(path)[0], source=path)
    starts, inputs = _segments(log_mel, config)
    target = config.genres.index(genre)
    with torch.inference_mode():
        output = network.eval()(inputs, rebuild=torch.full((len(starts),), target))
        longest = int(output.lengths[:, target].argmax())
        original = network.sketch(inputs.image)[longest].numpy()
    start_s = starts[longest] / config.log_mel.frames_per_second
    return Reconstruction(
        original, output.rebuilt[longest].numpy(), start_s, start_s + config.segment_s
    )


def genre_poses(
    classifier: Classifier, data: StudyData, indices: Iterable[int]
) -> NDArray[np.float32]:
    """Poses ``(tracks, genres * pose)`` of all genre capsules, averaged over segments.

    They are of the first network of a classifier with capsules.
    """
    import torch

    assert data.spectrograms is not None
    network = classifier.ensemble.networks[0]
    poses = []
    with torch.inference_mode():
        for index in indices:
            _, inputs = _segments(data.spectrograms(int(index)), classifier.config)
            poses.append(network(inputs).poses.mean(dim=0).flatten().numpy())
    return np.array(poses, np.float32)


def _segments(log_mel: NDArray[np.floating], config: ClassifierConfig) -> tuple[list[int], Views]:
    """First frames and network inputs of the segments of a spectrogram."""
    import torch

    from deepmusic.audio import segment_batches
    from deepmusic.classifier.model import views

    length, hop, frames = config.segment_frames, config.hop_frames, log_mel.shape[1]
    batches = segment_batches(log_mel, length=length, hop=hop, batch_size=frames)
    starts, segments = next(batches)
    return starts, views(torch.from_numpy(segments), config)
