"""A home folder for a user who has none, as in a container that runs under an unknown user id."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "plgan_tune_home_"


def ensure_home() -> None:
    """Name a folder of this process's own in HOME if no home can be found: Ray asks for it when it is imported.

    Ray's processes inherit it. It is removed when this process ends.
    """
    try:
        Path.home()
    except RuntimeError:
        home = tempfile.mkdtemp(prefix=PREFIX)
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        os.environ["HOME"] = home
