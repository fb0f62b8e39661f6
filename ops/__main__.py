"""`python -m ops`."""

from ops.cli import main
from ops.completion import VARIABLE

if __name__ == "__main__":
    main(prog_name="python -m ops", complete_var=VARIABLE)
