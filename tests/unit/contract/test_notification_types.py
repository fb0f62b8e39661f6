"""events/notification.py agrees with the schema of the notification, and finds one in each of its envelopes."""

import ast
import importlib.util
import json
import sys
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest

from tests.support import ROOT, load_event

PATH = ROOT / "events" / "notification.py"
SCHEMA = json.loads((ROOT / "events" / "schemas" / "notification.schema.json").read_text(encoding="utf-8"))
MESSAGE = load_event("notification.json")


@pytest.fixture(scope="module")
def types() -> ModuleType:
    spec = importlib.util.spec_from_file_location("events_notification", PATH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kinds(hint: Any) -> set[str]:
    """The schema's names of what a hint allows."""
    names = {
        str: "string",
        int: "integer",
        float: "number",
        bool: "boolean",
        dict: "object",
        list: "array",
        type(None): "null",
    }
    if hint in names:
        return {names[hint]}
    if getattr(hint, "__total__", None) is not None:
        return {"object"}
    origin = getattr(hint, "__origin__", None)
    if origin in names:
        return {names[origin]}
    return set().union(
        *(kinds(each if isinstance(each, type) or get_args(each) else type(each)) for each in get_args(hint))
    )


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return SCHEMA["definitions"][name] if name else schema


def said(schema: dict[str, Any]) -> set[str]:
    """The kinds of value that a schema allows."""
    if "const" in schema or "enum" in schema:
        return {"string"}
    found = schema["type"]
    return set(found) if isinstance(found, list) else {found}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Notification", []),
        ("Inputs", ["inputs"]),
        ("Input", ["inputs", "face"]),
        ("Prepared", ["inputs", "face", "prepared"]),
        ("Output", ["outputs"]),
        ("Error", ["error"]),
        ("Metrics", ["metrics"]),
    ],
)
def test_each_type_has_the_fields_of_the_schema(types: ModuleType, name: str, path: list[str]) -> None:
    schema = SCHEMA
    for step in path:
        schema = resolved(schema["properties"][step])
        schema = schema.get("items", schema)
    hints = get_type_hints(getattr(types, name))
    assert set(hints) == set(schema["properties"]) == set(schema["required"])
    for field, hint in hints.items():
        assert kinds(hint) == said(resolved(schema["properties"][field])), field


def test_the_values_that_are_named_are_the_schema_s(types: ModuleType) -> None:
    properties = SCHEMA["properties"]
    assert list(get_args(types.Status)) == properties["status"]["enum"]
    assert list(get_args(types.ErrorType)) == properties["error"]["properties"]["type"]["enum"]
    assert list(get_args(types.CONTENT_TYPES)) == properties["outputs"]["items"]["properties"]["content_type"]["enum"]


def test_it_needs_the_standard_library_alone() -> None:
    tree = ast.parse(PATH.read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    "received",
    [
        MESSAGE,
        json.dumps(MESSAGE),  # a queue, raw
        json.dumps({"Type": "Notification", "Message": json.dumps(MESSAGE)}),  # a queue
        {"EventSource": "aws:sns", "Sns": {"Message": json.dumps(MESSAGE)}},  # a function
        {"source": "posedrop", "detail-type": "Job Succeeded", "version": "0", "detail": MESSAGE},  # EventBridge
    ],
)
def test_a_notification_is_found_in_its_envelope(types: ModuleType, received: Any) -> None:
    assert types.parse(received) == MESSAGE


@pytest.mark.parametrize("received", ["no json", "[]", "{}", {"version": "2", "job_id": "x"}, {"detail": 7}])
def test_what_is_no_notification_is_refused(types: ModuleType, received: Any) -> None:
    with pytest.raises(ValueError, match=r"notification|JSON|Expecting"):
        types.parse(received)
