"""The 518 feature columns of FMA (Defferrard et al., ISMIR 2017), computed with librosa.

The recipe is followed as published: the waveform at its own sample rate, and no sample rate passed
to the spectral features, so that librosa assumes 22,050 Hz (at 44.1 kHz their Hz columns are half
of the true ones). Only 12 bins per octave are passed explicitly to the chroma of the constant-Q
transform: that was the meaning of the default when the published table was made. Constant features
have skew 0 and kurtosis -3, as in that table.

    python benchmarks/fma_features.py --data ../shared/data/emotify

computes one track after another in one thread at low priority, keeps each result, and writes one
table (paths × 518) at the end; run again, it continues where it stopped.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

import argparse
import hashlib
import sys
import time
import warnings
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from deepmusic.errors import DataError
from deepmusic.features import COLUMNS as RECIPE_COLUMNS, FEATURE_SIZES, STATISTICS
from deepmusic.files import write_atomically

CACHE = Path(__file__).resolve().parents[1] / ".cache"
SOUND = {".mp3", ".flac", ".ogg", ".opus", ".wav", ".au", ".aiff", ".aif"}
# in the order of the published table: by feature, statistic and number
COLUMNS = ["/".join(column) for column in RECIPE_COLUMNS]


def librosa_features(y: NDArray[np.float32], sr: int) -> dict[str, NDArray[np.floating]]:
    """Features over time, each (n, frames)."""
    cqt = np.abs(
        librosa.cqt(y, sr=sr, hop_length=512, bins_per_octave=12, n_bins=7 * 12, tuning=None)
    )
    cens = librosa.feature.chroma_cens(C=cqt, n_chroma=12, n_octaves=7, bins_per_octave=12)
    magnitude = np.abs(librosa.stft(y, n_fft=2048, hop_length=512))
    power = magnitude**2
    mel = librosa.feature.melspectrogram(S=power, sr=sr)
    feature = librosa.feature
    return {
        "chroma_cens": cens,
        "chroma_cqt": feature.chroma_cqt(C=cqt, n_chroma=12, n_octaves=7, bins_per_octave=12),
        "chroma_stft": feature.chroma_stft(S=power, n_chroma=12),
        "mfcc": feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=20),
        "rmse": feature.rms(S=magnitude),
        "spectral_bandwidth": feature.spectral_bandwidth(S=magnitude),
        "spectral_centroid": feature.spectral_centroid(S=magnitude),
        "spectral_contrast": feature.spectral_contrast(S=magnitude, n_bands=6),
        "spectral_rolloff": feature.spectral_rolloff(S=magnitude),
        "tonnetz": feature.tonnetz(chroma=cens),
        "zcr": feature.zero_crossing_rate(y, frame_length=2048, hop_length=512),
    }


def scipy_statistics(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """The seven statistics over time, (7 × n,), statistic by statistic."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # constant features
        values = {
            "kurtosis": np.nan_to_num(stats.kurtosis(rows, axis=1), nan=-3.0),
            "max": rows.max(axis=1),
            "mean": rows.mean(axis=1),
            "median": np.median(rows, axis=1),
            "min": rows.min(axis=1),
            "skew": np.nan_to_num(stats.skew(rows, axis=1), nan=0.0),
            "std": rows.std(axis=1),
        }
    return np.concatenate([values[name] for name in STATISTICS]).astype(np.float32)


def fma_columns(path: Path) -> NDArray[np.float32]:
    """The 518 columns of one track, in the order of ``COLUMNS``."""
    features = librosa_features(*librosa.load(path, sr=None, mono=True))
    return np.concatenate([scipy_statistics(features[feature]) for feature in FEATURE_SIZES])


def table_path(data: Path) -> Path:
    """Path of the table of a data folder."""
    return CACHE / f"{data.resolve().name}-518.npz"


def load_table(data: Path) -> dict[str, NDArray[np.float32]]:
    """The computed table: path relative to ``data``, with forward slashes -> 518 columns."""
    path = table_path(data)
    if not path.is_file():
        raise DataError(f"{path} is missing; run: python benchmarks/fma_features.py --data {data}")
    with np.load(path, allow_pickle=False) as table:
        return dict(zip(table["paths"].tolist(), table["columns"], strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/emotify"))
    data = parser.parse_args().data
    if hasattr(os, "nice"):
        os.nice(5)

    tracks = sorted(p for p in data.glob("*/*") if p.suffix.lower() in SOUND)
    if not tracks:
        print(f"no sound files in {data}/GENRE/", file=sys.stderr)
        return 2
    names = [track.relative_to(data).as_posix() for track in tracks]
    parts = CACHE / f"{data.resolve().name}-518"
    parts.mkdir(parents=True, exist_ok=True)

    kept: dict[str, NDArray[np.float32]] = {}
    failed = 0
    began = time.perf_counter()
    for number, (name, track) in enumerate(zip(names, tracks, strict=True), start=1):
        # named by content, so that a changed file is computed anew
        part = parts / f"{hashlib.sha256(track.read_bytes()).hexdigest()[:32]}.npy"
        if not part.is_file():
            try:
                columns = fma_columns(track)
            except Exception as error:
                # any: librosa and its back-ends raise all kinds, and one bad file must not
                # stop the others
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
                failed += 1
                continue
            with write_atomically(part, "wb") as file:
                np.save(file, columns)
        kept[name] = np.load(part, allow_pickle=False)
        if number % 20 == 0 or number == len(names):
            print(f"{number} of {len(names)} tracks, {time.perf_counter() - began:.0f} s")

    with write_atomically(table_path(data), "wb") as file:
        np.savez(
            file,
            paths=np.array(list(kept)),
            columns=np.stack(list(kept.values())),
            names=np.array(COLUMNS),
        )
    print(f"{table_path(data)}: {len(kept)} tracks × {len(COLUMNS)} columns, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
