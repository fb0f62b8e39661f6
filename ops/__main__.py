"""`python -m ops`."""

from ops.cli.commands import main

if __name__ == "__main__":
    main(prog_name="python -m ops")
