"""Read a list of jobs: CSV as spreadsheets write it, or JSON lines. All mistakes are found before anything is sent.

A row has a face and its poses, as paths relative to the list's folder. It may have a character, a prompt, a context and
any parameter of the model. In CSV, several poses are in one cell, separated by | or line breaks.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from ops.errors import BadManifest, Refused
from ops.inspect.folders import face_names
from ops.inspect.plan import job_file, place, stem
from ops.inspect.suggestions import did_you_mean
from posedrop.contract.errors import InvalidInput
from posedrop.contract.parameters import read_job_file, schema
from posedrop.contract.upload_layout import FileKind, UploadLayout

CSV, TSV, LINES = (".csv",), (".tsv", ".tab"), (".jsonl", ".ndjson")
SUFFIXES = (*CSV, *TSV, *LINES)
"""The extensions of lists."""
FILES = ("character", "face", "poses")
DELIMITERS = ",;\t"
_SEPARATOR = re.compile(r"[|\r\n]+")
_WHOLE = re.compile(r"[+-]?\d{1,19}")
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Mistake:
    """A mistake in a line, counted from 1. `field` is empty if it concerns the whole line."""

    line: int
    field: str
    why: str

    def said(self, name: str) -> str:
        """Return the mistake as a sentence, with the list's name."""
        return f"{name}, line {self.line}{f', {self.field}' if self.field else ''}: {self.why}"


@dataclass
class Row:
    """A face with poses, as in the list. `poses`: the pictures by the poses' names."""

    line: int
    character: str = ""
    face: str = ""
    poses: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)


def fields(rules: str) -> list[str]:
    """Return the names of all columns: the files, and the parameters in the schema `rules`."""
    return [*FILES, *schema(rules)["properties"]]


def is_manifest(path: Path) -> bool:
    """Return whether a file is a list of jobs, by its name."""
    return path.suffix.lower() in SUFFIXES


def located(manifest: Path, path: str) -> Path:
    """Return the location of a file in the list; Windows separators are accepted."""
    return manifest.parent / path.replace("\\", "/")


def read_manifest(manifest: Path, rules: str) -> list[Row]:
    """Read a list, and check its parameters against the schema `rules`.

    Raises BadManifest with all mistakes; errors of reading the file pass as OSError.
    """
    mistakes: list[Mistake] = []
    text = _decoded(manifest)
    suffix = manifest.suffix.lower()
    values = _of_lines(text, rules, mistakes) if suffix in LINES else _of_table(text, suffix in TSV, rules, mistakes)
    rows = [_row(manifest, line, value, rules, mistakes) for line, value in values]
    if not rows and not mistakes:
        mistakes.append(Mistake(1, "", "the list has no jobs"))
    mistakes += _twice(rows)
    if mistakes:
        found = [mistake.said(str(manifest)) for mistake in sorted(mistakes, key=lambda mistake: mistake.line)]
        raise BadManifest(str(manifest), found)
    return rows


def _decoded(manifest: Path) -> str:
    """Return the list's text. Raises BadManifest if it is neither UTF-8 nor UTF-16 with a byte order mark."""
    data = manifest.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        why = "it is not in UTF-8: save it again, in Excel as 'CSV UTF-8'"
        raise BadManifest(str(manifest), [Mistake(line, "", why).said(str(manifest))]) from exc


# ---- CSV -------------------------------------------------------------------------------------------------------------


def _of_table(text: str, tabs: bool, rules: str, mistakes: list[Mistake]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a table by their columns, each with its line."""
    skipped, delimiter = _delimiter(text, tabs)
    reader = csv.reader(
        io.StringIO("".join(text.splitlines(keepends=True)[skipped:]), newline=""), delimiter=delimiter, strict=True
    )
    columns: list[str] | None = None
    while True:
        line = reader.line_num + skipped + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            break
        except csv.Error as exc:
            mistakes.append(Mistake(line, "", f"it cannot be read as CSV: {exc}"))
            return
        if not any(cells):
            continue
        if columns is None:
            columns = [cell.casefold() for cell in cells]
            wrong = list(_wrong_columns(line, cells, rules))
            if wrong:
                mistakes += wrong
                return
            continue
        if any(cells[len(columns) :]):
            mistakes.append(Mistake(line, "", f"it has {len(cells)} values for {len(columns)} columns"))
            continue
        yield line, _values(line, dict(zip(columns, cells, strict=False)), rules, mistakes)


def _delimiter(text: str, tabs: bool) -> tuple[int, str]:
    """Return how many first lines only set the delimiter (Excel's `sep=;`), and the delimiter."""
    first = text.lstrip().partition("\n")[0].strip()
    if said := re.fullmatch(r"sep=(.)", first, re.IGNORECASE):
        return 1, said[1]
    return 0, "\t" if tabs else max(DELIMITERS, key=first.count)


def _wrong_columns(line: int, cells: Sequence[str], rules: str) -> Iterator[Mistake]:
    known, names = fields(rules), [cell.casefold() for cell in cells]
    for name, cell in zip(names, cells, strict=True):
        if name and name not in known:
            yield Mistake(line, "", f"{cell!r} is not a column.{did_you_mean(cell, known)}")
        elif name and names.count(name) > 1:
            yield Mistake(line, "", f"there are {names.count(name)} columns {name!r}")
            return
    if "poses" not in names and all(name in known for name in names if name):
        yield Mistake(line, "", "the column 'poses' is missing")


def _values(line: int, cells: Mapping[str, str], rules: str, mistakes: list[Mistake]) -> dict[str, Any]:
    """Return the cells of a row as JSON values."""
    found: dict[str, Any] = {}
    for name, cell in cells.items():
        if not cell:
            continue
        if not name:
            mistakes.append(Mistake(line, "", f"{cell!r} has no heading"))
        elif name == "poses":
            found[name] = [path.strip() for path in _SEPARATOR.split(cell) if path.strip()]
        else:
            try:
                found[name] = _value(name, cell, rules)
            except ValueError as why:
                mistakes.append(Mistake(line, name, str(why)))
    return found


def _value(name: str, cell: str, rules: str) -> Any:
    """Return the value of a cell. Raises ValueError."""
    match schema(rules)["properties"].get(name, {}).get("type"):
        case "integer":
            if not _WHOLE.fullmatch(cell):
                raise ValueError(f"{cell!r} is not a whole number")
            return int(cell)
        case "boolean":
            if cell.casefold() not in _BOOLEANS:
                raise ValueError(f"{cell!r} is neither true nor false")
            return _BOOLEANS[cell.casefold()]
        case "object":
            try:
                return json.loads(cell)
            except ValueError as exc:
                raise ValueError(f"it is not JSON: {exc}") from exc
    return cell


# ---- lines of JSON ---------------------------------------------------------------------------------------------------


def _of_lines(text: str, rules: str, mistakes: list[Mistake]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects in JSON lines, each with its line."""
    known = fields(rules)
    # splitlines() would also break a line at U+2028, which JSON allows in a string.
    for line, content in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as exc:
            mistakes.append(Mistake(line, "", f"it is not JSON: {exc}"))
            continue
        if not isinstance(value, dict):
            mistakes.append(Mistake(line, "", "it is not a JSON object"))
            continue
        unknown = [name for name in value if name not in known]
        mistakes += [Mistake(line, "", f"{name!r} is not a field.{did_you_mean(name, known)}") for name in unknown]
        given = {name: content for name, content in value.items() if name not in unknown and content is not None}
        yield line, given


# ---- a row -----------------------------------------------------------------------------------------------------------


def _row(manifest: Path, line: int, values: Mapping[str, Any], rules: str, mistakes: list[Mistake]) -> Row:
    """Return a row, after checking that its files exist and its parameters are valid; adds to `mistakes`."""
    row = Row(line)
    for name in ("character", "face"):
        value = values.get(name, "")
        if not isinstance(value, str):
            mistakes.append(Mistake(line, name, "it is not a text"))
            return row
        setattr(row, name, value.strip())
    row.parameters = _parameters(line, values, rules, mistakes)
    poses = values.get("poses", [])
    poses = [poses] if isinstance(poses, str) else poses
    if not isinstance(poses, list) or not all(isinstance(path, str) and path.strip() for path in poses):
        mistakes.append(Mistake(line, "poses", "it is neither a path nor a list of paths"))
        return row
    if not poses:
        mistakes.append(Mistake(line, "poses", "a face without poses makes no job"))
    if not row.face and not row.character:
        mistakes.append(Mistake(line, "face", "it is missing, and no character is named whose face could be used"))
        return row
    for name, path in [("face", row.face)] * bool(row.face) + [("poses", path.strip()) for path in poses]:
        if why := _no_file(manifest, path, several=name == "poses"):
            mistakes.append(Mistake(line, name, why))
    row.character = row.character or _character(row.face)
    if not row.character:
        mistakes.append(Mistake(line, "character", f"it is missing, and {row.face} does not name one"))
        return row
    _name_poses(row, [path.strip() for path in poses], mistakes)
    return row


def _name_poses(row: Row, paths: Sequence[str], mistakes: list[Mistake]) -> None:
    """Name the poses of a row by their files."""
    where = UploadLayout().folder(row.character)  # the prefix does not matter for the names
    try:
        place(where, FileKind.FACE, ".png")
    except Refused as why:
        mistakes.append(Mistake(row.line, "character", str(why)))
        return
    for path in paths:
        picture = PurePath(path.replace("\\", "/"))
        name = stem(picture.name, FileKind.POSE)
        try:
            place(where, FileKind.POSE, picture.suffix, name)
        except Refused as why:
            mistakes.append(Mistake(row.line, "poses", f"{path}: {why}"))
            continue
        if name in row.poses:
            mistakes.append(Mistake(row.line, "poses", f"{path} and {row.poses[name]} would both be the pose {name}"))
        row.poses[name] = path


def _parameters(line: int, values: Mapping[str, Any], rules: str, mistakes: list[Mistake]) -> dict[str, Any]:
    """Return the parameters of a row, in the types of the contract."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in FILES:
            continue
        try:
            found |= read_job_file(name, job_file({name: value}), rules)
        except InvalidInput as why:
            mistakes.append(Mistake(line, name, str(why).removeprefix(f"{name}: ").removeprefix(f"{name} ")))
    return found


def _no_file(manifest: Path, path: str, *, several: bool) -> str:
    """Return why a file does not exist, or nothing."""
    where = located(manifest, path)
    if where.is_file():
        return ""
    if where.is_dir():
        return f"{path} is a folder: name a picture"
    beside = where.parent.iterdir() if where.parent.is_dir() else ()
    meant = did_you_mean(where.name, sorted(other.name for other in beside if other.is_file()))
    if several and re.search(r"[;,]", path):
        meant = " Several poses are separated by |."
    return f"there is no file {path}.{meant}" if meant else f"there is no file {path}"


def _character(face: str) -> str:
    """Return the character in a face's path: from the file's name, or else from its folder's."""
    path = PurePath(face.replace("\\", "/"))
    return face_names(path.stem) or path.parent.name


def _twice(rows: Sequence[Row]) -> Iterator[Mistake]:
    """Yield rows that are duplicated, or that contradict each other."""
    faces: dict[str, Row] = {}
    poses: dict[tuple[str, str], Row] = {}
    for row in rows:
        first = faces.setdefault(row.character, row) if row.face else row
        if row.face != first.face:
            yield Mistake(row.line, "face", f"{row.character} has the face {first.face} in line {first.line}")
        for name, path in row.poses.items():
            other = poses.setdefault((row.character, name), row)
            if other is row:
                continue
            if (other.poses[name], other.parameters) == (path, row.parameters):
                yield Mistake(row.line, "poses", f"{path} is already in line {other.line}")
            else:
                advice = "name another character, or copy the picture under another name"
                yield Mistake(row.line, "poses", f"{row.character} has a pose {name} in line {other.line}: {advice}")
