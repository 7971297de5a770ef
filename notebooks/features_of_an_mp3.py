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
# # What a computer hears in an mp3
#
# From the file to numbers that a classifier can learn from: a spectrogram, series over time, and
# 518 columns that sum them up. Those columns are the features of FMA (Defferrard et al., ISMIR
# 2017).
#
# This file is a notebook kept as text. Run it with `python`, or open it in Jupyter with jupytext.

# %%
from pathlib import Path

import numpy as np
import soundfile

from deepmusic.features import COLUMNS, FEATURE_SIZES, extract_file, frame_features, recipe_named
from deepmusic.features.plot import analyze, draw_analysis, read_excerpt

# %% [markdown]
# ## A piece of sound
#
# Put the name of a recording of yours here. Where there is none, this cell makes one: four chords,
# each plucked again every half second, with a little hiss.

# %%
SONG = Path("song.mp3")
RATE = 44_100  # samples a second

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
            time_s = np.arange(RATE // 2) / RATE
            overtones = [np.sin(2 * np.pi * k * f * time_s) / k for f in chord for k in (1, 2, 3)]
            beats.append(np.exp(-5 * time_s) * np.sum(overtones, axis=0))
    sound = np.concatenate(beats) / 8
    sound += 0.002 * np.random.default_rng(0).standard_normal(len(sound))
    soundfile.write(SONG, sound, RATE, format="MP3", subtype="MPEG_LAYER_III")

# %% [markdown]
# ## Series over time
#
# Each family is a few numbers for every frame of 2,048 samples, a new frame each 512 samples.
# `chroma` folds all octaves into the 12 pitch classes; `mfcc` tells the shape of the spectrum, as
# the ear hears it, in 20 numbers; `zcr` counts how often the wave crosses zero.

# %%
excerpt = read_excerpt(SONG, seconds=8.0)
rows = frame_features(excerpt.samples, excerpt.sample_rate)
for family in ("chroma_cqt", "mfcc", "spectral_centroid", "zcr"):
    series = np.asarray(rows[family])
    print(f"{family:18} {series.shape[0]:3} rows of {series.shape[1]} frames")

# %% [markdown]
# Which pitch classes sound? The first chord is A minor: A, C and E.

# %%
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
second = rows["chroma_cqt"][:, : excerpt.sample_rate // 512].mean(axis=1)  # the first second
loudest = sorted(NAMES[place] for place in np.argsort(second)[-3:])
print("The first second holds most of", ", ".join(loudest))

# %% [markdown]
# ## 518 columns
#
# A classifier wants the same number of columns for each track, however long. So each row is summed
# up by seven statistics: mean, standard deviation, skew, kurtosis, median, least and largest
# value.

# %%
features = extract_file(SONG, recipe_named("fma"))
print(f"{features.path}: {features.duration_s:.1f} s at {features.sample_rate} Hz")
print(f"{sum(FEATURE_SIZES.values())} rows x 7 statistics = {len(features.columns)} columns")
for name in (("zcr", "mean", "01"), ("mfcc", "mean", "01"), ("spectral_centroid", "median", "01")):
    print(f"{'/'.join(name):28} {features.columns[COLUMNS.index(name)]:10.3f}")

# %% [markdown]
# Mind the recipe: in `fma` most features take every file for 22,050 Hz, as in the published table,
# so the centroid of this one at 44,100 Hz is half of what it is. `recipe_named("fma-corrected")`
# tells them the true rate. Do not mix the two in one table.

# %% [markdown]
# ## The picture

# %%
draw_analysis(analyze(excerpt), "features.png", title="What is heard")
print("drawn: features.png")
