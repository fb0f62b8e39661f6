"""Read template.yaml: the simulation has no sizes and limits of its own."""

from functools import cache
from pathlib import Path
from typing import Any

from bench.simulation.dynamodb import Index
from bench.simulation.outside import Setting
from posedrop.settings import SubmitSettings

TABLE = "jobs"


@cache
def template() -> dict[str, Any]:
    """Return template.yaml, with its short forms expanded."""
    from samcli.yamlhelper import yaml_parse  # type: ignore[import-untyped]  # imported here because it takes 0.3 s

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
    """Return the settings of `submit`."""
    return SubmitSettings(
        jobs_table=TABLE,
        segmind_requests_per_minute=setting.requests_per_minute,
        limit_counts=setting.counts,
        daily_budget=setting.daily_budget,
        monthly_budget=0.0,
        typical_inference_seconds=parameter("TypicalInferenceSeconds"),
        record_retention_days=0.0,
        segmind_base_url="https://segmind.test",
        segmind_secret_id="secret",  # nosec B106 # no password
        submit_queue_url="submits",
        dead_letter_queue_url="dead letters",
        state_machine_arn="arn:stateMachine:jobs",
        dispatch_function="dispatch",
        image_transport="presigned-url",
        account_pause_seconds=setting.account_pause_seconds,
        submit_timeout_seconds=parameter("SubmitTimeoutSeconds"),
        prepare_images=False,
        prepare_function="prepare",
        output_bucket="outputs",
    )
