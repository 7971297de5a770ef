"""A study's report as one page that needs no other file: style and pictures are in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from deepmusic.studies.report import Report
from deepmusic.studies.report_text import Picture, Section, Table, clean, headline, sections

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2127; background: #fff; margin: 0; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.7rem; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #d5d9df; }
.lead { font-size: 1.1rem; }
.warning { background: #fff4e0; border-left: 4px solid #e07b00; padding: .4rem .8rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #e4e7eb; }
th { background: #f3f5f7; text-align: right; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
th:first-child { background: #f3f5f7; }
tr.reference td { font-weight: 600; }
figure { margin: 1.2rem 0; }
img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .9rem; color: #4a525d; margin-top: .3rem; }
summary { cursor: pointer; padding: .4rem 0; }
nav a { margin-right: .9rem; }
"""


def page(report: Report, pictures: Sequence[Picture], folder: Path) -> str:
    """The report as an HTML page.

    Args:
        report: the figures.
        pictures: that belong to it.
        folder: where their files are.

    Raises:
        OSError: a picture cannot be read.
    """
    parts = sections(report, pictures)
    links = " ".join(f'<a href="#{_anchor(part)}">{_text(part.title)}</a>' for part in parts)
    body = [
        "<h1>Study of genres</h1>",
        f'<p class="lead">{_text(headline(report))}</p>',
        *(f"<p>{_text(said)}</p>" for said in report.about),
        *(f'<p class="warning">{_text(warning)}</p>' for warning in report.warnings),
        f"<nav>{links}</nav>",
    ]
    for part in parts:
        body.append(f'<section id="{_anchor(part)}"><h2>{_text(part.title)}</h2>')
        body += [f"<p>{_text(said)}</p>" for said in part.texts]
        for items in part.lists:
            body.append("<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>")
        body += [_table(table, report.reference) for table in part.tables if table.rows]
        body += [_figure(picture, folder) for picture in part.pictures if not picture.is_folded]
        folded = [picture for picture in part.pictures if picture.is_folded]
        if folded:
            body.append(f"<details><summary>{len(folded)} more pictures</summary>")
            body += [_figure(picture, folder) for picture in folded]
            body.append("</details>")
        body.append("</section>")
    content = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Study of genres</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{content}\n</main>\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    return escape(clean(text))


def _anchor(part: Section) -> str:
    return part.title.lower().replace(" ", "-")


def _table(table: Table, reference: str | None) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.head)
    rows = []
    for row in table.rows:
        mark = ' class="reference"' if row[0] == reference else ""
        rows.append(f"<tr{mark}>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _figure(picture: Picture, folder: Path) -> str:
    content = base64.b64encode((folder / picture.file).read_bytes()).decode("ascii")
    return (
        f'<figure><img alt="{_text(picture.title)}" src="data:image/png;base64,{content}">'
        f"<figcaption><b>{_text(picture.title)}.</b> {_text(picture.says)}</figcaption></figure>"
    )
