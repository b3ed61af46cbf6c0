"""Files of records: JSONL, CSV and TSV, and files of nothing but numbers."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORDS = {"true": 1.0, "false": 0.0}  # as other programs write them into CSV
NOTHING = ("", "nan", "null", "none", "na", "n/a")  # a value that is missing


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the records of a file, each with words that say where it stands.

    Raises ValueError where a line is no record, and OSError where the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix in (".csv", ".tsv"):
                rows = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
                for number, row in enumerate(rows, 1):
                    where = f"{path}, record {number}"
                    if None in row or None in row.values():
                        msg = f"{where}: has not as many values as there are fields, {len(rows.fieldnames or ())}"
                        raise ValueError(msg)
                    yield where, row
                return
            count = 0
            for number, line in enumerate(file, 1):
                if line.strip():
                    count += 1
                    yield f"{path}, record {count}", _record(line, f"{path}, line {number}")
    except UnicodeDecodeError as error:
        msg = f"{path} is not text in UTF-8: {error.reason} at byte {error.start}"
        raise ValueError(msg) from error
    except csv.Error as error:
        msg = f"{path} is not CSV: {error}"
        raise ValueError(msg) from error


def field(where: str, record: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - whatever a file holds
    """Return a field of a record; dots reach into nested ones. Raises ValueError where there is none."""
    found: Any = record
    for part in [name] if name in record else name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            msg = f"{where}: no field {name!r}, only {', '.join(map(str, record))}"
            raise ValueError(msg)
        found = found[part]
    return found


def number(where: str, record: Mapping[str, Any], name: str) -> float:
    """Return a field that is a number, or true or false; NaN where it is missing. Raises ValueError otherwise."""
    value = field(where, record, name)
    text = str("" if value is None else value).strip().lower()
    if text in NOTHING:
        return math.nan
    try:
        found = WORDS[text] if text in WORDS else float(text)
    except ValueError:
        found = math.inf
    if math.isinf(found):
        msg = f"{where}: {name} is {value!r}, must be a finite number"
        raise ValueError(msg)
    return found


def present(where: str, record: Mapping[str, Any], name: str) -> float:
    """Return a field that is a number. Raises ValueError where it is missing."""
    found = number(where, record, name)
    if math.isnan(found):
        msg = f"{where}: {name} is {field(where, record, name)!r}, must be a number"
        raise ValueError(msg)
    return found


def column(source: str) -> NDArray[np.float64]:
    """Read the numbers of ``FILE:FIELD``, or of a ``FILE`` with one field or none at all; NaN where they are missing.

    Raises ValueError where there are several fields, or values that are no numbers.
    """
    path, name = Path(source), None
    if not path.exists() and ":" in source:
        file, name = source.rsplit(":", 1)
        path = Path(file)
    found = None if name else _plain(path)
    if found is None:
        found = []
        for where, record in records(path):
            if name is None:
                if len(record) != 1:
                    msg = f"{path} has the fields {', '.join(record)}: name one, as {path}:{next(iter(record), 'x')}"
                    raise ValueError(msg)
                name = next(iter(record))
            found.append(number(where, record, name))
    if not found:
        msg = f"{path} has no numbers"
        raise ValueError(msg)
    return np.array(found)


def _plain(path: Path) -> list[float] | None:
    """Return the numbers of a file that has nothing else, None for another one."""
    try:
        found = [float(word) for word in path.read_text("utf-8-sig").split()]
    except ValueError:
        return None
    return None if any(map(math.isinf, found)) else found


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        msg = f"{where} is not JSON: {error}"
        raise ValueError(msg) from error
    if not isinstance(record, dict):
        msg = f"{where} is no record with named fields"
        raise ValueError(msg)  # noqa: TRY004 - a file's mistake
    return record
