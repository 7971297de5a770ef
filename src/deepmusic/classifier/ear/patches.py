"""What the ear reads and says: patches of a mel spectrogram, and its tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, log_mel, segment_starts

EAR_MEL = LogMelConfig(sample_rate=16_000, n_fft=512, hop_length=256, n_mels=96)
"""Settings of the spectrogram that the ear was trained on."""
PATCH_FRAMES = 187
"""Frames of a patch, 2.99 s."""
FEATURES = 256
"""Numbers that the ear gives for a patch before its last layer."""
TAGS = (
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s"),
    *("alternative rock", "jazz", "beautiful", "metal", "chillout", "male vocalists"),
    *("classic rock", "soul", "indie rock", "mellow", "electronica", "80s", "folk", "90s"),
    *("chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient", "acoustic"),
    *("experimental", "female vocalist", "guitar", "hip-hop", "70s", "party", "country"),
    *("easy listening", "sexy", "catchy", "funk", "electro", "heavy metal", "progressive rock"),
    *("60s", "rnb", "indie pop", "sad", "house", "happy"),
)
"""The tags of Last.fm in the order of the ear's logits, the most common in its training first."""

EarOutput = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Features ``(n, 256)`` and logits of tags ``(n, 50)`` of the patches of a track."""

_HOP, _PAD = EAR_MEL.hop_length, EAR_MEL.n_fft // 2
_PATCH_SAMPLES = (PATCH_FRAMES - 1) * _HOP + EAR_MEL.n_fft


def compressed(log_mel_db: NDArray[np.floating]) -> NDArray[np.float32]:
    """Patches ``(n, 187, 96)`` as the ear reads them, of ``(n, 96, 187)`` in dB of power."""
    power = np.power(np.float32(10), np.asarray(log_mel_db, np.float32) / 10)
    scaled = np.log10(10_000 * power + 1)
    return np.ascontiguousarray(scaled.transpose(0, 2, 1), np.float32)


def patches_of(
    blocks: Iterable[NDArray[np.float32]], count: int | None = 8
) -> tuple[list[int], NDArray[np.float32]]:
    """Patches of a track that arrives in blocks, spread evenly over its whole length.

    The length need not be known: every patch is kept at first, and whenever there are twice as many
    as wanted, every second one is dropped. Memory does not grow with the track. A track shorter
    than a patch is repeated.

    Args:
        blocks: mono float32 ``(n,)`` at the rate of `EAR_MEL`.
        count: the most patches that are wanted; None takes every patch, one after another.

    Returns:
        The first frame of each patch, and the patches ``(n, 96, 187)`` in dB.
    """
    step = 1
    kept: list[tuple[int, NDArray[np.float32]]] = []
    last: tuple[int, NDArray[np.float32]] | None = None
    for number, (start, sound) in enumerate(_cut(blocks)):
        last = start, sound
        if number % step == 0:
            kept.append(last)
        if count is not None and len(kept) > 2 * count:
            kept, step = kept[::2], 2 * step
    assert last is not None
    if last[0] != kept[-1][0]:
        kept.append(last)
    if count is not None and len(kept) > count:
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, count).round().astype(int)]
    return [start for start, _ in kept], np.stack([_patch(sound) for _, sound in kept])


def _cut(blocks: Iterable[NDArray[np.float32]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First frame and samples of each patch, the last one where the track ends.

    Frames are centred, so that those at either end of the track see zeros.
    """
    edge = np.zeros(_PAD, np.float32)
    stride = PATCH_FRAMES * _HOP
    held, first = np.empty(0, np.float32), 0  # first: the frame at which `held` begins
    for block in chain([edge], blocks, [edge]):
        held = np.concatenate([held, block])
        # one patch more than is given is held, for a last patch that ends with the track
        while len(held) >= _PATCH_SAMPLES + 2 * stride:
            yield first, held[:_PATCH_SAMPLES].copy()
            held, first = held[stride:], first + PATCH_FRAMES
    frames = 1 + (len(held) - EAR_MEL.n_fft) // _HOP
    for start in segment_starts(frames, length=PATCH_FRAMES, hop=PATCH_FRAMES):
        yield first + start, held[start * _HOP : start * _HOP + _PATCH_SAMPLES]


def _patch(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """The spectrogram ``(96, 187)`` in dB of a patch's samples, which include its edges."""
    inner = log_mel(sound, EAR_MEL)
    frames = 1 + (len(sound) - EAR_MEL.n_fft) // _HOP
    # centred frames at the edges see zeros, those one window's half further see none
    inside = inner[:, _PAD // _HOP : _PAD // _HOP + frames]
    return np.resize(inside.T, (PATCH_FRAMES, EAR_MEL.n_mels)).T
