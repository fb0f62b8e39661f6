"""Read template.yaml: the simulation has no sizes and limits of its own."""

from functools import cache
from pathlib import Path
from typing import Any

from bench.simulation.dynamodb import Index
from bench.simulation.outside import Setting
from posedrop.settings import SubmitSettings, read

TABLE = "jobs"


@cache
def template() -> dict[str, Any]:
    """Return template.yaml, with its short forms expanded."""
    from samcli.yamlhelper import yaml_parse  # imported here because it takes 0.3 s

    found: dict[str, Any] = yaml_parse((Path(__file__).parents[2] / "template.yaml").read_text(encoding="utf-8"))
    return found


def parameter(name: str) -> float:
    """Return the default of a numeric parameter of the template."""
    return float(template()["Parameters"][name]["Default"])


def intake_concurrency() -> int:
    """Return the maximum number of functions that read the upload queue."""
    events = template()["Resources"]["IntakeFunction"]["Properties"]["Events"]
    return int(events["Uploads"]["Properties"]["ScalingConfig"]["MaximumConcurrency"])


def indexes() -> dict[str, Index]:
    """Return the table's indexes. The simulation reads only the line's."""
    found = {}
    for index in template()["Resources"]["JobsTable"]["Properties"]["GlobalSecondaryIndexes"]:
        partition, sort = (key["AttributeName"] for key in index["KeySchema"])
        projected = tuple(index["Projection"].get("NonKeyAttributes", ()))
        found[index["IndexName"]] = Index(partition, sort, projected, read=index["IndexName"] == "line")
    return found


def submit_settings(setting: Setting) -> SubmitSettings:
    """Return the settings of `submit`: as deployed with the template's defaults, except for what a setting varies."""
    varied = {
        "JOBS_TABLE": TABLE,
        "SEGMIND_REQUESTS_PER_MINUTE": setting.requests_per_minute,
        "LIMIT_COUNTS": setting.counts,
        "DAILY_BUDGET": setting.daily_budget,
        "ACCOUNT_PAUSE_SECONDS": setting.account_pause_seconds,
        "PREPARE_IMAGES": "false",
        "SEGMIND_HISTORY_URL": "",
        "STATE_MACHINE_ARN": "arn:stateMachine:jobs",
    }
    return read(SubmitSettings, environment("SubmitFunction") | {name: str(value) for name, value in varied.items()})


def environment(function: str) -> dict[str, str]:
    """Return a function's environment. Parameters have their defaults; a resource's value is not known here."""
    parts = (template()["Globals"]["Function"], template()["Resources"][function]["Properties"])
    return {name: _resolved(value) for part in parts for name, value in part["Environment"]["Variables"].items()}


def _resolved(value: Any) -> str:
    name = value.get("Ref") if isinstance(value, dict) else None
    return str(template()["Parameters"][name]["Default"] if name in template()["Parameters"] else value)
