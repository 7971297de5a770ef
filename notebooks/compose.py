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
# # Compose a tune
#
# In the composer that ships with DeepMusic, capsules represent the style and its attributes, and a
# decoder gives the exact probability of every set of notes. It takes seconds on one core, offline.
#
# This file is a notebook kept as text. Run it with `python`, or open it in Jupyter with jupytext.

# %%
import deepmusic
from deepmusic.music import draw_piano_roll, estimate_key, read_midi, score_to_grid, write_midi

# %% [markdown]
# ## Request it
#
# A style, a length, a key, a seed. The same request gives the same tune.

# %%
REQUEST = {"style": "folk", "bars": 8, "key": "D major", "seed": 4, "candidates": 1}
tune = deepmusic.generate(**REQUEST)
print(f"{len(tune.score.notes)} notes in {len(tune.score.parts)} parts")
assert deepmusic.generate(**REQUEST).score == tune.score  # the same seed, the same tune

# %% [markdown]
# ## The report
#
# A style critic, trained on human music only, gives the probability of each style. The copy report
# has the longest passage that the tune shares with the training music.

# %%
print("key:", tune.report["key"])
print("styles:", tune.report["style_probabilities"])
copying = tune.report["copying"]
print(
    f"longest shared passage: {copying['steps']} sixteenths; of human pieces outside the training "
    f"data, half share {copying['reference']['steps']['p50']:.0f} or more"
)

# %% [markdown]
# ## Save it
#
# As MIDI, which notation programs read, and as a piano roll.

# %%
write_midi(tune.score, "tune.mid")
draw_piano_roll(tune.score, "tune.png", title="Eight bars of folk")
grid = score_to_grid(read_midi("tune.mid"), 4)  # sixteenths
key = estimate_key(grid)
NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
print("Estimated key of tune.mid:", NAMES[key.tonic], "minor" if key.is_minor else "major")
print("plot: tune.png")

# %% [markdown]
# ## Move its attributes
#
# The pose of a style capsule describes the music. Along one direction it gets denser, along another
# higher; here the pitch is moved up by one standard deviation of the style. Notes are still
# sampled, so a single tune may not follow.

# %%
higher = deepmusic.generate(**REQUEST, pose={"pitch": 1.0})
pitches = [
    sum(note.pitch for note in one.score.notes) / len(one.score.notes) for one in (tune, higher)
]
print(f"mean pitch {pitches[0]:.1f}, moved {pitches[1]:.1f}")
draw_piano_roll(higher.score, "higher.png", title="The same, higher")
