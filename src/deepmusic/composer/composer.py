"""The composer as one uses it: asked for a piece in a style, it writes one, and says about it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepmusic.composer.cards import StyleCard
from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.copying import CopyIndex, CopyReport, HumanReference, copy_report
from deepmusic.composer.encoding import encode, normalised, transposed
from deepmusic.composer.judge import Judge
from deepmusic.composer.model import ComposerNetwork, Heard
from deepmusic.composer.passages import MANNER
from deepmusic.composer.request import BARS, Request, read_metre
from deepmusic.composer.sampling import Given, Plan, Written, write_music
from deepmusic.composer.task import hear
from deepmusic.errors import (
    CheckpointError,
    CopyingError,
    DeepMusicError,
    RequestError,
    ScoreError,
)
from deepmusic.music import (
    Grid,
    Key,
    Part,
    Score,
    Tempo,
    TimeSignature,
    aligned,
    grid_to_score,
    read_midi,
    score_to_grid,
)
from deepmusic.training import fill_model, load_weights, save_weights
from deepmusic.version import __version__

_KIND = "composer"
_ROUNDS = 4  # of candidates, where all of one copy too much
_PARTS_COUNT = 3.0  # a silent part of three costs as much as a third of the probability
_MARGIN = 3  # semitones beyond the usual range of a part
_USUAL_BARS = 16
_OCTAVES = (0, -12, 12, -24, 24, -36, 36)  # the nearest first


@dataclass(frozen=True, eq=False)
class Tune:
    """A piece that was composed.

    Args:
        score: the music.
        request: what was asked.
        report: what is known of it, in JSON types: the request in full, the model, the pose, the
            verdict of the judge, what it copies, and its likelihood.
    """

    score: Score
    request: Request
    report: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Composer:
    """Writes music in the styles that it has learned.

    Args:
        network: in evaluation mode.
        cards: of each style, by name.
        judge: tells styles apart; of another kind, and trained apart.
        copies: of the training music.
        references: for each style how much people's pieces share with the training music, by
            length.
        card: how it was trained, in JSON types.
        digest: of the file that it was read from; empty for one that was just trained.
    """

    network: ComposerNetwork
    cards: Mapping[str, StyleCard]
    judge: Judge | None
    copies: CopyIndex | None
    references: Mapping[str, tuple[HumanReference, ...]]
    card: Mapping[str, Any]
    digest: str = ""

    @property
    def config(self) -> ComposerConfig:
        """Sizes and choices of the network."""
        return self.network.config

    @property
    def styles(self) -> tuple[str, ...]:
        """What it has learned."""
        return self.config.styles

    def compose(
        self, request: Request, *, on_bar: Callable[[int, int], None] | None = None
    ) -> Tune:
        """Write a piece.

        Args:
            request: what to write.
            on_bar: called with the bars written, and all of them; more than once where all
                candidates copied too much.

        Raises:
            RequestError: it asks for what is impossible here; the message says what is possible.
            ScoreError: a file that it names cannot be used.
            CopyingError: all candidates copy too much, or are silent.
        """
        given = None
        if request.given is not None:
            given = self._read(request.given, main_style(request))
        if given is not None and request.harmonize is not None:
            given = _melody_for(self._card(main_style(request)), given, request.harmonize)
        prepared = _Prepared.of(self, request, given)
        with _one_thread():
            chosen, copying, tried = self._chosen(prepared, on_bar)
        grid = transposed(chosen.grid, prepared.shift)
        grid = replace(
            grid,
            velocity=_velocities(grid, prepared.plan.bar_steps(self.config)),
            tempos=(Tempo(0, round(60e6 / prepared.tempo)),),
            key_signatures=(prepared.key.signature,),
        )
        score = grid_to_score(grid)
        judged = self.judge.probabilities(chosen.grid) if self.judge else {}
        report = {
            "deepmusic": __version__,
            "model": self.digest,
            "request": request.to_dict(),
            "files": {name: _file_digest(name) for name in _files(request)},
            "key": prepared.key.name,
            "tempo": prepared.tempo,
            "metre": f"{prepared.plan.metre.numerator}/{prepared.plan.metre.denominator}",
            "bars": prepared.plan.bars,
            "seconds": round(score.seconds, 2),
            "notes": len(score.notes),
            "pose": {
                name: [round(float(x), 4) for x in prepared.plan.poses[self.styles.index(name)]]
                for name in request.style
            },
            "judge": {name: round(chance, 4) for name, chance in judged.items()},
            "copying": None if copying is None else copying.to_dict(),
            "nats_per_step": round(-chosen.log_prob / max(chosen.grid.steps, 1), 4),
            "candidates_tried": tried,
            "notes_on_request": list(prepared.notes),
        }
        return Tune(score, request, report)

    def _chosen(
        self, prepared: _Prepared, on_bar: Callable[[int, int], None] | None
    ) -> tuple[Written, CopyReport | None, int]:
        """The candidate that the judge likes best among those that do not copy."""
        request, tried, copied = prepared.request, 0, False
        for number in range(_ROUNDS):
            candidates = write_music(
                self.network,
                prepared.plan,
                candidates=request.candidates,
                random=np.random.default_rng([request.seed, number]),
                parts=prepared.parts,
                on_bar=on_bar,
            )
            tried += len(candidates)
            candidates = [c for c in candidates if len(c.grid.onset)]  # chance may leave one silent
            for candidate in sorted(candidates, key=lambda c: -self._merit(c, prepared)):
                copying = self._copying(candidate.grid, request)
                # what is given may be known music, and is no copy of the composer's
                free = request.allow_copies or request.given is not None
                if free or copying is None or not copying.is_beyond:
                    return candidate, copying, tried
                copied = True
        why, what = "are silent", "another seed or a higher temperature"
        if copied:
            why = "share longer passages with the training music than people's pieces do"
            what += ", or allow copies"
        raise CopyingError(f"All {tried} candidates {why}: try {what}.")

    def _merit(self, written: Written, prepared: _Prepared) -> float:
        """How well a candidate does.

        Around given notes that is its own log probability; otherwise the judge's of the styles, and
        less where parts are silent, of which the judge knows nothing.
        """
        if prepared.plan.given is not None:
            return written.log_prob
        heard = len(np.unique(written.grid.part)) / len(prepared.parts)
        merit = _PARTS_COUNT * float(np.log(heard))
        judged = {} if self.judge is None else self.judge.probabilities(written.grid)
        for name, weight in prepared.request.style.items():
            merit += weight * float(np.log(max(judged.get(name, 0.0), 1e-9)))
        return merit

    def _copying(self, grid: Grid, request: Request) -> CopyReport | None:
        references = self.references.get(main_style(request), ())
        if self.copies is None or not references:
            return None
        lengths = [reference.excerpt_steps or 0 for reference in references]
        fitting = [n for n, length in enumerate(lengths) if length <= grid.steps] or [0]
        return copy_report(grid, self.copies, references[fitting[-1]])

    def _read(self, path: str, style: str) -> _GivenPiece:
        """A MIDI file as the composer reads it, its parts those of a style."""
        parts = len(self._card(style).parts)
        raw = read_midi(path)
        score = aligned(_in_parts(raw, parts, path), self.config.steps_per_beat)
        grid = score_to_grid(score, self.config.steps_per_beat)
        last = int((grid.onset + grid.duration).max())
        # what changes later would only move bars about
        grid = replace(grid, steps=last, time_signatures=grid.time_signatures[:1], tempos=())
        moved, key, shift = normalised(grid, lowest=self.config.lowest, keys=self.config.keys)
        return _GivenPiece(moved, key, shift, raw.tempos[0].beats_per_minute)

    def _card(self, style: str) -> StyleCard:
        card = self.cards.get(style)
        if card is None:
            raise RequestError(f"There is no style {style!r}; there are {', '.join(self.cards)}.")
        return card

    def pose_of(self, path: str | os.PathLike[str], style: str) -> NDArray[np.float32]:
        """The pose that the capsule of a style takes for a MIDI file, the mean over passages.

        Raises:
            RequestError: no such style, or a composer without capsules.
            ScoreError: the file cannot be used.
        """
        if self.network.encoder is None:
            raise RequestError("This composer has no capsules, and so no poses.")
        heard = self._heard(path, style)
        pose: NDArray[np.float32] = heard.poses[:, self.styles.index(style)].mean(dim=0).numpy()
        return pose

    def lengths_of(self, path: str | os.PathLike[str]) -> dict[str, float]:
        """How present each style is in a MIDI file: lengths of the capsules, mean over passages."""
        if self.network.encoder is None:
            raise RequestError("This composer has no capsules, and cannot tell styles.")
        lengths = self._heard(path, self.styles[0]).lengths.mean(dim=0)
        return dict(zip(self.styles, map(float, lengths), strict=True))

    @torch.no_grad()
    def _heard(self, path: str | os.PathLike[str], style: str) -> Heard:
        """What the encoder makes of all passages of a MIDI file."""
        piece = encode(self.config, self._read(os.fspath(path), style).grid)
        return hear(self.network, piece)

    def poses_for(self, request: Request) -> NDArray[np.float32]:
        """The poses ``(s, d)`` of a request: drawn by its seed or taken from a piece, moved."""
        poses = np.zeros((len(self.styles), self.config.pose_dim), np.float32)
        encoder = self.network.encoder
        if encoder is None:
            if request.pose or request.pose_from:
                raise RequestError("This composer has no capsules, and so no poses to move.")
            return poses
        random = np.random.default_rng([request.seed, 2**32])
        for name in self.styles:
            drawn = random.standard_normal(self.config.pose_dim).astype(np.float32)
            if name not in request.style:
                continue
            place = self.styles.index(name)
            if request.pose_from is not None:
                pose = self.pose_of(request.pose_from, name)
            else:
                spread = self.network.pose_spread[place].numpy()
                pose = self.network.pose_mean[place].numpy() + spread @ drawn
            poses[place] = pose + self._moved(request.pose, name)
        return poses

    def _moved(self, moves: Mapping[str, float], style: str) -> NDArray[np.float32]:
        """By how much the pose of a style moves."""
        total = np.zeros(self.config.pose_dim, np.float32)
        directions = self.network.pose_moves[self.styles.index(style)].numpy()
        for name, amount in moves.items():
            if name in MANNER:
                total += np.float32(amount) * directions[MANNER.index(name)]
            elif name.isdecimal() and int(name) < self.config.pose_dim:
                total[int(name)] += amount
            else:
                raise RequestError(
                    f"A pose has no {name!r}; it has dimensions 0 to {self.config.pose_dim - 1} "
                    f"and {', '.join(MANNER)}."
                )
        return total

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it as one safetensors file, the network in half precision.

        Raises:
            DeepMusicError: the file cannot be written.
        """
        arrays: dict[str, torch.Tensor] = {
            f"network.{name}": tensor.half() for name, tensor in self.network.state_dict().items()
        }
        for prefix, holder in (("judge", self.judge), ("copies", self.copies)):
            if holder is not None:
                arrays |= {
                    f"{prefix}.{name}": torch.from_numpy(np.ascontiguousarray(array))
                    for name, array in holder.to_arrays().items()
                }
        save_weights(
            path,
            arrays,
            {
                "kind": _KIND,
                "config": self.config.to_dict(),
                "styles": {name: asdict(card) for name, card in self.cards.items()},
                "references": {
                    name: [reference.to_dict() for reference in references]
                    for name, references in self.references.items()
                },
                "judge": None if self.judge is None else list(self.judge.styles),
                "card": dict(self.card),
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Composer:
        """Read what :meth:`save` wrote; a folder is taken for a run.

        Raises:
            CheckpointError: the file is missing, damaged or no composer of ours.
        """
        file = Path(path)
        if file.is_dir():
            file = file / "model.safetensors"
        arrays, metadata = load_weights(file)
        if metadata.get("kind") != _KIND:
            raise CheckpointError(f"{file} holds no composer; train one, or name another.")
        try:
            return cls._assembled(file, arrays, metadata)
        except (KeyError, TypeError, ValueError, AttributeError, DeepMusicError) as error:
            said = " ".join(str(error).split())
            raise CheckpointError(f"{file} holds no composer that fits: {said}.") from error

    @classmethod
    def _assembled(
        cls, file: Path, arrays: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]
    ) -> Composer:
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "judge": {}, "copies": {}}
        for full_name, tensor in arrays.items():
            prefix, _, name = full_name.partition(".")
            parts.setdefault(prefix, {})[name] = tensor
        network = ComposerNetwork(ComposerConfig.from_dict(metadata["config"]))
        fill_model(network, {name: t.float() for name, t in parts["network"].items()}, source=file)
        judge = copies = None
        if metadata["judge"] is not None:
            judge = Judge.from_arrays(_arrays(parts["judge"]), tuple(metadata["judge"]))
        if parts["copies"]:
            copies = CopyIndex.from_arrays(_arrays(parts["copies"]))
        return cls(
            network.eval(),
            {name: StyleCard.from_dict(card) for name, card in metadata["styles"].items()},
            judge,
            copies,
            {
                name: tuple(HumanReference.from_dict(entry) for entry in entries)
                for name, entries in metadata["references"].items()
            },
            metadata["card"],
            hashlib.sha256(file.read_bytes()).hexdigest()[:16],
        )


@dataclass(frozen=True, eq=False)
class _GivenPiece:
    """A piece of which notes are kept.

    Args:
        grid: in C major or A minor.
        key: that it was in.
        shift: by how many semitones it was moved.
        tempo: beats a minute.
    """

    grid: Grid
    key: Key
    shift: int
    tempo: float


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A request with all that it left open settled."""

    request: Request
    plan: Plan
    parts: tuple[Part, ...]
    key: Key
    shift: int
    tempo: float
    notes: tuple[str, ...]

    @classmethod
    def of(cls, composer: Composer, request: Request, given: _GivenPiece | None) -> _Prepared:
        """Settle it, by chance where need be."""
        config = composer.config
        cards = {name: composer._card(name) for name in request.style}
        card = cards[main_style(request)]
        random = np.random.default_rng([request.seed, 2**33])
        is_minor, shift = random.random() < card.minor, int(random.integers(-5, 7))
        notes: list[str] = []
        if given is not None:
            key, shift = given.key, -given.shift
        elif request.key is not None:
            key = Key.named(request.key)
            shift = (key.tonic - 9 * key.is_minor + 5) % 12 - 5
        else:
            key = Key((shift + 9 * is_minor) % 12, bool(is_minor))
        metre = _metre(card, request, given, notes)
        bar = metre.bar_steps(config.steps_per_beat)
        bars = _settled(request, given, bar)
        weights = np.zeros(len(config.styles), np.float32)
        for name, weight in request.style.items():
            weights[config.styles.index(name)] = weight
        plan = Plan(
            bars=bars,
            metre=metre,
            styles=weights,
            poses=composer.poses_for(request),
            is_minor=key.is_minor,
            range=_ranges(config, list(cards.values()), shift),
            has_end=request.has_end,
            temperature=request.temperature,
            top_p=request.top_p,
            given=None if given is None else _kept(config, request, given, bars * bar, bar),
        )
        widest = max(cards.values(), key=lambda card: len(card.parts))
        parts = tuple(Part(name, program=program) for name, program in widest.parts)
        tempo = request.tempo or (card.tempo if given is None else round(given.tempo, 2))
        return cls(request, plan, parts, key, shift, tempo, tuple(notes))


@contextmanager
def _one_thread() -> Iterator[None]:
    """A step is too small to be shared, and sums over more threads may round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def main_style(request: Request) -> str:
    """The style with the greatest weight, the first of several."""
    return max(request.style, key=lambda name: request.style[name])


def _metre(
    card: StyleCard, request: Request, given: _GivenPiece | None, notes: list[str]
) -> TimeSignature:
    """The metre of a piece."""
    known = {(over, under): TimeSignature(0, over, under) for over, under, _ in card.metres}
    listed = ", ".join(f"{over}/{under}" for over, under in known)
    usual = next(iter(known.values()))
    if given is not None:
        asked = given.grid.time_signatures[0]
        found = known.get((asked.numerator, asked.denominator))
        if found is None:
            notes.append(
                f"The style has no {asked.numerator}/{asked.denominator}; bars are taken for "
                f"{usual.numerator}/{usual.denominator}."
            )
        return found or usual
    if request.metre is None:
        return usual
    asked = read_metre(request.metre)
    if (asked.numerator, asked.denominator) not in known:
        raise RequestError(f"The style has no music in {request.metre}; it has {listed}.")
    return asked


def _settled(request: Request, given: _GivenPiece | None, bar: int) -> int:
    """Bars of the piece."""
    if given is None:
        return request.bars or _USUAL_BARS
    there = -(-given.grid.steps // bar)
    if there > BARS[1]:
        raise ScoreError(
            f"{request.given} has {there} bars; {BARS[1]} at most can be used.", code="too_long"
        )
    if request.infill is not None:
        if request.infill[1] > there:
            raise RequestError(
                f"{request.given} has {there} bars, so that bars up to {request.infill[1]} cannot "
                "be rewritten."
            )
        return there
    if request.harmonize is not None:
        bars = request.bars or max(there, BARS[0])
        if bars < there:
            raise RequestError(
                f"The melody in {request.harmonize} has {there} bars, more than the {bars} asked "
                "for: ask for as many, or leave bars away."
            )
        return bars
    bars = request.bars or min(there + _USUAL_BARS, BARS[1])
    if bars <= there:
        raise RequestError(
            f"The primer {request.primer} has {there} bars, and the piece is to have {bars}: ask "
            "for more bars, or shorten the primer."
        )
    return bars


def _kept(
    config: ComposerConfig,
    request: Request,
    given: _GivenPiece,
    steps: int,
    bar: int,
) -> Given:
    """Which notes of a given piece stand."""
    grid = given.grid
    is_fixed = np.zeros((steps, config.parts), np.bool_)
    if request.harmonize is not None:
        is_fixed[:, 0] = True  # after its last note the melody is silent
    elif request.infill is not None:
        first, last = request.infill
        is_fixed[:] = True
        is_fixed[(first - 1) * bar : last * bar] = False
    else:
        is_fixed[: -(-grid.steps // bar) * bar] = True
    return Given(replace(grid, steps=steps), is_fixed)


def _melody_for(card: StyleCard, given: _GivenPiece, path: str | None) -> _GivenPiece:
    """The melody of a given piece, in the octave that suits the first part of a style.

    Raises:
        RequestError: the style has one part only, or the melody fits in no octave.
    """
    if len(card.parts) < 2:
        raise RequestError(
            "This style has one part, which the melody would fill: harmonize in a style with more."
        )
    grid = _melody(given.grid)
    low, high = card.range[0][0] - 2 * _MARGIN, card.range[0][1] + 2 * _MARGIN
    lowest, highest = int(grid.pitch.min()), int(grid.pitch.max())
    fits = [o for o in _OCTAVES if low <= lowest + o and highest + o <= high]
    if not fits:
        raise RequestError(
            f"The melody in {path} spans {highest - lowest} semitones, which is out of range: the "
            f"{card.parts[0][0] or 'first part'} of this style spans {high - low} at most."
        )
    return replace(given, grid=transposed(grid, fits[0]), shift=given.shift + fits[0])


def _melody(grid: Grid) -> Grid:
    """The highest notes of the first part that has any, one at a time."""
    first = int(grid.part.min())
    mine = np.flatnonzero(grid.part == first)
    top = np.full(grid.steps, -1)
    for note in mine:
        span = slice(int(grid.onset[note]), int(grid.onset[note] + grid.duration[note]))
        top[span] = np.maximum(top[span], int(grid.pitch[note]))
    kept = [n for n in mine if top[int(grid.onset[n])] == grid.pitch[n]]
    onset = grid.onset[kept]
    ends = np.append(onset[1:], grid.steps)
    return replace(
        grid,
        onset=onset,
        duration=np.minimum(grid.duration[kept], ends - onset),
        pitch=grid.pitch[kept],
        part=np.zeros(len(kept), np.int64),
        velocity=grid.velocity[kept],
    )


def _in_parts(score: Score, most: int, path: str) -> Score:
    """The score without drums, its parts beyond the most that a style has in the last of these."""
    number: dict[int, int] = {}
    for place, part in enumerate(score.parts):
        if not part.is_drum:
            number[place] = min(len(number), most - 1)
    notes = tuple(replace(n, part=number[n.part]) for n in score.notes if n.part in number)
    if not notes:
        raise ScoreError(f"{path} has no notes but drums; name a file with a melody.", code="drums")
    first = min(note.part for note in notes)
    notes = tuple(replace(note, part=note.part - first) for note in notes)
    return replace(score, notes=notes, parts=tuple(Part() for _ in range(most)))


def _ranges(config: ComposerConfig, cards: list[StyleCard], shift: int) -> NDArray[np.int64]:
    """Pitches that each part may use, ``(parts, 2)``; none for a part that no style has.

    Moved by ``shift`` they are pitches of MIDI.
    """
    ranges = np.tile(np.array([128, -1]), (config.parts, 1))
    for card in cards:
        for part, (low, high) in enumerate(card.range[: len(card.parts)]):
            ranges[part] = (
                min(ranges[part, 0], low - _MARGIN),
                max(ranges[part, 1], high + _MARGIN),
            )
    within = np.array([-shift, 127 - shift])
    ranges[:, 0] = np.maximum(ranges[:, 0], within[0])
    ranges[:, 1] = np.minimum(ranges[:, 1], within[1])
    return ranges


def _velocities(grid: Grid, bar: int) -> NDArray[np.uint8]:
    """How hard notes are struck: harder on the bar and the beat, the first part before others."""
    place = grid.onset % bar
    strength = np.where(place == 0, 92, np.where(place % grid.steps_per_beat == 0, 84, 76))
    velocities: NDArray[np.uint8] = (strength - 12 * (grid.part > 0)).astype(np.uint8)
    return velocities


def _files(request: Request) -> list[str]:
    return [name for name in (request.given, request.pose_from) if name is not None]


def _file_digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
