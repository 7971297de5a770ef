"""Write the table of parameters in ``docs/study-networks.md``, between its two markers.

python scripts/write_study_networks.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.files import write_atomically
from deepmusic.studies.segment_networks import NETWORKS, build_network, count_parameters

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from docs_page import with_parts  # noqa: E402

PAGE = ROOT / "docs" / "study-networks.md"
REFERENCE = "capsules-dynamic"


def table() -> str:
    """Parameters of each network of the study for four genres, beside the reference."""
    config = ClassifierConfig(genres=tuple("abcd"), texture_capsules=0, texture_networks=0)
    sizes = {name: count_parameters(build_network(name, config)) for name in NETWORKS}
    lines = [f"| network | parameters | compared with `{REFERENCE}` |", "| --- | --- | --- |"]
    for name, size in sizes.items():
        change = 100 * (size / sizes[REFERENCE] - 1)
        lines.append(f"| `{name}` | {size:,} | {change:+.1f} % |")
    return "\n".join(lines)


def with_table(page: str) -> str:
    """The page with its table made anew."""
    parts = {"table": f"\n{table()}\n\n"}
    return with_parts(page, "scripts/write_study_networks.py", parts)


if __name__ == "__main__":
    text = with_table(PAGE.read_text(encoding="utf-8"))
    with write_atomically(PAGE) as file:
        file.write(text)
