"""docs/recipes/command.md, followed step by step."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from deepmusic import cli

RECIPE = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "command.md"


def test_the_recipe_makes_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, register, test = re.findall(r"```python\n(.*?)```", RECIPE.read_text("utf-8"), re.S)
    (tmp_path / "length.py").write_text(command, encoding="utf-8")
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    monkeypatch.setitem(cli._COMMANDS, "length", "")  # removed after the test
    exec(register, {"_COMMANDS": cli._COMMANDS})
    assert "length" in CliRunner().invoke(cli.deepmusic, ["--help"]).output

    sound = tmp_path / "sound.wav"
    soundfile.write(sound, np.full(16000, 0.5), 8000)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(test, scope)
    scope["test_length"](str(sound))  # type: ignore[operator]
    missing = CliRunner().invoke(cli.deepmusic, ["length"])
    assert missing.exit_code in (0, 2)
    sys.modules.pop("deepmusic.cli.length", None)
