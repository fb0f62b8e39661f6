"""The functions' environment: complete, missing, empty and wrong; and the same as in the template."""

from dataclasses import asdict, fields
from typing import Any

import pytest

from posedrop.contract.errors import SettingsError
from posedrop.settings import (
    DeliverSettings,
    DispatchSettings,
    IntakeSettings,
    PollSettings,
    PrepareSettings,
    Settings,
    SubmitSettings,
    SweepSettings,
    read,
)

ALL = (IntakeSettings, DispatchSettings, PrepareSettings, SubmitSettings, PollSettings, DeliverSettings, SweepSettings)
TEXTS = {"IMAGE_TRANSPORT": "base64", "LIMIT_COUNTS": "auto", "PREPARE_IMAGES": "true"}


def complete(cls: type[Settings]) -> dict[str, str]:
    names = [field.name.upper() for field in fields(cls)]
    numbers = {field.name.upper() for field in fields(cls) if field.type is float}
    return {name: TEXTS.get(name, "7.5" if name in numbers else f"a {name}") for name in names}


@pytest.mark.parametrize("cls", ALL)
def test_every_variable_is_read_in_its_type(cls: type[Settings]) -> None:
    settings = read(cls, complete(cls))
    expected: dict[Any, object] = {float: 7.5, bool: True}
    for field in fields(cls):
        name = field.name.upper()
        assert getattr(settings, field.name) == expected.get(field.type, TEXTS.get(name, f"a {name}"))


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_or_empty_variable_is_named_or_has_its_default(cls: type[Settings], value: str | None) -> None:
    optional = dict.fromkeys(("DEFAULT_PROMPT_PARAMETER", "SEGMIND_HISTORY_URL", "EVENT_BUS_NAME"), "")
    defaults = {**optional, "RESULT_LINK_SECONDS": 0.0}
    for name in complete(cls):
        variables: dict[str, Any] = {**complete(cls), name: value}
        if value is None:
            del variables[name]
        if name in defaults:
            assert getattr(read(cls, variables), name.lower()) == defaults[name]
        else:
            with pytest.raises(SettingsError, match=rf"\b{name}\b is missing or empty"):
                read(cls, variables)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("SETTLE_SECONDS", value) for value in ("five", "nan", "inf", "-1", "1e999", "5 s")),
        *(("LIMIT_COUNTS", value) for value in ("Auto", "some", "1", " all")),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"\b{name}\b"):
        read(IntakeSettings, {**complete(IntakeSettings), name: value})


def test_other_variables_are_left_alone() -> None:
    others = {**complete(PollSettings), "PATH": "/bin"}
    assert asdict(read(PollSettings, others)) == asdict(read(PollSettings, complete(PollSettings)))
