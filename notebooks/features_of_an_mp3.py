# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The features of an mp3
#
# From the file to numbers that a classifier can learn from: features over time, and 518 columns
# that summarize them. Those columns are the features of FMA (Defferrard et al., ISMIR 2017).
#
# This file is a notebook kept as text. Run it with `python`, or open it in Jupyter with jupytext.

# %%
from pathlib import Path

import numpy as np
import soundfile

from deepmusic.features import COLUMNS, FEATURE_SIZES, extract_file, frame_features, recipe_named
from deepmusic.features.plot import analyze, draw_analysis, read_excerpt

# %% [markdown]
# ## A recording
#
# Put the name of a recording here. If there is none, this cell makes one: four chords, each plucked
# every half second, with a little noise.

# %%
SONG = Path("song.mp3")
SAMPLE_RATE = 44_100  # Hz

if not SONG.exists():
    chords = [
        (220.0, 261.6, 329.6),
        (174.6, 220.0, 261.6),
        (261.6, 329.6, 392.0),
        (196.0, 246.9, 293.7),
    ]
    beats = []
    for chord in chords:
        for _ in range(4):
            time_s = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
            overtones = [np.sin(2 * np.pi * k * f * time_s) / k for f in chord for k in (1, 2, 3)]
            beats.append(np.exp(-5 * time_s) * np.sum(overtones, axis=0))
    sound = np.concatenate(beats) / 8
    sound += 0.002 * np.random.default_rng(0).standard_normal(len(sound))
    soundfile.write(SONG, sound, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III")

# %% [markdown]
# ## Features over time
#
# Each feature is a few numbers for every frame of 2,048 samples; frames begin every 512 samples.
# `chroma` folds all octaves into the 12 pitch classes; `mfcc` describes the spectral envelope in 20
# numbers; `zcr` is the zero-crossing rate.

# %%
excerpt = read_excerpt(SONG, seconds=8.0)
features = frame_features(excerpt.samples, excerpt.sample_rate)
for name in ("chroma_cqt", "mfcc", "spectral_centroid", "zcr"):
    values, frames = features[name].shape
    print(f"{name:18} {values:3} values in each of {frames} frames")

# %% [markdown]
# The strongest pitch classes: the first chord is A minor, with A, C and E.

# %%
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
chroma = features["chroma_cqt"][:, : excerpt.sample_rate // 512].mean(axis=1)  # one second
strongest = sorted(NAMES[index] for index in np.argsort(chroma)[-3:])
print("Strongest in the first second:", ", ".join(strongest))

# %% [markdown]
# ## 518 columns
#
# A classifier needs the same number of columns for each track, whatever its length. So each value
# is summarized over time by seven statistics: mean, standard deviation, skew, kurtosis, median,
# minimum and maximum.

# %%
row = extract_file(SONG, recipe_named("fma"))
print(f"{row.path}: {row.duration_s:.1f} s at {row.sample_rate} Hz")
print(f"{sum(FEATURE_SIZES.values())} values x 7 statistics = {len(row.columns)} columns")
for name in (("zcr", "mean", "01"), ("mfcc", "mean", "01"), ("spectral_centroid", "median", "01")):
    print(f"{'/'.join(name):28} {row.columns[COLUMNS.index(name)]:10.3f}")

# %% [markdown]
# Mind the recipe: in `fma`, most features assume a sample rate of 22,050 Hz, as in the published
# table, so the centroid of this file at 44,100 Hz is half of the true one.
# `recipe_named("fma-corrected")` uses the true rate. Do not mix the two in one table.

# %% [markdown]
# ## The plot

# %%
draw_analysis(analyze(excerpt), "features.png", title="Features over time")
print("plot: features.png")
