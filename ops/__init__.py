"""The operator's command: check a deployed stack, find out why a job is not done, and resume it.

All modules here take a `Stack`. Only `cli` and its `views` use the terminal.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

# The package is imported from the layer's folder, not copied.
if find_spec("posedrop") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "layers" / "posedrop"))
