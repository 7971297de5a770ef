"""Griffe extension: the comment at a field of a class is its description in the reference.

Fields of records are described where they stand, after the field or in the lines above it.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe


class FieldComments(griffe.Extension):
    """Turn comments at annotated fields into docstrings."""

    def on_attribute_instance(
        self, *, node: ast.AST | griffe.ObjectNode, attr: griffe.Attribute, **_: Any
    ) -> None:
        """Take the comment at ``attr``, where it is a field of a class and has no docstring."""
        is_field = attr.parent is not None and attr.parent.is_class
        if not (is_field and isinstance(node, ast.AnnAssign)) or attr.docstring:
            return
        lines = attr.lines_collection[attr.module.filepath]  # type: ignore[index]
        after = re.search(r"  # (.*)$", lines[(node.end_lineno or node.lineno) - 1])
        comments = [after[1]] if after else []
        above = node.lineno - 2
        while not after and (match := re.match(r"\s*# (.*)", lines[above])):
            comments.insert(0, match[1])
            above -= 1
        if comments:
            text = " ".join(comments)
            attr.docstring = griffe.Docstring(f"{text[0].upper()}{text[1:]}.", parent=attr)
