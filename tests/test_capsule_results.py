"""The page of capsule results is made from what was measured, and compares what is comparable."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def loaded(folder: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = loaded("scripts", "write_capsule_results")
BENCHMARK = loaded("benchmarks", "capsule_routing")


def digits(**means: float) -> dict[str, Any]:
    variants = {
        name: {
            "loss": "margin",
            "accuracy_percent": {"mean": mean, "sd": 0.1},
            "affine_accuracy_percent": {"mean": 80.0, "sd": 1.0},
            "parameters": 1234,
            "cpu_s": 10.0,
        }
        for name, mean in means.items()
    }
    return {
        "machine": "a machine",
        "data": "digits",
        "learnt_from": 80,
        "tested": 20,
        "test_distortions": 5,
        "seeds": [0, 1, 2, 3, 4],
        "recipe": {"epochs": 3},
        "variants": variants,
    }


def main_part(**changes: Any) -> dict[str, Any]:
    row = {
        "variant": "dynamic, folded",
        "method": "dynamic",
        "form": "folded",
        "stopped": False,
        "ms": 50.0,
        "mib": 20.0,
        "votes_mib": 45.0,
        "faster": 31.4,
        "leaner": 29.0,
    }
    targets = [
        {"what": "fast", "value": 31.4, "target": "at least 30", "met": True},
        {"what": "lean", "value": 29.0, "target": "at least 30", "met": False},
    ]
    return {
        "case": BENCHMARK.Dense()._asdict(),
        "agreement": 1e-7,
        "rows": [row],
        "targets": targets,
        "rounds": 5,
        "seed": 0,
        "machine": "a machine",
        "load_before": 0.0,
        **changes,
    }


def write(folder: Path, **records: dict[str, Any]) -> str:
    for name, record in records.items():
        (folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    text: str = PAGE.page(folder)
    return text


def test_the_page_is_what_the_script_makes_of_the_measurements() -> None:
    page = (ROOT / "docs" / "capsule-results.md").read_text(encoding="utf-8")
    assert page == PAGE.page(ROOT / "docs" / "measured"), "run scripts/write_capsule_results.py"


def test_a_page_without_measurements_says_so(tmp_path: Path) -> None:
    assert PAGE.page(tmp_path).count("Not measured yet.") == 8


def test_a_missed_target_and_a_busy_machine_are_stated(tmp_path: Path) -> None:
    page = write(tmp_path, capsule_routing={"cpu": {"main": main_part(load_before=1.5)}})
    assert "| fast | 31.4 | at least 30 | met |" in page
    assert "| lean | 29.0 | at least 30 | **missed** |" in page
    assert "The machine was not idle before these parts (load): `main` 1.5." in page


def test_accuracy_speed_and_memory_stand_together(tmp_path: Path) -> None:
    page = write(
        tmp_path,
        capsule_routing={"cpu": {"main": main_part()}},
        capsule_digits=digits(dynamic=98.0, uniform=97.0),
    )
    assert "| `dynamic` | 98.00 ± 0.10 | 80.00 ± 1.00 | 50.0 | 31.4 | 20.0 | 29.0 |" in page


def test_only_what_exceeds_its_interval_is_called_better(tmp_path: Path) -> None:
    page = write(tmp_path, capsule_digits=digits(dynamic=98.0, em=97.1, uniform=97.0))
    assert "- `dynamic` is better than `uniform` on digits." in page
    assert page.count("is better than `") == 1
    assert "is worse than" not in page


def test_an_interval_counts_the_images_that_splits_share() -> None:
    ours, theirs = {"mean": 98.0, "sd": 3.0}, {"mean": 97.0, "sd": 4.0}
    gain, width = PAGE.difference(ours, theirs, seeds=4, overlap=0.25)
    assert gain == pytest.approx(1.0)
    assert width == pytest.approx(3.182446 * 5 * 0.5**0.5, rel=1e-5)  # t of 3 degrees of freedom


def test_the_usual_layer_computes_what_ours_does() -> None:
    assert BENCHMARK.largest_difference() < 1e-5


@pytest.mark.parametrize("kind", ["Dense", "Grid"])
def test_every_variant_gives_all_its_leaves_a_gradient(kind: str) -> None:
    case = getattr(BENCHMARK, kind)()
    variants = BENCHMARK.MAIN if kind == "Dense" else BENCHMARK.CONVOLUTIONAL
    assert len({variant.name for variant in variants}) == len(variants)
    for variant in variants:
        job = BENCHMARK.prepare(variant, case.tiny(), "cpu")
        job.step()
        for leaf in job.leaves:
            assert leaf.grad is not None, variant.name
            assert torch.isfinite(leaf.grad).all(), variant.name


def test_a_size_survives_the_way_to_another_process() -> None:
    for case in (BENCHMARK.Dense(batch=3), BENCHMARK.Grid(side=7)):
        assert BENCHMARK.case_of([type(case).__name__, *map(str, case)]) == case
