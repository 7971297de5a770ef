"""Frames of ``fma_metadata`` as Parquet and back, the very same: lists, categories, levels, types.

Parquet as pandas writes it would give lists as arrays and forget the order of categories.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepmusic.datasets.fma_schema import Form
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_FORMAT = 1  # another number is made anew
_MARK = b"deepmusic"


def write_kept(
    path: Path, name: str, frame: pd.DataFrame, form: Form, source: dict[str, int]
) -> None:
    """Keep a frame as Parquet: its columns by number, and what they are called in the metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = dict(form.lists)
    arrays: dict[str, pa.Array] = {"index": pa.array(frame.index)}
    for place, column in enumerate(frame.columns):
        values = frame[column]
        if column in lists:
            items = pa.int64() if lists[column] is int else pa.string()
            arrays[str(place)] = pa.array(values.tolist(), pa.list_(items))
        elif values.dtype == "category":
            arrays[str(place)] = pa.array(values.astype(object), from_pandas=True)
        else:
            arrays[str(place)] = pa.array(values, from_pandas=True)
    mark = {
        "format": _FORMAT,
        "table": name,
        "source": source,
        "columns": [column if isinstance(column, str) else list(column) for column in frame],
        "levels": list(frame.columns.names),
        "index": frame.index.name,
    }
    table = pa.table(arrays).replace_schema_metadata({_MARK: json.dumps(mark).encode()})
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    texts += [field.name for field in table.schema if pa.types.is_large_string(field.type)]
    with write_atomically(path, "wb") as file:
        pq.write_table(
            table,
            file,
            compression="lz4",
            use_dictionary=texts,
            # biographies are repeated on every track; all of them together have some 50 MB
            dictionary_pagesize_limit=1 << 28,
            row_group_size=1 << 20,
        )


def read_kept(path: Path, name: str, form: Form, source: dict[str, int]) -> pd.DataFrame | None:
    """The frame that was kept, if it was made from this very source and can be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            mark = json.loads((pq.read_schema(file).metadata or {}).get(_MARK, b"{}"))
            if (mark.get("format"), mark.get("table"), mark.get("source")) != (
                _FORMAT,
                name,
                source,
            ):
                return None
            columns = [c if form.levels == 1 else tuple(c) for c in mark["columns"]]
            categories = {*form.categories, *form.ordered}
            coded = [str(place) for place, column in enumerate(columns) if column in categories]
            file.seek(0)
            table = pq.read_table(file, read_dictionary=coded)
        return _restored(table, form, columns, mark)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged, or of another make: it is made again


def _restored(
    table: pa.Table, form: Form, columns: Sequence[Any], mark: dict[str, Any]
) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    lists = dict(form.lists)
    odd: dict[int, Callable[[pa.ChunkedArray], Any]] = {}
    for place, column in enumerate(columns):
        if column in lists:
            odd[place] = partial(_lists, kind=lists[column])
        elif column in form.categories:
            odd[place] = _categories
        elif column in form.ordered:
            odd[place] = partial(_ordered, order=form.ordered[column])
    index = pd.Index(table["index"].to_numpy(), name=mark["index"])
    plain = [str(place) for place in range(len(columns)) if place not in odd]
    frame = table.select(plain).replace_schema_metadata(None).to_pandas()
    dates = {str(place) for place, column in enumerate(columns) if column in form.dates}
    time_type = pd.to_datetime(["2017-04-01 00:00:00"]).dtype  # pandas 2 and 3 differ
    found = {}
    for name in plain:
        values = frame[name]
        if name in dates:
            values = values.astype(time_type)
        elif values.dtype == object:  # Arrow says None where pandas' reader says NaN
            values = values.where(values.notna(), np.nan)
        found[int(name)] = values.array
    for place, restore in odd.items():
        found[place] = restore(table[str(place)])
    result = pd.DataFrame({place: found[place] for place in range(len(columns))}, copy=False)
    result.index = index
    if form.levels > 1:
        result.columns = pd.MultiIndex.from_tuples(columns, names=mark["levels"])
    else:
        result.columns = pd.Index(columns)
    return result


def _lists(values: pa.ChunkedArray, kind: type) -> Any:
    """Lists of Python's own, which Arrow would give as arrays or one item at a time."""
    import numpy as np

    found = np.empty(len(values), dtype=object)
    place = 0
    # Half a million lists wake the search for circles again and again, and it finds none.
    searches = gc.isenabled()
    gc.disable()
    try:
        for chunk in values.chunks:
            flat = chunk.flatten()
            items = flat.to_numpy(zero_copy_only=kind is int).tolist()
            ends = np.cumsum(chunk.value_lengths().to_numpy()).tolist()
            for start, end in zip(chain([0], ends), ends, strict=False):
                found[place] = items[start:end]
                place += 1
    finally:
        if searches:
            gc.enable()
    return found


def _ordered(values: pa.ChunkedArray, order: Sequence[str]) -> Any:
    return _categories(values).set_categories(order, ordered=True)


def _categories(values: pa.ChunkedArray) -> Any:
    """Texts as categories in the order of the alphabet, as ``astype('category')`` makes them."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(values.type):  # such as a column without any value
        return values.to_pandas().astype("category").array
    coded = values.unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        coded = pa.concat_arrays(coded.chunks)
    texts = coded.dictionary
    order = pc.sort_indices(texts).to_numpy()
    rank = np.empty(len(order) + 1, np.int64)
    rank[order] = np.arange(len(order))
    rank[-1] = -1  # of what is missing
    codes = coded.indices.cast(pa.int64()).fill_null(len(order)).to_numpy()
    alphabet = pd.Index(texts.take(pa.array(order)).to_pandas())
    return pd.Categorical.from_codes(rank[codes], categories=alphabet)
