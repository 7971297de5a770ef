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
# # Baselines, and how leakage inflates them
#
# How well do features and a scikit-learn classifier recognise genres? That depends on the test set.
# This notebook generates a small library, trains simple classifiers, and shows how much better they
# *look* when the test set contains artists of the training set.
#
# This file is a notebook kept as text. Run it with `python`, or open it in Jupyter with jupytext.

# %%
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # plots go to files; omit this line in Jupyter
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
# Three genres of ten artists with three tracks each. A genre is a range of tempos; an *artist* is
# an instrument, with overtones and hiss that all their tracks share. For your own music, set
# `MUSIC` to a folder with `GENRE/*`.

# %%
MUSIC = Path("music")
SAMPLE_RATE = 22_050
rng = np.random.default_rng(7)


def make_track(beats_per_second: float, overtones: np.ndarray, hiss: float) -> np.ndarray:
    """Three seconds of plucked notes of one instrument, at one tempo."""
    time_s = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    since_s = time_s % (1 / beats_per_second)
    pitch = rng.uniform(150, 400)
    tone = sum(a * np.sin(2 * np.pi * (k + 1) * pitch * time_s) for k, a in enumerate(overtones))
    sound = np.exp(-6 * since_s) * tone + hiss * rng.standard_normal(len(time_s))
    return 0.3 * sound / np.abs(sound).max()


if not MUSIC.exists():
    table = [("path", "genre", "artist")]
    for genre, tempo in (("slow", 1.5), ("medium", 2.5), ("fast", 4.0)):
        (MUSIC / genre).mkdir(parents=True)
        for artist in range(10):
            overtones, hiss = rng.dirichlet(np.full(6, 0.7)), 10 ** rng.uniform(-3, -1)
            for track in range(3):
                sound = make_track(tempo * 2 ** rng.normal(0, 0.35), overtones, hiss)
                path = f"{genre}/{artist}-{track}.wav"
                soundfile.write(MUSIC / path, sound, SAMPLE_RATE)
                table.append((path, genre, f"{genre} artist {artist}"))
    with open(MUSIC / "tracks.csv", "w", newline="") as file:
        csv.writer(file).writerows(table)

dataset = scan_folder(MUSIC, table=MUSIC / "tracks.csv")
print(f"{len(dataset.tracks)} tracks, genres: {', '.join(dataset.genres)}")

# %% [markdown]
# ## Features
#
# 518 columns per track. `deepmusic features extract` does the same for a whole library, in
# parallel.

# %%
recipe = recipe_named("fma")
columns = np.stack([extract_file(dataset.file(track), recipe).columns for track in dataset.tracks])
genres = np.array([track.genre for track in dataset.tracks])
print(columns.shape)

# %% [markdown]
# ## Two ways to test
#
# Five folds each time. `make_folds` keeps an artist on one side; `protocol="random"` does not.
# The pipeline standardizes columns on the training tracks alone.

# %%
MODELS = {
    "majority": DummyClassifier(),
    "nearest neighbour": KNeighborsClassifier(1),
    "logistic regression": LogisticRegression(C=0.01, max_iter=2000),
}
SETS = ("mfcc", "mfcc/contrast", "all")
PROTOCOLS = {
    "grouped by artist": make_folds(dataset, seed=0),
    "random": make_folds(dataset, seed=0, protocol="random"),
}


def accuracy(name: str, chosen: str, protocol: str) -> float:
    """Accuracy over all folds; no track is predicted by a model that was trained on it."""
    table = feature_set(chosen).select(columns)
    is_correct = []
    for fold in PROTOCOLS[protocol]:
        train, test = [*fold.train, *fold.validation], list(fold.test)
        model = make_pipeline(StandardScaler(), MODELS[name]).fit(table[train], genres[train])
        is_correct.append(model.predict(table[test]) == genres[test])
    return float(np.concatenate(is_correct).mean())


scores = {
    (name, chosen, protocol): accuracy(name, chosen, protocol)
    for name in MODELS
    for chosen in SETS
    for protocol in PROTOCOLS
}
for name in MODELS:
    for chosen in SETS:
        grouped, random = (scores[name, chosen, protocol] for protocol in PROTOCOLS)
        print(f"{name:20} {chosen:14} grouped by artist {grouped:4.0%}   random {random:4.0%}")

# %% [markdown]
# ## The plot
#
# The nearest neighbour of a track is usually by the same artist. With random folds that alone makes
# the prediction correct; with grouped folds the same model shows what it has learned of genres.
# Published scores on random folds have this flaw, so compare only scores of the same protocol.

# %%
labels = [f"{name}\n{chosen}" for name in MODELS for chosen in SETS]
figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
for index, protocol in enumerate(PROTOCOLS):
    values = [scores[name, chosen, protocol] for name in MODELS for chosen in SETS]
    axes.bar(np.arange(len(labels)) + 0.4 * index, values, 0.4, label=protocol)
axes.axhline(1 / len(dataset.genres), color="grey", linewidth=1, linestyle=":", label="chance")
axes.set_xticks(np.arange(len(labels)) + 0.2, labels, fontsize=7)
axes.set_ylabel("accuracy")
axes.legend()
figure.savefig("baselines.png", dpi=120)
print("plot: baselines.png")
