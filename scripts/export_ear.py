"""Writes the graph of the ear, without weights, where the package reads it."""

from pathlib import Path

import deepmusic
from deepmusic.classifier.ear.network import export_ear
from deepmusic.files import write_atomically

with write_atomically(
    Path(deepmusic.__file__).parent / "pretrained" / "weights" / "ear.onnx", "wb"
) as file:
    file.write(export_ear())
