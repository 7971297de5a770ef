"""What is not installed is named in one sentence, and the rest works without it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from deepmusic.errors import MissingLibraryError, RequestError
from deepmusic.extras import EXTRAS, LIBRARIES, explained, need

ROOT = Path(__file__).resolve().parents[2]
# a process in which the libraries of all extras are not installed
WITHOUT_EXTRAS = f"""
import sys
from importlib.machinery import PathFinder

class Base(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        missing = name.partition(".")[0] in {set(LIBRARIES)!r}
        return None if missing else super().find_spec(name, path, target)

sys.meta_path = [Base if finder is PathFinder else finder for finder in sys.meta_path]
"""


def python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_EXTRAS + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def deepmusic(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python("from deepmusic.cli import run\nrun()", *arguments, cwd=cwd)


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["optional-dependencies"]

    def distributions(extra: str) -> set[str]:
        names: set[str] = set()
        for requirement in wanted[extra]:
            name, _, included = requirement.partition("[")
            if included:
                names |= {n for part in included.strip("]").split(",") for n in distributions(part)}
            else:
                names.add(name.partition(">=")[0])
        return names

    assert set(EXTRAS) == set(wanted) - {"test", "lint", "docs"}
    assert {name for names in EXTRAS.values() for name in names} == set(LIBRARIES)
    providers = packages_distributions()
    for extra, modules in EXTRAS.items():
        assert {providers[name][0].lower() for name in modules} == distributions(extra)
    base = {requirement.partition(">=")[0] for requirement in project["dependencies"]}
    assert not base & {providers[name][0].lower() for name in LIBRARIES}


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for extra in EXTRAS:
        need(extra)  # all are installed where tests run
    monkeypatch.setitem(sys.modules, "skops", None)
    need("data")
    sentence = 'This needs skops: pip install "deepmusic-capsules[study]"'
    with pytest.raises(RequestError) as caught:
        need("study")
    assert str(caught.value) == sentence
    with pytest.raises(MissingLibraryError) as caught_inside, explained():
        import_module("skops")  # a module in it may be imported already
    assert str(caught_inside.value) == sentence
    with pytest.raises(ModuleNotFoundError, match="No module named 'nobody'"), explained():
        import_module("nobody")


COMMANDS = {
    "train classifier --from-scratch --data .": ("PyTorch", "train"),
    "train composer --data .": ("PyTorch", "train"),
    "benchmark jsb --data .": ("PyTorch", "train"),
    "train baseline --data .": ("Numba", "study"),
    "study genres --data . --out study": ("Numba", "study"),
    "study fma-baselines --data .": ("Numba", "study"),
    "features extract .": ("Numba", "features"),
    "features show song.mp3": ("Numba", "features"),
    "features check a b": ("Numba", "features"),
    "classify --model run song.mp3": ("Numba", "study"),
    "data stats .": ("pandas", "data"),
    "data split .": ("pandas", "data"),
    "data build . -o out": ("pandas", "data"),
    "data check . -o report.parquet": ("pandas", "data"),
    "data check . --dask tcp://localhost:1": ("Dask", "cluster"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_what_it_needs_before_any_work(command: str, tmp_path: Path) -> None:
    library, extra = COMMANDS[command]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.skops").touch()
    done = deepmusic(*command.split(), cwd=tmp_path)
    sentence = f'deepmusic: This needs {library}: pip install "deepmusic-capsules[{extra}]"\n'
    assert (done.returncode, done.stderr) == (2, sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_names_of_packages_say_what_they_need(tmp_path: Path) -> None:
    names = {
        "capsules": ("CapsuleLayer", "train"),
        "training": ("fit", "train"),
        "features": ("extract", "features"),
        "datasets": ("dataset_statistics", "data"),
        "studies": ("run_jobs", "study"),
    }
    code = f"""
import importlib
for package, (name, extra) in {names!r}.items():
    try:
        getattr(importlib.import_module(f"deepmusic.{{package}}"), name)
    except ImportError as error:
        print(extra, error)
"""
    done = python(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pattern = r'(\w+) This needs [\w-]+: pip install "deepmusic-capsules\[(\w+)\]"'
    found = [re.fullmatch(pattern, line) for line in done.stdout.splitlines()]
    assert [match and match[1] == match[2] for match in found] == [True] * len(names)


@pytest.mark.slow
def test_the_base_classifies_composes_and_checks(tmp_path: Path) -> None:
    script = str(ROOT / "scripts" / "make_demo_clip.py")
    code = f"import runpy\nrunpy.run_path({script!r}, run_name='__main__')"
    made = python(code, "clip.flac", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    for command in (
        "--help",
        "classify clip.flac --timeline-picture time.png",
        "classify clip.flac --explain why.png",
        "data check . -o report.csv",
        "data list",
        "generate --style folk --bars 4 --seed 1 --out tune",
        "doctor",
    ):
        done = deepmusic(*command.split(), cwd=tmp_path)
        assert (done.returncode, "needs" in done.stderr) == (0, False), done.stderr
    assert {path.suffix for path in tmp_path.glob("tune.*")} == {".mid", ".json", ".wav", ".png"}
