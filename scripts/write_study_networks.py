"""Write the table of parameters in ``docs/study-networks.md``, between its two markers.

python scripts/write_study_networks.py
"""

from __future__ import annotations

from pathlib import Path

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.files import write_atomically
from deepmusic.studies.segment_networks import NETWORKS, build_network, count_parameters

PAGE = Path(__file__).resolve().parents[1] / "docs" / "study-networks.md"
START, END = "<!-- table by scripts/write_study_networks.py -->", "<!-- end of table -->"
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
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"{PAGE} lacks the markers {START} and {END}")
    return f"{before}{START}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    text = with_table(PAGE.read_text(encoding="utf-8"))
    with write_atomically(PAGE) as file:
        file.write(text)
