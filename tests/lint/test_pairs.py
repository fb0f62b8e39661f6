"""template.yaml under cfn-lint for every pair of outcomes of its conditions: no combination is invalid."""

import copy
import json
from itertools import combinations, product
from typing import Any

import pytest

from tests.cloudformation import source
from tests.support import ROOT

Outcomes = dict[str, bool]
CONDITIONS = sorted(source()["Conditions"])


def pairs(outcomes: Outcomes) -> set[tuple[tuple[str, bool], ...]]:
    """The pairs that one set of outcomes covers."""
    return set(combinations(sorted(outcomes.items()), 2))


def covering(names: list[str]) -> list[Outcomes]:
    """Seven sets of outcomes that cover all pairs of up to fifteen conditions, the fewest that do.

    In one of them no condition is true. Each is true in four of the other six, never in the same four as another: so
    any two are true together, and each is true without the other (Kleitman and Spencer, 1973).
    """
    fours = dict(zip(names, combinations(range(1, 7), 4), strict=False))
    return [{name: case in fours[name] for name in names} for case in range(7)]


CASES = {"+".join(name for name in outcomes if outcomes[name]) or "none": outcomes for outcomes in covering(CONDITIONS)}
"""The sets of outcomes, by the names of the conditions that are true."""
GIVEN: dict[str, dict[str, object]] = {
    "HasNotificationEmail": {"NotificationEmail": "a@example.com"},
    "HasAlarmEmail": {"AlarmEmail": "a@example.com"},
    "HasDefaultPrompt": {"DefaultPrompt": "walking"},
    "HasKmsKey": {"KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"},
    "HasPermissionsBoundary": {"PermissionsBoundary": "arn:aws:iam::123456789012:policy/bound"},
    "HasCorsOrigins": {"CorsOrigins": "https://app.example.com"},
    "HasResultLinks": {"ResultLinkSeconds": 3600},
    "HasEventBus": {"EventBusName": "images"},
}
"""The parameters that make a condition true."""
NOT_GIVEN: dict[str, dict[str, object]] = {
    "OwnUploadBucket": {"ExistingUploadBucket": "their-bucket"},
    "KeepsUploads": {"UploadRetentionDays": 30},
    "KeepsOutputs": {"OutputRetentionDays": 30},
}
"""The parameters that make a condition false."""


def test_the_cases_cover_every_pair() -> None:
    wanted = {
        tuple(sorted(pair)) for pair in combinations(product(CONDITIONS, (True, False)), 2) if pair[0][0] != pair[1][0]
    }
    assert set().union(*map(pairs, CASES.values())) == wanted


def fixed(value: Any, outcomes: Outcomes) -> Any:
    """A part of the template with its conditions decided; what is left out is None."""
    if isinstance(value, dict):
        if set(value) == {"Fn::If"}:
            name, yes, no = value["Fn::If"]
            return fixed(yes if outcomes[name] else no, outcomes)
        if value == {"Ref": "AWS::NoValue"}:
            return None
        found = {key: fixed(item, outcomes) for key, item in value.items()}
        return {key: item for key, item in found.items() if item is not None}
    if isinstance(value, list):
        return [item for item in (fixed(each, outcomes) for each in value) if item is not None]
    return value


@pytest.fixture(scope="module")
def matches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What cfn-lint finds in the template of each case. It runs once: it reads its rules at the start."""
    # Imported here: it takes half a second, which each test worker would need.
    from cfnlint.api import lint_by_config
    from cfnlint.config import ManualArgs

    directory = tmp_path_factory.mktemp("pairs")
    for name in ("layers", "functions", "statemachine"):
        (directory / name).symlink_to(ROOT / name)
    paths = {name: directory / f"{number}.json" for number, name in enumerate(CASES)}
    for name, path in paths.items():
        path.write_text(json.dumps(decided(CASES[name])))
    unused = "W2001"  # parameters that lose their use
    found = lint_by_config(ManualArgs(templates=[str(path) for path in paths.values()], ignore_checks=[unused]))
    assert {match.filename for match in found} <= {str(path) for path in paths.values()}
    return {name: [str(match) for match in found if match.filename == str(path)] for name, path in paths.items()}


def decided(outcomes: Outcomes) -> Any:
    """The template with these outcomes of its conditions."""
    template = copy.deepcopy(source())
    template["Resources"] = {
        name: {key: found for key, found in resource.items() if key != "Condition"}
        for name, resource in template["Resources"].items()
        if outcomes.get(resource.get("Condition"), True)
    }
    del template["Conditions"]
    assert set(GIVEN) | set(NOT_GIVEN) == set(outcomes)
    for name, parameters in (GIVEN | NOT_GIVEN).items():
        for parameter, value in parameters.items():
            if outcomes[name] == (name in GIVEN):
                template["Parameters"][parameter]["Default"] = value
    return fixed(template, outcomes)


@pytest.mark.parametrize("case", CASES)
def test_the_template_is_valid_for_all_pairs_of_conditions(case: str, matches: dict[str, list[str]]) -> None:
    assert matches[case] == []
