"""The operator's command: what a deployed stack does, why it does not, and how to set it going.

Everything that asks or acts is here and takes a `Stack`; `cli` and `display` alone know of the terminal.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

# The package lies in the layer: it is imported from there, not copied.
if find_spec("posedrop") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "layers" / "posedrop"))
