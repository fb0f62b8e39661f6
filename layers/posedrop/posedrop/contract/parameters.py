"""The model's parameters: read job files, check them against the schema, and merge them."""

import difflib
import json
from collections.abc import Callable, Mapping
from email.errors import MessageError
from email.header import decode_header, make_header
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import fastjsonschema

from posedrop.contract.errors import InvalidInput
from posedrop.contract.reasons import InputFault, Problem

JOB_FILE_LIMIT = 64 * 1024
PROMPT_LIMIT = 8 * 1024
CONTEXT_LIMIT = 4 * 1024
CONTEXT_DEPTH = 32

_SCHEMAS = Path(__file__).parent / "schemas"


@cache
def schema(name: str) -> dict[str, Any]:
    """Return a JSON Schema of job files by its name. Each model names its schema (segmind/model.py)."""
    loaded: dict[str, Any] = json.loads((_SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    return loaded


@cache
def _validator(rules: str) -> Callable[[object], object]:
    compiled: Callable[[object], object] = fastjsonschema.compile(schema(rules), use_default=False)
    return compiled


def read_job_file(name: str, data: bytes, rules: str) -> dict[str, Any]:
    """Return the parameters in a job file, checked against the schema named `rules`.

    Raises InvalidInput, which names the file, each invalid field and the reason.
    """
    if len(data) > JOB_FILE_LIMIT:
        raise _invalid(name, f"larger than {JOB_FILE_LIMIT} bytes")
    try:
        content = json.loads(data, parse_constant=_refuse_constant)
    except RecursionError as exc:
        raise _invalid(name, "nested too deeply") from exc
    except ValueError as exc:
        raise _invalid(name, f"not JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise _invalid(name, "not a JSON object")
    problems = [problem for field, value in content.items() for problem in _problems(field, value, rules)]
    if problems:
        raise _invalid(name, *problems[:10])
    # For JSON Schema, 1.0 is an integer. The provider may not accept it as one.
    return {
        field: int(value) if isinstance(value, float) and value.is_integer() else value
        for field, value in content.items()
    }


def check_prompt(key: str, prompt: str) -> str:
    """Return `prompt`, which comes from the metadata of the file `key`. Raises InvalidInput if it is not valid."""
    if problem := _prompt_problem(prompt):
        raise _invalid(key, f"metadata: {problem}")
    return prompt


def _invalid(name: str, *problems: str) -> InvalidInput:
    return InvalidInput(*(Problem(text, InputFault.PARAMETERS, name) for text in problems))


def metadata_prompt(metadata: Mapping[str, str]) -> str:
    """Return the prompt in an object's metadata, or an empty text.

    S3 encodes metadata that is not ASCII by RFC 2047 (Amazon S3 user guide, object metadata). It reads the uploaded
    header as Latin-1, although most clients send UTF-8. So the decoded text is converted back to UTF-8 if possible.
    """
    value = metadata.get("prompt", "")
    if "=?" not in value:
        return value.strip()
    try:
        decoded = str(make_header(decode_header(value)))
    except (ValueError, LookupError, MessageError):
        return value.strip()
    try:
        return decoded.encode("latin-1").decode().strip()
    except UnicodeError:
        return decoded.strip()


def merge(default_prompt: str, *layers: Mapping[str, Any], rules: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the parameters of a job, and its context. Later layers override earlier ones and the model's defaults.

    `rules` names the schema with these defaults. If no layer has a prompt, the parameters have none either.
    """
    merged: dict[str, Any] = {
        name: definition["default"]
        for name, definition in schema(rules)["properties"].items()
        if "default" in definition
    }
    if default_prompt:
        merged["prompt"] = default_prompt
    for layer in layers:
        merged.update(layer)
    context = merged.pop("context", None)
    return merged, context


def _problems(field: str, value: object, rules: str) -> list[str]:
    properties = schema(rules)["properties"]
    if field not in properties:
        return [_unknown(field, list(properties))]
    try:
        _validator(rules)({field: value})
    except fastjsonschema.JsonSchemaValueException as exc:
        return [f"{exc.message.removeprefix('data.')}{_shown(value)}"]
    if field == "prompt":
        problem = _prompt_problem(str(value))
    elif field == "context":
        problem = _context_problem(value)
    else:
        problem = None
    return [problem] if problem else []


def _unknown(field: str, known: list[str]) -> str:
    shown = field[:60]
    if field.endswith("_image"):  # as in face_image: an image field of a model
        return f"{shown} cannot be set in a job file: upload the image itself"
    near = difflib.get_close_matches(shown, known, n=1)
    return f"{_printable(shown)} is not a parameter of the model" + (f"; did you mean {near[0]}?" if near else "")


def _prompt_problem(prompt: str) -> str | None:
    try:
        size = len(prompt.encode())
    except UnicodeEncodeError:
        return "prompt has a lone surrogate, which is not text"
    if not prompt.strip():
        return "prompt is blank"
    return f"prompt has {size} bytes, more than {PROMPT_LIMIT}" if size > PROMPT_LIMIT else None


def _context_problem(context: object) -> str | None:
    if _deeper_than(context, CONTEXT_DEPTH):
        return f"context is nested deeper than {CONTEXT_DEPTH} levels"
    try:
        size = len(json.dumps(context, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode())
    except ValueError:
        return "context has a number or a character that JSON cannot carry"
    return f"context has {size} bytes, more than {CONTEXT_LIMIT}" if size > CONTEXT_LIMIT else None


def _deeper_than(value: object, levels: int) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        children: list[object] = []
        for item in layer:
            if isinstance(item, dict):
                children.extend(item.values())
            elif isinstance(item, list):
                children.extend(item)
        if not children:
            return False
        layer = children
    return True


def _shown(value: object) -> str:
    return f" (it is {value!r})" if isinstance(value, bool | int | float) and len(repr(value)) <= 40 else ""


def _printable(text: str) -> str:
    return text.encode("unicode_escape").decode() if not text.isprintable() else text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
