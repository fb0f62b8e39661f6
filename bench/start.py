"""Measure how long each handler takes to import, relative to boto3 alone, and how large the layer is.

The layer is built as by sam build, into a temporary folder. Each import is a new process with the layer, the handler,
and boto3 with its dependencies, as in Lambda. The runs of all handlers are interleaved.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench.tables import table

ROOT = Path(__file__).parents[1]
ROUNDS = 9
GOAL = 1.3
"""The goal for poll: its import, relative to boto3 alone."""
RUNTIME = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
"""The packages of Lambda's Python runtime."""
PICTURES = ("posedrop.contract.images", "posedrop.segmind.downloads", "posedrop.aws.output_bucket", "PIL")
CODE = """
import sys, time
began = time.perf_counter()
import {module}
print(time.perf_counter() - began, *(name for name in {pictures} if name in sys.modules))
"""


def build_layer(folder: Path) -> Path:
    """Build the layer into `folder` and return the folder of its packages."""
    command = ["make", "-s", "-C", str(ROOT / "layers" / "posedrop"), "build-PosedropLayer", f"ARTIFACTS_DIR={folder}"]
    subprocess.run(command, check=True, capture_output=True)  # nosec B603 # make, no shell
    return folder / "python"


def link_runtime(folder: Path) -> Path:
    """Make a folder with boto3 and its dependencies, and nothing else of this environment."""
    folder.mkdir()
    for name in RUNTIME:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(name)
        origin = Path(spec.origin)
        found = origin.parent if origin.name == "__init__.py" else origin
        (folder / found.name).symlink_to(found)
    return folder


def measure(module: str, path: list[Path]) -> tuple[float, list[str]]:
    """Import a module in a new process; return the seconds and the imported modules for pictures."""
    code = CODE.format(module=module, pictures=PICTURES)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, path))}
    # -S: without this environment's packages
    done = subprocess.run(  # nosec B603 # this Python, no shell
        [sys.executable, "-S", "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    seconds, *pictures = done.stdout.split()
    return float(seconds), pictures


def main() -> dict[str, Any]:
    """Print the table, and return milliseconds, their ratios to boto3 alone, the layer's bytes, and native files."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        layer = build_layer(folder / "layer")
        archive = Path(shutil.make_archive(str(folder / "layer"), "zip", folder / "layer"))
        native = [path.name for path in layer.rglob("*") if path.suffix in (".so", ".pyd", ".dylib")]
        runtime = link_runtime(folder / "runtime")
        shutil.copytree(ROOT / "functions", folder / "functions", ignore=shutil.ignore_patterns("__pycache__"))
        imports = {"boto3": ("boto3", [runtime])}
        for function in sorted(path.parent for path in (folder / "functions").glob("*/app.py")):
            imports[function.name] = ("app", [layer, runtime, function])
        compiled = {name: measure(*what) for name, what in imports.items()}
        runs = {name: list[float]() for name in imports}
        for _ in range(ROUNDS):
            for name, what in imports.items():
                runs[name].append(measure(*what)[0])
        size = archive.stat().st_size
    seconds = {name: median(found) for name, found in runs.items()}
    ratios = {name: found / seconds["boto3"] for name, found in seconds.items()}
    title = f"Import of each handler, median of {ROUNDS} (goal for poll: {GOAL} times boto3)"
    rows = [(name, f"{found * 1000:.0f} ms", f"{ratios[name]:.2f}") for name, found in seconds.items()]
    print(table(title, ("import", "time", "relative to boto3"), rows))
    print(f"poll imports picture code: {', '.join(compiled['poll'][1]) or 'none'}")
    print(f"layer: {size / 1e6:.2f} MB zipped, native files: {', '.join(native) or 'none'}")
    return {
        "milliseconds": {name: round(found * 1000, 1) for name, found in seconds.items()},
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "picture_code_of_poll": compiled["poll"][1],
        "layer_bytes": size,
        "layer_native_files": native,
    }


if __name__ == "__main__":
    main()
