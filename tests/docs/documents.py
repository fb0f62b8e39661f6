"""The documents, read: their headings, links and code; and the AWS CLI commands in them, as calls of botocore."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.model import MapShape, Shape
from botocore.validate import ParamValidator
from markdown_it import MarkdownIt

from tests.support import ROOT

PATHS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A block of code, the language that its fence names ("" without one), and the heading it stands under."""

    language: str
    text: str
    heading: str


@dataclass
class Document:
    """One document."""

    path: Path
    headings: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    spans: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its path in the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def anchors(self) -> set[str]:
        """What a link's fragment may name."""
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in self.headings}

    def under(self, heading: str, language: str) -> list[str]:
        """The blocks of a language under a heading."""
        return [block.text for block in self.blocks if (block.heading, block.language) == (heading, language)]

    def lines(self) -> Iterator[str]:
        """The lines of all blocks without a language or of the shell's, continued ones joined; and all code spans."""
        yield from self.spans
        for block in self.blocks:
            if block.language in ("", "sh"):
                yield from block.text.replace("\\\n", " ").splitlines()


@cache
def document(path: Path) -> Document:
    """Read a document."""
    found = Document(path)
    opened = ""
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        children = token.children or []
        if token.type in ("fence", "code_block"):
            heading = found.headings[-1] if found.headings else ""
            found.blocks.append(Block(token.info.strip(), token.content, heading))
        elif token.type == "inline" and opened == "heading_open":
            found.headings.append("".join(child.content for child in children))
        found.spans += [child.content for child in children if child.type == "code_inline"]
        found.links += [str(child.attrs["href"]) for child in children if child.type == "link_open"]
        opened = token.type
    return found


def documents() -> list[Document]:
    """All documents that there are."""
    return [document(path) for path in PATHS if path.is_file()]


# ---- the AWS CLI -----------------------------------------------------------------------------------------------------

GLOBAL_OPTIONS = {"query": 1, "output": 1, "region": 1, "profile": 1, "cli-binary-format": 1, "no-cli-pager": 0}
RENAMED = {("sns", "subscribe", "notification-endpoint"): "endpoint"}  # --endpoint would be taken for --endpoint-url
HIGH_LEVEL = {("s3", "cp"), ("s3", "ls"), ("s3", "rm"), ("s3", "sync"), ("cloudformation", "deploy")}
OUTPUT_FILE = {("lambda", "invoke")}


@dataclass(frozen=True)
class Call:
    """A command of the AWS CLI as a call of botocore: `session.client(service).operation(**arguments)`."""

    service: str
    operation: str
    arguments: dict[str, Any]


def aws_commands(lines: Iterator[str] | list[str]) -> list[str]:
    """Those of the lines that are commands of the AWS CLI."""
    return [line.strip() for line in lines if re.match(r"\s*aws [a-z0-9]+ [a-z]", line)]


def call(command: str, files: Mapping[str, str] | None = None) -> Call | None:
    """Translate a command. None for one of the CLI's own (`aws s3 cp`); `files` are what file:// may name.

    Raises AssertionError if the service, the operation or an option is unknown, or an argument does not fit.
    """
    _, name, verb, *words = shlex.split(command)
    if (name, verb) in HIGH_LEVEL:
        return None
    model = botocore.session.get_session().get_service_model("s3" if name == "s3api" else name)
    operations = {xform_name(operation, "-"): operation for operation in model.operation_names}
    assert verb in operations, f"aws {name} has no {verb}: {command}"
    shape = model.operation_model(operations[verb]).input_shape
    members = {xform_name(member, "-"): (member, found) for member, found in shape.members.items()} if shape else {}
    arguments: dict[str, Any] = {}
    positional = 1 if (name, verb) in OUTPUT_FILE else 0
    while words:
        word = words.pop(0)
        option = word.removeprefix("--")
        if option == word:
            assert positional, f"what is {word}: {command}"
            positional -= 1
        elif option in GLOBAL_OPTIONS:
            del words[: GLOBAL_OPTIONS[option]]
        else:
            renamed = {new: old for (service, verb_, new), old in RENAMED.items() if (service, verb_) == (name, verb)}
            assert option not in renamed.values(), f"aws {name} {verb} calls --{option} otherwise: {command}"
            option = renamed.get(option, option)
            assert option in members, f"aws {name} {verb} has no --{option}: {command}"
            member, of = members[option]
            values: list[str] = []
            while words and not words[0].startswith("--") and (not values or of.type_name == "list"):
                values.append(words.pop(0))
            arguments[member] = _value(of, values, files or {})
    report = ParamValidator().validate(arguments, shape) if shape else None
    assert not (report and report.has_errors()), f"{command}: {report and report.generate_report()}"
    return Call(model.service_name, xform_name(operations[verb]), arguments)


def _value(shape: Shape, words: list[str], files: Mapping[str, str]) -> Any:
    if shape.type_name == "boolean":
        return True
    (first, *_) = words
    if first.startswith("file://"):
        first = files.get(first.removeprefix("file://"), "{}")
    match shape.type_name:
        case "integer" | "long":
            return int(first)
        case "timestamp":
            return int(first) if first.isdigit() else first
        case "blob":
            return first.encode()
        case "list" if not first.startswith("["):
            return words
        case "list" | "structure" | "map" if first.startswith(("{", "[")):
            return json.loads(first)
        case "structure" | "map":
            pairs = dict(pair.split("=", 1) for pair in first.split(","))
            value = shape.value if isinstance(shape, MapShape) else None
            return {key: _value(value, [text], files) if value else text for key, text in pairs.items()}
    return first
