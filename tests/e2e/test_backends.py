"""The program of docs/backends.md on the deployed stack, as it stands there, with the grants that it names."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local.__main__ import environment, variables
from local.stack import LocalStack
from tests.backend import DOCUMENT, program
from tests.console.browser import PATIENCE, browser
from tests.support import HANGS, ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser"]


@pytest.fixture
def credentials(stack: LocalStack) -> dict[str, str]:
    """A user who may do what the document's policy says, and nothing else."""
    (policy,) = DOCUMENT.under("Permissions", "json")
    table = stack.client("dynamodb").describe_table(TableName=stack.outputs["JobsTableName"])["Table"]["TableArn"]
    queue = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.outputs["UploadQueueUrl"], AttributeNames=["QueueArn"]
    )
    names = {
        "UPLOAD_PREFIX": stack.outputs["UploadPrefix"],
        "UPLOAD_BUCKET": stack.outputs["UploadBucketName"],
        "OUTPUT_BUCKET": stack.outputs["OutputBucketName"],
        "UPLOAD_QUEUE_ARN": queue["Attributes"]["QueueArn"],
        "TABLE_ARN": table,
        "TOPIC_ARN": stack.outputs["NotificationTopicArn"],
    }
    for word, name in names.items():
        policy = re.sub(rf"\b{word}\b", name, policy)
    iam = stack.client("iam")
    iam.create_user(UserName="backend")
    iam.put_user_policy(UserName="backend", PolicyName="backend", PolicyDocument=policy)
    key = iam.create_access_key(UserName="backend")["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def test_the_program_runs_with_the_grants_of_the_document(
    stack: LocalStack, credentials: dict[str, str], tmp_path: Path
) -> None:
    commands = "".join(DOCUMENT.blocks[0].text).splitlines()
    assert commands[:2] == ["make up", 'eval "$(make env)"']
    (tmp_path / "env").write_text(variables({**stack.state(), **lower(credentials)}))
    script = "\n".join(["set -eu", f'. "{tmp_path}/env"', *commands[2:]])
    script = script.replace(".local/backend", str(tmp_path / "backend"))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    shop, app, bad, half = done.stdout.splitlines()
    assert shop.endswith("poses/walk.jpg: done: 1 picture(s)")
    assert app.endswith("pose.jpg: done: 1 picture(s)")
    assert "failed: InvalidInput" in bad
    assert "samples" in bad
    assert half.endswith("face.jpg: waits for: pose")
    # Its queue also gets what others have uploaded to the same stack.
    own = [path for path in (tmp_path / "backend").glob("*.png") if path.name.startswith(("shop-", "app-"))]
    pictures = [path.read_bytes() for path in own]
    assert len(pictures) == 2
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


@pytest.fixture
def page_server() -> Iterator[int]:
    """The port of a web server with one empty page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_browser_uploads_with_a_form_from_the_origins_that_are_let_in(
    stack: LocalStack, browser: "Browser", page_server: int, tmp_path: Path
) -> None:
    (script,) = DOCUMENT.under("From a browser or an app", "js")
    send = f"async ([form, text]) => {{ {script} await upload(form, new Blob([text])); }}"
    s3, bucket = stack.client("s3"), stack.outputs["UploadBucketName"]
    with program(tmp_path, environment(stack.state())) as backend:
        form = backend.form("incoming/browser/job.json", 100)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"http://localhost:{page_server}")
    page.evaluate(send, [form, '{"prompt": "雨"}'])
    assert s3.get_object(Bucket=bucket, Key="incoming/browser/job.json")["Body"].read().decode() == '{"prompt": "雨"}'
    with pytest.raises(Exception, match="S3 answered 400"):
        page.evaluate(send, [form, "x" * 101])
    with pytest.raises(Exception, match="S3 answered 403"):
        page.evaluate(send, [{**form, "fields": {**form["fields"], "key": "incoming/other/job.json"}}, "{}"])
    page.goto(f"http://127.0.0.1:{page_server}")  # another origin
    with pytest.raises(Exception, match="Failed to fetch"):
        page.evaluate(send, [form, "{}"])
    page.close()


def lower(credentials: dict[str, str]) -> dict[str, str]:
    """The names of the state file."""
    return {name.lower(): value for name, value in credentials.items()}
