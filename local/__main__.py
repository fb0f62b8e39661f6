"""Run the local stack in the background: `python -m local up`, then `env`, and `down`."""

import argparse
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.deploy import ROOT
from local.processes import LocalError
from local.stack import LocalStack

DIRECTORY = ROOT / ".local" / "up"
STATE_FILE = ROOT / ".local" / "stack.json"
NEXT = (
    ".venv/bin/python -m ops upload local/samples/face-astronaut.png \\",
    '    local/samples/pose-cameraman.png --prompt "on the moon" --wait',
    ".venv/bin/python -m ops console",
    "make down",
)
"""The commands to try on a stack that runs."""


def main() -> int:
    """Run the command line; return its exit code."""
    arguments = _arguments()
    try:
        if arguments.command == "up":
            up(arguments.segmind_base_url, arguments.params, shlex.split(arguments.emulator))
        elif arguments.command == "env":
            print(variables(LocalStack(DIRECTORY, state_file=STATE_FILE).state()))
        else:
            down()
        sys.stdout.flush()
    except LocalError as error:
        print(f"Failed: {error}", file=sys.stderr)
        if arguments.command == "env":
            print("false")  # so that `eval "$(make env)"` fails too
        return 1
    except BrokenPipeError:  # as in `make up | head`: nobody reads the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def up(segmind_base_url: str | None, parameters: dict[str, str], emulator: list[str]) -> None:
    """Start the stack, or deploy again on the running one. Raises LocalError."""
    started = time.monotonic()
    key = os.environ.get("SEGMIND_API_KEY")
    stack = LocalStack(
        DIRECTORY,
        parameters={**({"SegmindApiKey": key} if key else {}), **parameters},
        segmind_base_url=segmind_base_url,
        emulator=emulator,
        state_file=STATE_FILE,
    )
    if stack.running():
        print("A stack is already running: deploying on it ...", flush=True)
        stack.update()
    else:
        print("Starting the local stack and deploying the template (about ten seconds) ...", flush=True)
        stack.start()
    print(f"The stack is up after {time.monotonic() - started:.0f} s.")
    provider = "the emulator" if segmind_base_url is None else "not the emulator"
    for what, where in {
        "uploads": f"s3://{stack.outputs['UploadBucketName']}/{stack.layout.folder('<character>').prefix}",
        "images": f"s3://{stack.outputs['OutputBucketName']}/outputs/",
        "AWS endpoint": stack.endpoint_url,
        "provider": f"{stack.segmind_base_url} ({provider})",
        "all names": _shown(STATE_FILE),
        "logs": f"{_shown(stack.logs)}/",
    }.items():
        print(f"  {what:14} {where}")
    print("Next:")
    for command in NEXT:
        print(f"  {command}")


def environment(state: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables to reach a stack: AWS's own, and one for each output of the stack.

    UploadBucketName becomes UPLOAD_BUCKET_NAME. `state` is the state file's content. Raises LocalError if it is empty.
    """
    if not state:
        raise LocalError("no stack is running: make up")
    return {
        "AWS_ENDPOINT_URL": state["endpoint_url"],
        "AWS_REGION": state["region"],
        "AWS_DEFAULT_REGION": state["region"],
        "AWS_ACCESS_KEY_ID": state["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": state["aws_secret_access_key"],
        "SEGMIND_BASE_URL": state["segmind_base_url"],
        **{re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper(): value for name, value in state["outputs"].items()},
    }


def variables(state: Mapping[str, Any]) -> str:
    """Return the shell code that sets the variables to reach a stack. Raises LocalError if there is none."""
    # A profile or session token of another account would override these credentials, or be sent with them.
    lines = ["unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN AWS_SECURITY_TOKEN"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment(state).items()]
    lines += ['export NO_PROXY="127.0.0.1${NO_PROXY:+,$NO_PROXY}"']
    return "\n".join(lines)


def down() -> None:
    """Stop the stack, if it runs."""
    stack = LocalStack(DIRECTORY, state_file=STATE_FILE)
    was_running = stack.running()
    stack.stop()
    print("The stack is stopped." if was_running else "No stack was running.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("up", help="start the stack, or deploy again on the running one")
    command.add_argument("--segmind-base-url", type=_url, help="the upstream (default: start the emulator)")
    command.add_argument("--params", type=_parameters, default={}, help='template parameters, "Name=Value Name=Value"')
    command.add_argument("--emulator", default="", help='the emulator\'s options, "--latency 1 --rpm 50"')
    commands.add_parser("env", help="print shell variables to reach the stack")
    commands.add_parser("down", help="stop the stack")
    return parser.parse_args()


def _url(text: str) -> str | None:
    return text.rstrip("/") or None


def _parameters(text: str) -> dict[str, str]:
    """Parse "Name=Value Name='a b'", quoted as in a shell."""
    parameters = {}
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if not equals or not name.isalnum():
            raise argparse.ArgumentTypeError(f"not Name=Value: {word}")
        parameters[name] = value
    return parameters


def _shown(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    sys.exit(main())
