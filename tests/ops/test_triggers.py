"""What status says of a rule, a schedule or a mapping that somebody switched off or deleted."""

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from ops.inspect.triggers import MAPPINGS, RULES, trigger_problems
from ops.stack import Stack
from tests.cloudformation import transformed

Ask = Callable[..., Any]


def test_every_trigger_of_the_template_is_checked() -> None:
    found = transformed()["Resources"].items()
    kinds = {"AWS::Events::Rule": RULES, "AWS::Lambda::EventSourceMapping": MAPPINGS}
    for kind, checked in kinds.items():
        assert {name for name, resource in found if resource["Type"] == kind} == set(checked)


def test_nothing_is_said_while_all_are_enabled(stack: Stack) -> None:
    assert trigger_problems(stack) == []


@pytest.mark.parametrize("name", RULES)
def test_a_disabled_rule_is_named_with_what_follows(ask: Ask, triggers: dict[str, str], name: str) -> None:
    triggers[name] = "DISABLED"
    (problem,) = ask("status")["problems"]
    assert problem["what"] == f"{name} is disabled, so {RULES[name]}"
    assert shlex.split(problem["next_step"])[:5] == ["aws", "events", "enable-rule", "--name", name]


@pytest.mark.parametrize("state", ["Disabled", "Disabling"])
@pytest.mark.parametrize("name", MAPPINGS)
def test_a_disabled_mapping_is_named_with_what_follows(
    ask: Ask, triggers: dict[str, str], name: str, state: str
) -> None:
    triggers[name] = state
    (problem,) = ask("status")["problems"]
    assert problem["what"] == f"{name} is disabled, so {MAPPINGS[name]}"
    words = shlex.split(problem["next_step"])
    assert words[:4] == ["aws", "lambda", "update-event-source-mapping", "--uuid"]
    assert words[4].startswith(name)
    assert words[5] == "--enabled"


@pytest.mark.parametrize("name", ["UploadRule", "SubmitFunctionJobs"])
def test_a_deleted_one_and_one_that_may_not_be_read(stack: Stack, triggers: dict[str, str], name: str) -> None:
    triggers[name] = "ResourceNotFoundException"
    (deleted,) = trigger_problems(stack)
    assert deleted.what == f"{name} was deleted, so {(RULES | MAPPINGS)[name]}"
    triggers[name] = "AccessDeniedException"
    (refused,) = trigger_problems(stack)
    assert refused.what == f"cannot check whether {name} is enabled: AccessDeniedException"
    assert "docs/security.md" in refused.next_step
