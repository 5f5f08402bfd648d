"""Versions that a result was made with."""

import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("plgan-tune", "ray", "optuna", "torch", "torchvision", "numpy", "pandas", "pyarrow")


def provenance() -> dict[str, str]:
    """Return the versions of Python and of installed packages that results depend on, and this code's git commit."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # a machine that only trains has neither Ray nor Optuna
            versions[name] = version(name)
    commit = _git_commit(Path(__file__).parents[2])
    return versions | ({"git_commit": commit} if commit else {})


def _git_commit(folder: Path) -> str | None:
    """Return the commit of the repository whose root is `folder`, with a mark if files differ from it."""
    if not (folder / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            encoding="ascii",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
