"""Files of rows, whole and broken, and the command line that asks them."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from .values import NAMES, OBJECTS, TEXTS

Files = dict[str, bytes]
Rows = list[dict[str, Any]]

_WORDS = "amber apple arrow basket beacon birch bridge candle canyon carpet castle cedar"
_WORD = st.sampled_from(_WORDS.split())
_PROMPT = st.lists(_WORD, min_size=1, max_size=9).map(" ".join)
_LABEL = st.integers(0, 1)

# For each dataset group, a row as it should be.
ROWS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "demo": st.fixed_dictionaries({"prompt": _PROMPT, "answer": _WORD}),
    "jsonl": st.one_of(
        st.fixed_dictionaries({"prompt": _PROMPT, "answer": _WORD}),
        st.fixed_dictionaries(
            {"prompt": _PROMPT, "answer": st.sampled_from(["0", "1", "amber", "apple"])}
            | {"choices": st.just(["amber", "apple"]), "group": NAMES, "frequency": st.floats(0, 1e6)}
        ),
    ),
    "fever": st.fixed_dictionaries({"claim": _PROMPT, "label": _LABEL}),
    "bios_gender": st.fixed_dictionaries({"hard_text": _PROMPT, "gender": _LABEL}),
    "bios_profession": st.fixed_dictionaries({"hard_text": _PROMPT, "profession": st.integers(0, 27)}),
    "truthfulqa": st.fixed_dictionaries(
        {
            "question": _PROMPT,
            "mc2_targets": st.fixed_dictionaries(
                {"choices": st.just(["amber", "apple"]), "labels": st.sampled_from([[0, 1], [1, 0], [1], [2, 3], []])}
            ),
        }
    ),
    "web_of_lies": st.fixed_dictionaries({"input": _PROMPT, "target": st.sampled_from(["Yes", "No"])}),
    "causal_judgement": st.fixed_dictionaries(
        {"inputs": _PROMPT, "targets": st.sampled_from([["Yes"], ["No"], ["maybe"], []])}
    ),
    "wikidata_qa": st.fixed_dictionaries({"inputs": _PROMPT, "targets": st.lists(_WORD, max_size=2)}),
    "counterfact": st.fixed_dictionaries(
        {
            "requested_rewrite": st.fixed_dictionaries(
                {"prompt": st.just("{} is"), "subject": _WORD, "target_true": st.fixed_dictionaries({"str": _WORD})}
            ),
            "paraphrase_prompts": st.lists(_PROMPT, min_size=2, max_size=2),
        }
    ),
}
_CELLS = st.one_of(
    OBJECTS,
    st.sampled_from(
        ["", " ", "\0", "a\0b", "\n", "\u2028", "<mask>", "x" * 200_000, "amber " * 300, "\ud800", 10**400]
    ),
)


def _jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _json(rows: Rows) -> bytes:
    return json.dumps(rows).encode()


def _csv(rows: Rows) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, names)
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {name: json.dumps(cell) if isinstance(cell, list | dict) else cell for name, cell in row.items()}
        )
    return stream.getvalue().encode("utf-8", "surrogatepass")


def _parquet(rows: Rows) -> bytes:
    """Columns whose cells have no common type become text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        cells = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(cells)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeEncodeError):
            columns[name] = pa.array([repr(cell).encode("ascii", "replace").decode() for cell in cells])
    stream = io.BytesIO()
    try:
        pq.write_table(pa.table(columns), stream)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # e.g. an object without members
        pq.write_table(pa.table({name: pa.array([str(row.get(name)) for row in rows]) for name in names[:0]}), stream)
    return stream.getvalue()


WRITERS: dict[str, Callable[[Rows], bytes]] = {"jsonl": _jsonl, "json": _json, "csv": _csv, "parquet": _parquet}


def _column(name: str, values: pa.Array) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"prompt": pa.array(["amber"] * len(values)), name: values}), stream)
    return stream.getvalue()


_ODD_PARQUET = st.sampled_from(
    [
        _column("answer", pa.array([b"amber"] * 6)),
        _column("answer", pa.array([b"\xff"] * 6)),
        _column("answer", pa.array([decimal.Decimal("1.5")] * 6)),
        _column("answer", pa.array([datetime.datetime(2020, 1, 1)] * 6)),
        _column("answer", pa.array(["amber"] * 6).dictionary_encode()),
        _column("answer", pa.nulls(6)),
        _column("answer", pa.array([{"a": 1}] * 6)),
        _column("answer", pa.array([[("a", 1)]] * 6, pa.map_(pa.string(), pa.int64()))),
        _column("answer", pa.array([float("nan")] * 6)),
        _column("choices", pa.array([["a", None]] * 6)),
        _column("prompt", pa.array(["amber"] * 6)),
        _column("", pa.array(["amber"] * 6)),
    ]
)
_DEEP = b"[" * 100_000
_JUNK = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"",
            b"\n\n\n",
            b"\xef\xbb\xbf",
            b"\xff\xfe{\x00}\x00",
            b"\x00" * 40,
            b"PAR1",
            b"PAR1PAR1",
            b"PAR1" + b"\xff" * 40 + b"PAR1",
            b"{}",
            b"[]",
            b"[[]]",
            b"[1]",
            b"null",
            b'"text"',
            b"NaN",
            b"{}\n" * 9,
            b"[]\n" * 9,
            b"1\n2\n",
            b"[{}, {}]",
            b"[{}, 1]",
            b'{"prompt": ',
            b'{"prompt": "a"',
            b"{'prompt': 1}",
            b'{"prompt": 1e999999, "answer": "a"}\n' * 9,
            _DEEP,
            b'{"a":' * 99999,
            b'{"prompt": "a", "answer": ' + b"9" * 5000 + b"}\n",
            b'{"prompt": "a", "answer": "\\ud800"}\n' * 9,
            b"#",
            b"//",
            b"<html>",
            b"prompt,answer\n",
            b"prompt,answer",
            b"prompt;answer\na;b\n",
            b"prompt,prompt\na,b\n" * 9,
            b"prompt,answer\na\n",
            b",\n,\n",
            b'prompt,answer\n"a',
            b'prompt,answer\n"a"b,c\n',
            b"prompt,answer\na,b,c\n",
            b"prompt,answer\r\na,b\rc,d\n",
            b'"',
            b"prompt,answer\n" + b"x" * 200000 + b",amber\n",
            b"prompt,answer\n\xff,amber\n",
            b"prompt,answer\na\x00,b\n",
            b"prompt,answer\n" + b"amber,amber\n" * 9,
            b'{"prompt": "a", "prompt": "b", "answer": "c"}\n' * 9,
        ]
    ),
    _ODD_PARQUET,
)


@st.composite
def _spoilt(draw: st.DrawFn, rows: Rows) -> Rows:
    """One cell is anything, or one column is missing or has another name."""
    names = sorted({name for row in rows for name in row})
    if not rows or not names:
        return rows
    name = draw(st.sampled_from(names))
    how = draw(st.integers(0, 4))
    if how == 0:
        return [{key: cell for key, cell in row.items() if key != name} for row in rows]
    if how == 1:
        other = draw(st.one_of(NAMES, TEXTS))
        return [{other if key == name else key: cell for key, cell in row.items()} for row in rows]
    if how == 2:
        cell = draw(_CELLS)
        return [{**row, name: cell} for row in rows]
    place = draw(st.integers(0, len(rows) - 1))
    if how == 3:
        return [{**row, name: draw(_CELLS)} if number == place else row for number, row in enumerate(rows)]
    return [*rows, *rows[place:], {}]


@st.composite
def data_cases(draw: st.DrawFn) -> tuple[list[str], Files]:
    """A command line with `dataset.path`, and the file; sometimes it is a directory."""
    group = draw(st.sampled_from(["jsonl", "jsonl", "demo", *sorted(ROWS)]))
    suffix = draw(st.sampled_from(sorted(WRITERS)))
    if draw(st.integers(0, 19)) == 19:
        suffix = draw(st.sampled_from(["txt", "JSON", "csv.gz", ""]))
    name = f"rows.{suffix}" if suffix else "rows"
    how = draw(st.integers(0, 9))
    if how < 8:
        rows = draw(st.lists(ROWS[group], min_size=draw(st.sampled_from([10, 10, 10, 5, 4, 0])), max_size=14))
        rows = draw(_spoilt(rows)) if how > 2 else rows
        content = WRITERS.get(suffix, _jsonl)(rows)
        if how == 7:
            at = draw(st.integers(0, len(content)))
            kept = draw(st.sampled_from([at, at + 1, len(content)]))
            content = content[:at] + draw(st.binary(max_size=4)) + content[kept:]
    else:
        content = draw(_JUNK)
    words = [f"dataset={group}", f"dataset.path={name}"]
    words += draw(
        st.lists(
            st.sampled_from(
                [
                    "dataset.on_bad_row=skip",
                    "dataset.compat=published",
                    "dataset.scoring=generation",
                    "evaluation.limit=2",
                    "dataset.scoring=next_token",
                    "dataset.choices=[amber,apple]",
                    "dataset.max_new_tokens=3",
                    "-m",
                    "seed=3",
                    "dataset.name=own",
                    "dataset.max_new_tokens=100000",
                    "evaluation.split=all",
                    "dataset.choices=[]",
                ]
            ).map(lambda word: f"++{word}" if word.startswith("dataset.") else word),
            max_size=2,
        )
    )
    files = {f"{name}/inside": content} if draw(st.integers(0, 29)) == 29 else {name: content}
    return [*words, "dry_run=true"], files
