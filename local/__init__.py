"""The local stack: the real template on an AWS emulator, an emulator of the provider, and the demo."""

import sys
from pathlib import Path

# The package is in the layer's folder.
sys.path.append(str(Path(__file__).resolve().parents[1] / "layers" / "posedrop"))
