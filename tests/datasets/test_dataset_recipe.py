"""docs/recipes/dataset.md, followed step by step."""

from __future__ import annotations

import re
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from miniature_gtzan import write_clip

from deepmusic.datasets import REGISTRY
from deepmusic.datasets.registry import parse_registry

RECIPE = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "dataset.md"


def test_the_recipe_works_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```(python|toml)\n(.*?)```", RECIPE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        genre = ("blues", "rock")[number % 2]
        write_clip(tmp_path / "tiny" / genre / f"artist{number // 2}-{number}.wav", number)
    archive = Path(shutil.make_archive("tiny", "zip", ".", "tiny"))
    names: dict[str, object] = {}
    for kind, code in blocks:
        if kind == "toml":
            text = code.replace("SIZE", str(archive.stat().st_size)).replace(
                "CHECKSUM", sha256(archive.read_bytes()).hexdigest()
            )
            monkeypatch.setitem(REGISTRY, "tiny", parse_registry(text)["tiny"])
        else:
            exec(code, names)
    assert names["dataset"].genres == ("blues", "rock")  # type: ignore[attr-defined]
    fold = names["fold"]  # type: ignore[attr-defined]
    assert sorted(fold.train + fold.validation + fold.test) == list(range(12))
