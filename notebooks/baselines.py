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
# # Baselines, and how to fool yourself with them
#
# Features and a classifier of scikit-learn tell genres apart. How well? That depends on who is in
# the test set. This notebook makes a small library, trains simple classifiers, and shows how much
# better they *look* when the test holds artists that they know from training.
#
# This file is a notebook kept as text. Run it with `python`, or open it in Jupyter with jupytext.

# %%
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # pictures go to files; leave this line out in Jupyter
import matplotlib.pyplot as plt
import numpy as np
import soundfile
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepmusic.datasets import make_folds, scan_folder
from deepmusic.features import extract_file, recipe_named
from deepmusic.studies.feature_sets import feature_set

# %% [markdown]
# ## A library
#
# Three genres of ten artists with three tracks each. A genre is a tempo, give or take; an *artist*
# is an instrument: overtones and hiss that all tracks of theirs share. Of your own music, name the
# folder `MUSIC/GENRE/*` instead.

# %%
MUSIC = Path("music")
RATE = 22_050
draw = np.random.default_rng(7)


def made_track(beats_a_second: float, overtones: np.ndarray, hiss: float) -> np.ndarray:
    """Three seconds: plucked notes of one instrument, at one tempo."""
    time_s = np.arange(3 * RATE) / RATE
    since_s = time_s % (1 / beats_a_second)
    pitch = draw.uniform(150, 400)
    tone = sum(a * np.sin(2 * np.pi * (k + 1) * pitch * time_s) for k, a in enumerate(overtones))
    sound = np.exp(-6 * since_s) * tone + hiss * draw.standard_normal(len(time_s))
    return 0.3 * sound / np.abs(sound).max()


if not MUSIC.exists():
    table = [("path", "genre", "artist")]
    for genre, tempo in (("slow", 1.5), ("medium", 2.5), ("fast", 4.0)):
        (MUSIC / genre).mkdir(parents=True)
        for artist in range(10):
            overtones, hiss = draw.dirichlet(np.full(6, 0.7)), 10 ** draw.uniform(-3, -1)
            for track in range(3):
                sound = made_track(tempo * 2 ** draw.normal(0, 0.35), overtones, hiss)
                path = f"{genre}/{artist}-{track}.wav"
                soundfile.write(MUSIC / path, sound, RATE)
                table.append((path, genre, f"{genre} artist {artist}"))
    with open(MUSIC / "tracks.csv", "w", newline="") as file:
        csv.writer(file).writerows(table)

dataset = scan_folder(MUSIC, table=MUSIC / "tracks.csv")
print(f"{len(dataset.tracks)} tracks, genres: {', '.join(dataset.genres)}")

# %% [markdown]
# ## Features
#
# 518 columns a track. `deepmusic features extract` does the same for a whole library, in parallel.

# %%
recipe = recipe_named("fma")
columns = np.stack([extract_file(dataset.file(track), recipe).columns for track in dataset.tracks])
genres = np.array([track.genre for track in dataset.tracks])
print(columns.shape)

# %% [markdown]
# ## Two ways to test
#
# Five folds each time. `make_folds` keeps an artist on one side; `protocol="random"` does not.
# Columns are scaled by the training tracks alone: the pipeline sees to that.

# %%
MODELS = {
    "majority": DummyClassifier(),
    "nearest neighbour": KNeighborsClassifier(1),
    "logistic regression": LogisticRegression(C=0.01, max_iter=2000),
}
SETS = ("mfcc", "mfcc/contrast", "all")
PROTOCOLS = {
    "artists apart": make_folds(dataset, seed=0),
    "random": make_folds(dataset, seed=0, protocol="random"),
}


def accuracy(name: str, chosen: str, protocol: str) -> float:
    """Share of tracks that are right, each told by a model that was not trained on it."""
    table = feature_set(chosen).select(columns)
    right = []
    for fold in PROTOCOLS[protocol]:
        train, test = [*fold.train, *fold.validation], list(fold.test)
        model = make_pipeline(StandardScaler(), MODELS[name]).fit(table[train], genres[train])
        right.append(model.predict(table[test]) == genres[test])
    return float(np.concatenate(right).mean())


scores = {
    (name, chosen, protocol): accuracy(name, chosen, protocol)
    for name in MODELS
    for chosen in SETS
    for protocol in PROTOCOLS
}
for name in MODELS:
    for chosen in SETS:
        apart, random = (scores[name, chosen, protocol] for protocol in PROTOCOLS)
        print(f"{name:20} {chosen:14} artists apart {apart:4.0%}   random {random:4.0%}")

# %% [markdown]
# ## The picture
#
# The nearest neighbour of a track is most often by the same artist. With random folds it is right
# for that reason alone; with artists apart the same model shows what it knows of genres. Published
# scores on random folds have this flaw, so compare only scores of the same protocol.

# %%
labels = [f"{name}\n{chosen}" for name in MODELS for chosen in SETS]
figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
for place, protocol in enumerate(PROTOCOLS):
    values = [scores[name, chosen, protocol] for name in MODELS for chosen in SETS]
    axes.bar(np.arange(len(labels)) + 0.4 * place, values, 0.4, label=protocol)
axes.axhline(1 / len(dataset.genres), color="grey", linewidth=1, linestyle=":", label="chance")
axes.set_xticks(np.arange(len(labels)) + 0.2, labels, fontsize=7)
axes.set_ylabel("accuracy")
axes.legend()
figure.savefig("baselines.png", dpi=120)
print("drawn: baselines.png")
