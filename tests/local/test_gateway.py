"""What the local stack's gateway changes: the names of functions' errors, and archives that are unpacked once."""

import json
import queue
import shutil
import threading
import traceback
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from local import gateway
from posedrop.contract.errors import DeliveryFailed
from tests.support import HANGS

THROTTLED = {"Error": {"Code": "ThrottlingException", "Message": "slow down:\n  later"}}


class NestedError(Exception):
    """One whose class is defined in this module."""


def failed(error: Exception, printed: str = "", message: str | None = None) -> dict[str, object]:
    """What MiniStack makes of a function that raises: `printed` is what it logged before."""
    try:
        raise error
    except type(error):
        log = "\n".join(filter(None, [printed, traceback.format_exc()]))
    body = {"errorMessage": str(error) if message is None else message, "errorType": "Runtime.HandlerError"}
    return {"body": body, "error": True, "log": log}


def local_class() -> Exception:
    """An exception whose qualified name has a function in it."""

    class InnerError(Exception):
        pass

    return InnerError("x")


def chained() -> Exception:
    """An exception with a cause: the traceback has both."""
    error = DeliveryFailed("the result cannot be fetched: 503")
    error.__cause__ = ValueError("the cause")
    return error


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (DeliveryFailed("the media answered 404"), "DeliveryFailed"),
        (chained(), "DeliveryFailed"),
        (NestedError(), "NestedError"),
        (NestedError("Error: a: b"), "NestedError"),
        (NestedError("first\nSecond: third\n"), "NestedError"),
        (NestedError("NestedError: x"), "NestedError"),
        (KeyError("job_id"), "KeyError"),
        (ClientError(THROTTLED, "PutItem"), "ClientError"),  # type: ignore[arg-type]
        (local_class(), "InnerError"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("printed", ["", '{"level": "INFO"}\nValueError: printed by the function'])
def test_an_error_has_the_name_of_the_exceptions_class(
    monkeypatch: pytest.MonkeyPatch, error: Exception, name: str, printed: str
) -> None:
    result = failed(error, printed)
    monkeypatch.setattr(gateway, "_execute_function", lambda function, event: result)
    body = gateway.execute_function({}, {})["body"]
    assert body == {"errorMessage": str(error), "errorType": name}


@pytest.mark.parametrize(
    "error_type", ["Sandbox.Timedout", "RuntimeError"], ids=["of a time-out", "of a process that cannot start"]
)
def test_a_name_that_ministack_has_stays(monkeypatch: pytest.MonkeyPatch, error_type: str) -> None:
    result = {**failed(KeyError("x")), "body": {"errorMessage": "x", "errorType": error_type}}
    monkeypatch.setattr(gateway, "_execute_function", lambda function, event: result)
    assert gateway.execute_function({}, {})["body"]["errorType"] == error_type


def test_a_process_that_dies_is_an_exit_error() -> None:
    assert gateway.error_type("Worker process died", "some output\nWorker process died") == "Runtime.ExitError"


def test_a_log_without_the_error_gives_no_name() -> None:
    assert gateway.error_type("a text", "ValueError: another text") == "Runtime.HandlerError"
    assert gateway.error_type("a text", "a line with words: a text") == "Runtime.HandlerError"


def test_a_success_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    result = {"body": {"errorType": "Runtime.HandlerError"}, "log": ""}
    monkeypatch.setattr(gateway, "_execute_function", lambda function, event: json.loads(json.dumps(result)))
    assert gateway.execute_function({}, {}) == result


def archive(path: Path, text: str) -> Path:
    """An archive with one file."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("python/module.py", text)
    return path


def unpack(archived: Path, target: Path) -> Path:
    """Unpack an archive as MiniStack does, into a new directory."""
    target.mkdir()
    with gateway.SharedArchive(archived) as file:
        file.extractall(target)
    return target


def test_processes_share_an_unpacked_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(gateway, "_unpacked", {})
    one = unpack(archive(tmp_path / "1.zip", "x = 1"), tmp_path / "one")
    same = unpack(Path(shutil.copyfile(tmp_path / "1.zip", tmp_path / "2.zip")), tmp_path / "same")
    other = unpack(archive(tmp_path / "3.zip", "x = 2"), tmp_path / "other")
    assert [(path / "python" / "module.py").read_text() for path in (one, same, other)] == ["x = 1", "x = 1", "x = 2"]
    assert one.resolve() == same.resolve() != other.resolve()
    assert one.resolve().parent == tmp_path


def test_a_process_at_work_outlives_an_update_until_it_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: queue.Queue[str] = queue.Queue()

    def worker(name: str, function: str, in_use: bool) -> Any:
        return SimpleNamespace(func_name=function, in_use=in_use, kill=lambda: stopped.put(name))

    busy, idle, other = worker("busy", "submit", True), worker("idle", "submit", False), worker("other", "poll", True)
    pools = {"1:r:submit:$LATEST": [busy, idle], "1:r:poll:$LATEST": [other]}
    monkeypatch.setattr(lambda_runtime, "_workers", pools)
    monkeypatch.setattr(lambda_runtime, "kill_workers", lambda workers: [each.kill() for each in workers])
    monkeypatch.setattr(gateway, "BUSY_SECONDS", 0.01)
    gateway.invalidate_worker("submit", qualifier="$LATEST")
    assert stopped.get(timeout=HANGS) == "idle"
    assert [workers for workers in pools.values() if workers] == [[other]]
    with pytest.raises(queue.Empty):
        stopped.get(timeout=0.1)
    busy.in_use = False
    assert stopped.get(timeout=HANGS) == "busy"


# ---- permissions boundaries ------------------------------------------------------------------------------------------

BOUNDARY = "arn:aws:iam::000000000000:policy/bound"


def test_a_template_s_role_keeps_its_permissions_boundary_until_an_update_drops_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roles: dict[str, dict[str, Any]] = {"role": {"RoleName": "role"}}
    monkeypatch.setattr(gateway, "iam", SimpleNamespace(_roles=roles))
    create = gateway.role_with_boundary(lambda logical_id, properties, stack: ("role", {}))
    update = gateway.role_with_boundary(lambda physical_id, old, new, stack, logical_id=None: ("role", {}))
    create("Role", {"PermissionsBoundary": BOUNDARY}, "posedrop")
    assert roles["role"]["PermissionsBoundary"] == BOUNDARY
    update("role", {"PermissionsBoundary": BOUNDARY}, {}, "posedrop", logical_id="Role")
    assert roles["role"]["PermissionsBoundary"] is None


# ---- what EventBridge sends to ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["a rule", "a caller"])
def test_an_asynchronous_invocation_is_tried_again_and_waited_for_while_it_is_throttled(
    monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    throttled: dict[str, Any] = {"throttle": True, "error": True}
    answers = iter([throttled, throttled, {"error": True, "body": {}}, throttled, {"body": None}])
    tried: list[dict[str, Any]] = []
    done = threading.Event()

    def execute(function: dict[str, Any], event: dict[str, Any]) -> Any:
        tried.append(event)
        found = next(answers)
        if not found.get("error"):
            done.set()
        return found

    config = {"FunctionName": "receiver", "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:receiver"}
    monkeypatch.setattr(gateway, "_execute_function", execute)
    monkeypatch.setattr(lambda_svc, "_execute_function", gateway.execute_function)
    monkeypatch.setattr(lambda_svc, "_get_func_record_for_ref", lambda arn: ({"config": config}, config, "receiver"))
    monkeypatch.setattr(lambda_svc, "_LAMBDA_ASYNC_RETRY_BASE_SECONDS", 0.01)
    if by == "a rule":
        gateway.dispatch_to_lambda(config["FunctionArn"], '{"detail": 1}')
    else:
        gateway.invoke_asynchronously({"config": config}, {"detail": 1})
    assert done.wait(HANGS)
    assert tried == [{"detail": 1}] * 5


def test_a_rule_s_function_that_is_not_there_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lambda_svc, "_get_func_record_for_ref", lambda arn: (None, None, "gone"))
    monkeypatch.setattr(gateway, "_invoke_async_with_retry", lambda *_: pytest.fail("it was invoked"))
    gateway.dispatch_to_lambda("arn:aws:lambda:us-east-1:000000000000:function:gone", "{}")


def test_a_destination_of_a_template_is_made_by_eventbridge_s_own_operation() -> None:
    made: list[dict[str, Any]] = []

    def create(data: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        made.append(data)
        if not data.get("HttpMethod"):
            return 400, {}, b'{"message": "HttpMethod"}'
        return 200, {}, json.dumps({"ApiDestinationArn": "an ARN"}).encode()

    handlers = gateway.provisioner("ApiDestination", create, made.append)
    assert handlers["create"]("Hook", {"HttpMethod": "POST"}, "recipe") == ("recipe-Hook", {"Arn": "an ARN"})
    assert made == [{"HttpMethod": "POST", "Name": "recipe-Hook"}]
    with pytest.raises(ValueError, match=r"Hook.*HttpMethod"):
        handlers["create"]("Hook", {}, "recipe")
    handlers["delete"]("recipe-Hook", {})
    assert made[-1] == {"Name": "recipe-Hook"}
