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
# # Write a tune
#
# The composer that ships with DeepMusic writes notes: capsules hold the style and its
# attributes, and a decoder gives every set of notes its exact probability. This takes seconds on
# one core, offline.
#
# This file is a notebook kept as text. Run it with `python`, or open it in Jupyter with jupytext.

# %%
import deepmusic
from deepmusic.music import draw_piano_roll, estimate_key, read_midi, score_to_grid, write_midi

# %% [markdown]
# ## Ask for it
#
# A style, a length, a key, a seed. The same request gives the same tune.

# %%
REQUEST = {"style": "folk", "bars": 8, "key": "D major", "seed": 4, "candidates": 1}
tune = deepmusic.generate(**REQUEST)
print(f"{len(tune.score.notes)} notes in {len(tune.score.parts)} parts")
assert deepmusic.generate(**REQUEST).score == tune.score  # the same seed, the same tune

# %% [markdown]
# ## What is known of it
#
# A critic, trained on music by people only, says which style it takes the tune for. The copy report
# tells the longest passage that the training music shares with it.

# %%
print("key:", tune.report["key"])
print("critic:", tune.report["critic"])
copying = tune.report["copying"]
print(
    f"longest passage shared: {copying['steps']} sixteenths; of pieces by people that the model "
    f"did not learn from, half share {copying['reference']['steps']['p50']:.0f} or more"
)

# %% [markdown]
# ## Keep it
#
# As MIDI, which any notation program reads, and as a picture: time to the right, pitch upwards.

# %%
write_midi(tune.score, "tune.mid")
draw_piano_roll(tune.score, "tune.png", title="Eight bars of folk")
grid = score_to_grid(read_midi("tune.mid"), 4)  # sixteenths
key = estimate_key(grid)
NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
print("By its notes, tune.mid is in", NAMES[key.tonic], "minor" if key.is_minor else "major")
print("drawn: tune.png")

# %% [markdown]
# ## Move its attributes
#
# The pose of a style's capsule says *how* it is played. Along one direction music gets denser,
# along another higher; here the pitch is asked to go up by one standard deviation of the style.
# What is drawn note by note still varies, so a single tune may not follow.

# %%
higher = deepmusic.generate(**REQUEST, pose={"pitch": 1.0})
pitches = [
    sum(note.pitch for note in one.score.notes) / len(one.score.notes) for one in (tune, higher)
]
print(f"mean pitch {pitches[0]:.1f}, moved {pitches[1]:.1f}")
draw_piano_roll(higher.score, "higher.png", title="The same, higher")
