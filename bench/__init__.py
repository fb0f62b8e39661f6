"""The benchmarks: python -m bench.<name>, or make bench."""

import sys
from pathlib import Path

# The package is in the layer's folder.
sys.path.insert(0, str(Path(__file__).parents[1] / "layers" / "posedrop"))
