"""A user without a home folder, as containers have them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from plgan_tune.data.cache import cache_folder
from plgan_tune.data.errors import DataError

NOBODY = 54321
"""A user id without an entry in the password file: where HOME is not set either, no home is known."""

LOOK = """
import os, sys
from pathlib import Path
import pwd
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
import plgan_tune.backends.ray.backend
home = Path.home()
print(home, oct(home.stat().st_mode & 0o777))
"""


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    for name in ("PLGAN_TUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


def _homeless() -> dict[str, str]:
    hidden = ("HOME", "PLGAN_TUNE_CACHE", "XDG_CACHE_HOME")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def test_ray_gets_a_home_that_is_private_and_goes_with_the_process() -> None:
    looked = subprocess.run([sys.executable, "-c", LOOK], env=_homeless(), capture_output=True, text=True, check=False)
    assert looked.returncode == 0, looked.stderr
    home, mode = looked.stdout.split()
    assert mode == "0o700"
    assert not Path(home).exists()


@pytest.mark.usefixtures("homeless")
def test_a_cache_without_a_home_is_refused_with_the_variable_to_set() -> None:
    with pytest.raises(DataError, match="PLGAN_TUNE_CACHE"):
        cache_folder()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everyone may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.root
@pytest.mark.parametrize("home", [None, "/proc"])
@pytest.mark.parametrize("way", [pytest.param((), marks=[pytest.mark.ray, pytest.mark.slow]), ("--in-process",)])
def test_the_digits_are_searched_without_a_home(folder: Path, home: str | None, way: tuple[str, ...]) -> None:
    """As an unknown user, and with a home that cannot be written."""
    small = ["search.trials=1", "search.first=[]", "search.confirm=null", "search.early_stopping=none"]
    small += ["trial.training.epochs=1", "trial.loss.switch_epoch=1", "trial.optim.decay_epoch=1"]
    changes = [word for change in small for word in ("--set", change)]
    ask = partial(subprocess.run, user=NOBODY, group=NOBODY, extra_groups=[], cwd=folder, check=False)
    environment = _homeless() | ({} if home is None else {"HOME": home})
    try:
        ask([sys.executable, "-c", "import plgan_tune"]).check_returncode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a Python that another user may run")
    words = [sys.executable, "-m", "plgan_tune.search", "--name", "mine", *way, *changes]
    searched = ask(words, env=environment, capture_output=True, text=True)
    assert searched.returncode == 0, searched.stdout + searched.stderr
    assert (folder / "results" / "mine" / "best.yaml").exists()
