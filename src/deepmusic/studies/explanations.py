"""What the capsules hear: the places that spoke for a genre, and whether they truly matter.

An explanation marks cells of time and frequency. Its test is occlusion: the marked tenth of the
cells is hidden, each mel band of them filled with its mean over the track, and so is a tenth
somewhere else, the same pattern moved by chance in time and frequency. If the marks mean anything,
hiding them lowers the probability of the genre more (Samek et al., Evaluating the visualization of
what a deep neural network has learned, 2017).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import DataError, DeepMusicError
from deepmusic.studies.significance import Difference, bootstrap_difference

if TYPE_CHECKING:
    from deepmusic.classifier import Classifier
    from deepmusic.datasets.folder import Track
    from deepmusic.studies.data import StudyData

SHARE = 0.1
"""Of the cells, how many are hidden."""
DRAWS = 4
"""Random places that a marked one is compared with."""
MOST_TRACKS = 240
"""More are not explained: the figure would hardly change."""
LONGEST_S = 60.0
"""Of a track, no more than this is explained."""
_SMOOTH = (1.5, 4.0)  # bands and frames, as the picture of an explanation smooths

Score = Callable[[NDArray[np.float32]], float]
"""Takes a spectrogram ``(n_mels, frames)`` and gives the probability of the genre."""


@dataclass(frozen=True)
class Explained:
    """One track and what hiding did.

    Args:
        path: of the track.
        genre: that the model named and that is explained.
        truth: its true genre.
        probability: of the genre, in [0, 1].
        marked: by how much hiding the marked cells lowered it; below zero where it rose.
        random: likewise of cells elsewhere, in the mean over the draws.
        fold: whose model heard it; it has not learned from the track.
    """

    path: str
    genre: str
    truth: str
    probability: float
    marked: float
    random: float
    fold: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


class Occlusion(NamedTuple):
    """Hiding marked cells against hiding others, over many tracks.

    Attributes:
        tracks: how many.
        marked: mean lowering of the genre's probability.
        random: likewise, of cells elsewhere.
        difference: between the two, with an interval over artists.
        share: of the tracks, in how many the marked cells lowered it more.
    """

    tracks: int
    marked: float
    random: float
    difference: Difference
    share: float


class Rebuilt(NamedTuple):
    """The coarse image of one segment and what the genre's capsule makes of it.

    Attributes:
        heard: ``(bands, 16)``, in deviations from each band's mean.
        rebuilt: ``(bands, 16)``, from the pose of the genre's capsule alone.
        start_s: where the segment begins, in seconds.
        seconds: its length.
    """

    heard: NDArray[np.float32]
    rebuilt: NDArray[np.float32]
    start_s: float
    seconds: float


def marked_cells(evidence: NDArray[np.floating], share: float = SHARE) -> NDArray[np.bool_]:
    """The cells that spoke most for a genre, after smoothing over some 3 bands and 0.2 s.

    Args:
        evidence: ``(bands, frames)``.
        share: of the cells, in (0, 1); at least one is marked.

    Returns:
        ``(bands, frames)``, true in exactly that share of the cells, rounded.
    """
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.asarray(evidence, np.float64), sigma=_SMOOTH).ravel()
    count = max(1, round(share * smooth.size))
    mask = np.zeros(smooth.size, bool)
    mask[np.argsort(-smooth, kind="stable")[:count]] = True
    return mask.reshape(evidence.shape)


def moved(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """The same pattern of cells elsewhere: moved by chance, round the edges, in both axes."""
    bands, frames = mask.shape
    return np.roll(mask, (int(rng.integers(bands)), int(rng.integers(frames))), axis=(0, 1))


def hide(spectrogram: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A spectrogram with some cells filled by the mean of their mel band over the track.

    Args:
        spectrogram: ``(n_mels, frames)`` in dB.
        mask: ``(bands, frames)``; a band is several neighbouring mels.
    """
    image = np.array(spectrogram, np.float32)
    cells = np.repeat(mask, len(image) // len(mask), axis=0)
    means = np.broadcast_to(image.mean(axis=1, keepdims=True), image.shape)
    image[cells] = means[cells]
    return image


def occlude(
    score: Score,
    spectrogram: NDArray[np.floating],
    evidence: NDArray[np.floating],
    *,
    share: float = SHARE,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Hide what is marked, and as much elsewhere.

    Args:
        score: gives the probability of the explained genre.
        spectrogram: ``(n_mels, frames)`` in dB.
        evidence: ``(bands, frames)``, what each cell adds for the genre; ``bands`` divides
            ``n_mels``.
        share: of the cells to hide, in (0, 1).
        draws: how many other places are tried.
        seed: of these places.

    Returns:
        The probability, by how much hiding the marked cells lowers it, and the mean lowering by
        the other places.
    """
    rng = np.random.default_rng(seed)
    mask = marked_cells(evidence, share)
    whole = score(np.asarray(spectrogram, np.float32))
    marked = whole - score(hide(spectrogram, mask))
    others = [whole - score(hide(spectrogram, moved(mask, rng))) for _ in range(draws)]
    return whole, marked, float(np.mean(others))


def explain_tracks(
    data: StudyData,
    classifiers: Sequence[tuple[Classifier, Sequence[int]]],
    *,
    most: int = MOST_TRACKS,
    on_progress: Callable[[int, int], object] | None = None,
) -> tuple[list[Explained], list[str]]:
    """Explain test tracks, and check each explanation by occlusion.

    Args:
        data: with spectrograms.
        classifiers: of each fold, with the places of tracks that it has not learned from.
        most: tracks at most, spread evenly over the folds' tracks.
        on_progress: called with the tracks done and the tracks there are.

    Returns:
        The tracks, and a sentence for each that could not be explained.
    """
    chosen = [(n, place) for n, (_, places) in enumerate(classifiers) for place in places]
    if len(chosen) > most:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, most).astype(int)]
    found: list[Explained] = []
    problems: list[str] = []
    for done, (number, place) in enumerate(chosen, start=1):
        track = data.dataset.tracks[place]
        try:
            explained = _explained(data, classifiers[number][0], place, number)
        except DeepMusicError as error:
            problems.append(f"{track.path!r} is not explained: {error}")
        else:
            found.append(explained)
        if on_progress is not None:
            on_progress(done, len(chosen))
    return found, problems


def _explained(data: StudyData, classifier: Classifier, place: int, fold: int) -> Explained:
    from deepmusic.audio import wrap
    from deepmusic.classifier.explanation import explain

    if data.spectrograms is None:
        raise DataError("The study has no spectrograms.")
    track = data.dataset.tracks[place]
    config = classifier.config
    explanation = explain(classifier, data.dataset.file(track), max_seconds=LONGEST_S)
    if explanation.evidence is None:
        raise DataError("The model has no place capsules, which see time and frequency.")
    # a track shorter than a segment is repeated, and so are its marks
    evidence = wrap(explanation.evidence, config.segment_frames)
    spectrogram = np.asarray(data.spectrograms(place)[:, : evidence.shape[1]], np.float32)
    evidence = evidence[:, : spectrogram.shape[1]]
    winner = config.genres.index(explanation.genre)

    def score(log_mel: NDArray[np.float32]) -> float:
        return float(classifier.predict_spectrogram(log_mel)[winner])

    probability, marked, random = occlude(score, spectrogram, evidence, seed=place)
    return Explained(track.path, explanation.genre, track.genre, probability, marked, random, fold)


def summarise(found: Sequence[Explained], groups: Mapping[str, int]) -> Occlusion:
    """The figures over many tracks.

    Args:
        found: at least one track.
        groups: who belongs together, by path.
    """
    marked = np.array([explained.marked for explained in found])
    random = np.array([explained.random for explained in found])
    return Occlusion(
        len(found),
        float(marked.mean()),
        float(random.mean()),
        bootstrap_difference(marked, random, [groups[explained.path] for explained in found]),
        float(np.mean(marked > random)),
    )


def shown_tracks(found: Iterable[Explained], *, most: int = 8) -> list[Explained]:
    """Tracks for pictures: of each genre the surest that is right, and the surest that is wrong."""
    surest = sorted(found, key=lambda explained: -explained.probability)
    right: dict[str, Explained] = {}
    for explained in surest:
        if explained.genre == explained.truth:
            right.setdefault(explained.genre, explained)
    wrong = [explained for explained in surest if explained.genre != explained.truth][:1]
    return [*(right[genre] for genre in sorted(right))][: most - len(wrong)] + wrong


def rebuild(
    run: Path, spectrogram: NDArray[np.floating], genre: str, *, member: int = 0
) -> Rebuilt | None:
    """What the decoder of a trained network rebuilds from the pose of a genre's capsule.

    Of a track's segments, the one is taken in which that capsule is longest.

    Args:
        run: folder of a training of :func:`deepmusic.classifier.training.train_ensemble`.
        spectrogram: ``(n_mels, frames)`` in dB, at least a segment.
        genre: whose capsule.
        member: which network.

    Returns:
        None where the run is gone, or its networks have no decoder.
    """
    import torch

    from deepmusic.audio import segment_starts
    from deepmusic.classifier.config import ClassifierConfig
    from deepmusic.classifier.model import CapsuleClassifier, views
    from deepmusic.training import best_path, fill_model, load_weights

    path = best_path(run / "networks" / str(member))
    try:
        values = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    config = ClassifierConfig.from_dict(values)
    model = CapsuleClassifier(config.network_configs[member])
    if model.decoder is None or not path.exists() or genre not in config.genres:
        return None
    fill_model(model, load_weights(path)[0], source=path)
    model.eval()
    whole = np.asarray(spectrogram, np.float32)
    length = config.segment_frames
    starts = segment_starts(whole.shape[1], length=length, hop=config.hop_frames)
    segments = torch.from_numpy(np.stack([whole[:, s : s + length] for s in starts]))
    with torch.inference_mode():
        seen = views(segments, config)
        winner = config.genres.index(genre)
        heard = model(seen, rebuild=torch.full((len(segments),), winner))
        best = int(heard.lengths[:, winner].argmax())
        assert heard.rebuilt is not None
        sketch = model.sketch(seen.image)[best].numpy()
        rebuilt = heard.rebuilt[best].numpy()
    rate = config.log_mel.frames_per_second
    return Rebuilt(sketch, rebuilt, float(starts[best] / rate), length / rate)


def genre_poses(
    classifier: Classifier, data: StudyData, places: Sequence[int]
) -> NDArray[np.float32]:
    """Poses of all genre capsules of a network, one after another, in the mean over segments.

    Args:
        classifier: with capsules; its first network is asked.
        data: with spectrograms.
        places: of the tracks.

    Returns:
        ``(tracks, genres * pose)``.

    Raises:
        DataError: there are no spectrograms, or the network has no capsules.
    """
    import torch

    from deepmusic.audio import segment_starts
    from deepmusic.classifier.model import views

    if data.spectrograms is None or classifier.config.routing == "none":
        raise DataError("There are no capsules, or no spectrograms, to make a map of.")
    config = classifier.config
    length = config.segment_frames
    model = classifier.ensemble.networks[0]
    rows = []
    with torch.inference_mode():
        for place in places:
            whole = np.asarray(data.spectrograms(place), np.float32)
            starts = segment_starts(whole.shape[1], length=length, hop=config.hop_frames)
            segments = torch.from_numpy(np.stack([whole[:, s : s + length] for s in starts]))
            poses = model(views(segments, config)).poses
            rows.append(poses.mean(dim=0).flatten().numpy())
    return np.array(rows, np.float32)


def draw_explained(
    classifier: Classifier, data: StudyData, track: Track, explained: Explained, path: Path
) -> None:
    """Draw the explanation of a track as a PNG picture.

    Raises:
        AudioError: the track cannot be heard.
        DeepMusicError: the picture cannot be written.
    """
    from deepmusic.classifier.explanation import draw_explanation, explain

    said = explain(
        classifier, data.dataset.file(track), genre=explained.genre, max_seconds=LONGEST_S
    )
    verdict = "rightly" if explained.genre == explained.truth else f"in truth {explained.truth}"
    draw_explanation(said, path, f"{explained.path}: {explained.genre}, {verdict}")


def draw_rebuilt(rebuilt: Rebuilt, path: Path, title: str = "") -> None:
    """Draw a segment's coarse image beside what the genre's capsule rebuilds, as a PNG picture.

    Raises:
        DeepMusicError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    from deepmusic.files import write_atomically

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    figure.suptitle(title, parse_math=False, fontsize="medium")
    most = float(np.abs(rebuilt.heard).max())
    end = rebuilt.start_s + rebuilt.seconds
    extent = (rebuilt.start_s, end, 0.0, float(len(rebuilt.heard)))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, image, name in zip(
        axes, (rebuilt.heard, rebuilt.rebuilt), ("what sounds, coarsely", "rebuilt"), strict=True
    ):
        shown = axis.imshow(
            image,
            origin="lower",
            aspect="auto",
            cmap="RdBu_r",
            vmin=-most,
            vmax=most,
            extent=extent,
        )
        axis.set(title=name, xlabel="time (s)")
    axes[0].set_ylabel("band, low to high")
    figure.colorbar(shown, ax=axes, label="deviations from the band's mean")
    with write_atomically(path, "wb") as file:
        figure.savefig(file, format="png", dpi=100)
