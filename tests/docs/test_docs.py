"""README, CONTRIBUTING, SECURITY and docs/: every link, file, command, option and name in them is there."""

import ast
import functools
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from local.__main__ import environment as of_the_local_stack
from ops import errors
from ops.cli import commands as cli
from posedrop.aws import api_key as secret
from posedrop.aws import prepared_pictures
from posedrop.aws.record import Status
from posedrop.contract import images, parameters
from posedrop.contract.errors import JOB_ERRORS
from posedrop.contract.upload_layout import FileKind, UploadLayout
from posedrop.gate import poll_schedule as polling
from posedrop.intake import job_reader
from posedrop.prepare import preparer
from posedrop.segmind import downloads
from posedrop.segmind import responses as answers
from posedrop.submit import request_body
from tests.docs.documents import Document, aws_commands, call, document, documents
from tests.integration.conftest import Pipeline, environment, logs, pipeline, provider
from tests.support import ROOT, image

__all__ = ["environment", "logs", "pipeline", "provider"]

DOCS = {found.name: found for found in documents()}
PACKAGE = ROOT / "layers" / "posedrop" / "posedrop"
each = pytest.mark.parametrize("doc", DOCS.values(), ids=DOCS)


def named(doc: str) -> Document:
    """A document of docs/."""
    return DOCS[f"docs/{doc}.md"]


# ---- links and files -------------------------------------------------------------------------------------------------


@each
def test_every_link_leads_somewhere(doc: Document) -> None:
    for link in doc.links:
        target, _, anchor = link.partition("#")
        if target.startswith(("http://", "https://")):
            continue
        path = (doc.path.parent / target).resolve() if target else doc.path
        assert path.exists(), link
        assert not anchor or anchor in document(path).anchors, link


def test_the_readme_lists_every_document() -> None:
    assert set(DOCS["README.md"].links) >= set(DOCS) - {"README.md", "CHANGELOG.md"}


FILE = re.compile(r"[A-Za-z_.][\w.-]*(/[\w.-]+)*(\.(py|md|json|ya?ml|toml|txt|in|sh)|/)")
ELSEWHERE = (".venv/", ".local/", "incoming/", "outputs/", "client/", "client-a/", "poses/")  # made, or in a bucket
OF_THE_READER = {"parameters.json", "policy.json", "event.json", "key.txt", "job.json", "result.json"}


@each
def test_every_file_that_is_named_is_there(doc: Document) -> None:
    words = {word for line in doc.lines() for word in re.split(r"[\s`'\"=,]+", line) if FILE.fullmatch(word)}
    for word in words - OF_THE_READER:
        if not word.startswith(ELSEWHERE):
            places = (ROOT, PACKAGE, PACKAGE.parent, *(found.parent for found in PACKAGE.glob("*/*.py")))
            assert any((place / word).exists() for place in places), word


# ---- commands --------------------------------------------------------------------------------------------------------


@each
def test_every_make_target_is_there(doc: Document) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in doc.lines():
        for target in re.findall(r"\bmake ([a-z][a-z-]*)", line):
            assert target in targets, line


@each
def test_every_module_that_is_run_is_there(doc: Document) -> None:
    for line in doc.lines():
        for module in re.findall(r"python -m ([a-z_.]+[a-z_])", line):
            assert importlib.util.find_spec(module), line


def operator_commands(doc: Document) -> Iterator[list[str]]:
    """The words behind `python -m ops` or `ops`, wherever that begins a command."""
    for line in doc.lines():
        found = re.match(r"\s*(?:\.venv/bin/)?(?:python -m )?ops (.*?)(?:#.*)?$", line)
        if found:
            yield shlex.split(found[1])


@each
def test_every_command_of_the_operator_is_there_with_its_options(doc: Document) -> None:
    shared = {option for parameter in cli.main.params for option in parameter.opts}
    for words in operator_commands(doc):
        command: click.Command = cli.main
        known = {*shared, "--help"}
        values = {"--stack", "--profile", "--region"}
        skip = False
        for word in words:
            if skip or not word.startswith("-"):
                if not skip and command is cli.main:
                    assert word in cli.main.commands, words
                    command = cli.main.commands[word]
                    known |= {
                        option
                        for parameter in command.params
                        for option in (*parameter.opts, *parameter.secondary_opts)
                    }
                skip = False
                continue
            assert word in known, words
            skip = word in values


def table(doc: Document, first: str) -> list[list[str]]:
    """The rows of the table whose header begins with `first`."""
    lines = doc.path.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_table_of_commands_is_complete_and_its_options_are_there() -> None:
    rows = table(named("operations"), "command")
    assert {cell.strip("`").split()[0] for cell, _ in rows} == set(cli.main.commands)
    for command, what in rows:
        found = cli.main.commands[command.strip("`").split()[0]]
        known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert set(re.findall(r"(?<!\w)--?[a-z][a-z-]*", command + what)) <= known, command


def test_the_table_of_exit_codes_is_what_the_command_says() -> None:
    rows = {int(code): meaning.replace("`", "") for code, meaning in table(named("operations"), "exit code")}
    documented = dict(re.findall(r"^  (\d+)  (.+)$", cli.EPILOG, re.MULTILINE))
    assert rows == {int(code): meaning for code, meaning in documented.items()}
    kinds: list[type[errors.OpsError]] = [errors.OpsError, *errors.OpsError.__subclasses__()]
    assert {kind.exit_code for kind in kinds} == set(rows) - {0, 130}


@each
def test_every_command_of_the_aws_cli_fits_the_service(doc: Document) -> None:
    for command in aws_commands(list(doc.lines())):
        call(command)


def test_commands_that_do_not_fit_are_found() -> None:
    for command in (
        "aws sns subscribe --topic-arn T --protocol sqs --endpoint Q",
        "aws sqs no-such-thing --queue-url Q",
        "aws sqs send-message --queue-url Q",
        "aws s3api put-bucket-versioning --bucket NAME --versioning-configuration Status=Enabled,No=x",
    ):
        with pytest.raises(AssertionError):
            call(command)


# ---- names -----------------------------------------------------------------------------------------------------------


class Loader(yaml.SafeLoader):
    """Reads a template whose functions do not matter here."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


@functools.cache
def template() -> Any:
    """The template, its functions left out."""
    return yaml.load((ROOT / "template.yaml").read_text(encoding="utf-8"), Loader)


def classes() -> set[str]:
    """The names of all classes of the package and of ops."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for folder in (PACKAGE, ROOT / "ops")
        for path in folder.rglob("*.py")
    ]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


ACCESS = dict.fromkeys(("endpoint_url", "region", "aws_access_key_id", "aws_secret_access_key", "segmind_base_url"), "")


@functools.cache
def names() -> set[str]:
    """What a word in CamelCase or in capitals may be."""
    states = set(re.findall(r'"(\w+\??)": \{', (ROOT / "statemachine" / "job.asl.json").read_text(encoding="utf-8")))
    body = template()
    of_aws = {"FilterPolicy", "RawMessageDelivery", "Pass", "Fail"}
    found = {*body["Parameters"], *body["Outputs"], *body["Resources"], *JOB_ERRORS, *Status, *states, *classes()}
    state = {**ACCESS, "outputs": dict.fromkeys(body["Outputs"], "")}
    return found | of_aws | metrics() | set(of_the_local_stack(state)) | {"INCOMPLETE", "TOPIC_ARN", "QUERY"}


def metrics() -> set[str]:
    """The names of the metrics that the functions write."""
    sources = [path.read_text(encoding="utf-8") for path in (*PACKAGE.rglob("*.py"), *ROOT.glob("functions/*/app.py"))]
    return {name for text in sources for name in re.findall(r'\b(?:count|seconds|add_metric)\("(\w+)"', text)}


@each
def test_every_parameter_output_and_name_is_there(doc: Document) -> None:
    known = names()
    spans = [span for span in doc.spans if re.fullmatch(r"[A-Z]\w+\??", span)]
    assert not [span for span in spans if span not in known]


def test_every_alarm_has_its_heading_in_the_runbook() -> None:
    alarms = {
        name: found["Properties"]["AlarmDescription"]
        for name, found in template()["Resources"].items()
        if found["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert alarms
    for name, description in alarms.items():
        (heading,) = re.findall(r'docs/operations\.md, "(.+?)"', description)
        assert heading in named("operations").headings, name


def rooms() -> dict[str, str]:
    """The modules of each room, as the architecture's table has them."""
    body = named("architecture").path.read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(\w+)/` \| [^|]+ \| (.+) \|$", body, re.MULTILINE))


def test_every_module_of_the_package_stands_in_its_rooms_row() -> None:
    found = {room: sorted(re.findall(r"`(\w+\.py)`", modules)) for room, modules in rooms().items()}
    there = {
        folder.name: sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")
        for folder in PACKAGE.iterdir()
        if (folder / "__init__.py").exists()
    }
    assert found == there


IMPURE = {"boto3", "botocore", "httpx", "time", "random", "socket", "os", "uuid", "aws_lambda_powertools"}


def test_the_modules_that_are_called_pure_are() -> None:
    pure = [PACKAGE / room / name for room, found in rooms().items() for name in re.findall(r"`(\w+\.py)`\*", found)]
    assert pure
    for path in pure:
        imported = {
            module.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for module in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not imported & IMPURE, path


def test_the_readme_says_which_parameters_need_an_answer() -> None:
    parameters = template()["Parameters"]
    (needed,) = (name for name, found in parameters.items() if "Default" not in found)
    text = " ".join(DOCS["README.md"].path.read_text(encoding="utf-8").split())
    assert f"Only `{needed}` has no default; press Enter for the others." in text
    # Those that are asked for first.
    assert {name for name in list(parameters)[:6] if f"`{name}`" in text} == set(list(parameters)[:6])


def test_the_quick_start_uploads_all_that_a_job_needs() -> None:
    lines = [line.split() for line in DOCS["README.md"].lines() if line.strip().startswith("aws s3 cp")]
    uploads = [UploadLayout().parse(line[4].partition("UPLOAD_BUCKET/")[2]) for line in lines]
    assert {(found.kind, found.character) for found in uploads} == {(FileKind.FACE, "hero"), (FileKind.POSE, "hero")}
    assert any('"prompt=' in word for line in lines for word in line)


def test_the_changelog_names_every_command() -> None:
    text = DOCS["CHANGELOG.md"].path.read_text(encoding="utf-8")
    (listed,) = re.findall(r"`python -m ops`: ([^.]+)\.", text)
    assert set(re.findall(r"[a-z-]+", listed)) == set(cli.main.commands)


def test_the_readme_says_every_error_type() -> None:
    documented = {kind for cell, *_ in table(DOCS["README.md"], "`error.type`") for kind in cell.split(", ")}
    assert documented == set(JOB_ERRORS)


# ---- figures ---------------------------------------------------------------------------------------------------------

KIB, MIB = 1024, 1024 * 1024


@pytest.mark.parametrize(
    ("doc", "words", "value", "meant"),
    [
        ("architecture", "the last 32 jobs", polling.MEMORY, 32),
        ("security", "within five minutes", secret.MAX_AGE, 300),
        ("README", "up to 20 MiB and 8,192 pixels a side", images.IMAGE_LIMIT, 20 * MIB),
        ("README", "up to 20 MiB and 8,192 pixels a side", images.SIDE_LIMIT, 8192),
        ("README", "Up to 100 MiB and 200 million pixels", images.UPLOAD_LIMIT, 100 * MIB),
        ("README", "Up to 100 MiB and 200 million pixels", images.PIXEL_LIMIT, 200_000_000),
        ("README", "after two minutes", job_reader.MAY_COME, 120),
        ("security", "100 MiB and 200 million pixels", images.UPLOAD_LIMIT, 100 * MIB),
        ("security", "bounds of memory and 45 seconds", preparer.DECODE_SECONDS, 45),
        ("architecture", "up to 55 seconds of its 60", prepared_pictures.response_seconds(60), 55),
        ("architecture", "after 15 seconds", prepared_pictures.STILL_RUNNING, 15),
        ("security", "64 KiB, a closed schema", parameters.JOB_FILE_LIMIT, 64 * KIB),
        ("security", "a context of 4 KB", parameters.CONTEXT_LIMIT, 4 * KIB),
        ("security", "texts are cut to 1 KiB", answers.ERROR_BYTES, KIB),
        ("security", "up to 256 MB", downloads.OUTPUT_LIMIT, 256 * 1000 * 1000),
        ("security", "for an hour at most", request_body.URL_SECONDS, 3600),
    ],
)
def test_figures_are_those_of_the_code(doc: str, words: str, value: float, meant: float) -> None:
    path = ROOT / "README.md" if doc == "README" else named(doc).path
    assert words in " ".join(path.read_text(encoding="utf-8").split())
    assert value == meant


# ---- the log query ---------------------------------------------------------------------------------------------------


def test_the_query_finds_a_job_s_whole_timeline(pipeline: Pipeline, logs: Any) -> None:
    (query,) = [block.text for block in named("operations").blocks if block.text.startswith("fields @timestamp")]
    fields = {field.strip() for field in query.splitlines()[0].removeprefix("fields @timestamp,").split(",")}
    assert set(re.findall(r"(\w+) = ", query)) == {"job_id", "character", "pose"}
    pipeline.upload(("incoming/hero/poses/walk.png", image()))
    pipeline.upload(("incoming/hero/face.png", image("png", (9, 9))))
    pipeline.run_all()
    job_id = next(iter(pipeline.records()))
    lines = [
        line
        for line in logs()
        if line.get("job_id") == job_id or (line.get("character"), line.get("pose")) == ("hero", "walk")
    ]
    logged = [line["message"] for line in lines]
    assert {"waiting", "submitted", "checked", "succeeded"} <= set(logged)
    assert fields - {"reason"} <= {field for line in lines for field in line}


def test_no_document_names_a_machine() -> None:
    for doc in DOCS.values():
        text = doc.path.read_text(encoding="utf-8")
        assert str(ROOT) not in text, doc.name
        assert not re.search(r"/root/|/home/|/Users/|localhost:\d", text), doc.name
        assert Path(doc.name).suffix == ".md"
