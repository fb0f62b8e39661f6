"""`python -m ops`."""

from ops.cli.commands import main
from ops.cli.completion import VARIABLE

if __name__ == "__main__":
    main(prog_name="python -m ops", complete_var=VARIABLE)
