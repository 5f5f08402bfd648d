"""Terminals without UTF-8, and systems without what only Linux has."""

import os
import subprocess
import sys
from pathlib import Path

IMPORTED_ELSEWHERE = """
import importlib, os, pkgutil, signal, sys, time
import duckdb, filelock, fsspec.implementations.local, joblib, optuna, pandas, psutil, pyarrow.dataset, rich.live, torch
import torch.distributed, torchvision, typer  # these know where they are
for module, names in {signal: ("SIGUSR1", "SIGHUP", "SIGKILL"), time: ("clock_gettime", "CLOCK_BOOTTIME"),
                      os: ("getuid", "fork", "sched_getaffinity", "killpg", "login_tty")}.items():
    for name in names:
        delattr(module, name)
for name in ("fcntl", "pwd", "resource", "termios"):
    sys.modules[name] = None
import plgan_tune
for found in pkgutil.walk_packages(plgan_tune.__path__, "plgan_tune."):
    if not found.name.startswith(("plgan_tune.backends.ray", "plgan_tune.__main__")):
        importlib.import_module(found.name)
"""


def test_everything_but_ray_is_imported_without_what_windows_lacks() -> None:
    tried = subprocess.run([sys.executable, "-c", IMPORTED_ELSEWHERE], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr


def test_a_search_is_shown_in_ascii(tmp_path: Path) -> None:
    """What cannot be shown is replaced, and files are UTF-8 all the same."""
    (tmp_path / "sp\u00e4ce.yaml").write_text(
        """
study: small
search: {trials: 1, sampler: random, early_stopping: none, confirm: null}
trial:  # f\u00fcr alle
  data: {source: digits, labels: 20, validation: 100}
  model: {width: 0.05}
  loss: {alpha: {uniform: [0.1, 1.0]}}
  training: {epochs: 1}
""",
        encoding="utf-8",
    )
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for words in (
        ["search", "--in-process", "--space", "sp\u00e4ce.yaml", "--name", "mine"],
        ["analyze", "results/mine"],
    ):
        shown = subprocess.run(
            [sys.executable, "-m", f"plgan_tune.{words[0]}", *words[1:]],
            cwd=tmp_path,
            env=ascii_only,
            capture_output=True,
            check=False,
        )
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert shown.stdout.isascii()
