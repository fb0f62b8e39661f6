"""The browser of this machine, for the tests of the console's page and for its benchmark."""

import shutil

NAMES = ("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""Those without windows come first: they need half of the time."""


def executable() -> str | None:
    """Return the path of a Chromium, or None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)
