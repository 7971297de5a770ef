"""What may import what, and that the start is quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deepmusic
from deepmusic.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "deepmusic"
# a part may import what stands in a line above its own, and itself
LAYERS = [
    {"errors", "version"},
    {"extras"},
    {"files", "parallel", "store"},
    {"plotting"},
    {"capsules", "audio", "music"},
    {"features", "datasets", "training"},
    {"classifier", "composer"},
    {"studies", "pretrained"},
    {"cli"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# torch takes seconds to import: these must do without it until it is needed
WITHOUT_TORCH = {
    "audio",
    "music",
    "features",
    "datasets",
    "cli",
    "files",
    "parallel",
    "plotting",
    "store",
    "errors",
    "extras",
    "version",
}
WITH_TORCH = {"deepmusic.audio.log_mel_torch", "deepmusic.features.batches"}
# what hears on the CPU, and what judges music
ALSO_WITHOUT_TORCH = {
    "deepmusic.composer",
    "deepmusic.composer.composer",
    "deepmusic.composer.memorization",
    "deepmusic.composer.critic_training",
    "deepmusic.composer.style_critic",
    "deepmusic.composer.encoding",
    "deepmusic.classifier",
    "deepmusic.classifier.inference",
    "deepmusic.classifier.files",
    "deepmusic.classifier.explanation",
    "deepmusic.classifier.exported",
    "deepmusic.pretrained",
    "deepmusic.training",
    "deepmusic.training.weights",
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Names of ours that a module imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            # `from deepmusic import audio` imports a part; `from deepmusic.audio import load` too
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "deepmusic"}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_one_way(path: Path) -> None:
    name = module_name(path)
    if name == "deepmusic":  # the front: its names are looked up when they are first used
        return
    ours = name.split(".")[1]
    assert ours in LEVEL, f"give {ours} its place in LAYERS"
    for wanted in imported(path):
        part = wanted.split(".")[1] if "." in wanted else ""
        assert part in LEVEL, f"{name} imports {wanted}: import it from the part that defines it"
        assert part == ours or LEVEL[part] < LEVEL[ours], f"{name} must not import {wanted}"
        if ours == "capsules":
            assert part in {"capsules", "errors", "extras"}, (
                f"{name} must not import {wanted}: it stands alone"
            )


@pytest.mark.slow
def test_torch_is_imported_only_where_it_is_needed() -> None:
    names = [module_name(path) for path in MODULES]
    light = [
        name
        for name in names
        if name == "deepmusic" or (name.split(".")[1] in WITHOUT_TORCH and name not in WITH_TORCH)
    ] + sorted(ALSO_WITHOUT_TORCH)
    assert len(light) > 10
    code = (
        "import importlib, sys\n"
        f"for name in {light!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, f'{name} imports torch'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_does_without_torch() -> None:
    code = (
        "import sys\n"
        "from deepmusic.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'scipy', 'sklearn', 'matplotlib', 'av'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    for arguments in (["--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "deepmusic" in done.stdout


def test_the_version_is_written_once_and_has_its_changes() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in pyproject
    assert "\nversion =" not in pyproject
    assert deepmusic.__version__ == __version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{__version__}]" in changes
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in citation
