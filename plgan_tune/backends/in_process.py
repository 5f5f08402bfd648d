"""Given trials one after another in this process: for a machine that has torch, but neither Ray nor Optuna."""

import socket
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import torch
from rich.console import Console

from plgan_tune.backends.trial_worker import TrialRank
from plgan_tune.store.location import Guard, unguarded
from plgan_tune.study.fixed_trials import GivenStudy, taken_up
from plgan_tune.study.recorder import Bookkeeper, Config
from plgan_tune.training.ranks import ALONE


def train_in_process(
    study: GivenStudy,
    *,
    threads: int,
    console: Console,
    now: Callable[[], datetime],
    guard: Guard = unguarded,
    stopped: Callable[[], bool] = lambda: False,
    device: torch.device | None = None,
) -> bool:
    """Trains what of the study is still to be trained, as Ray's actors do: the same rows, the same files.

    Args:
        threads: on a CPU; a sum's last digit depends on them.
        guard: called before each file of the log; raises FollowedError where another search writes now.
        stopped: asked after every epoch; training then ends with a checkpoint.
        device: default the GPU if there is one.

    Returns:
        Whether every trial has ended.

    Raises:
        StoreError: where the study cannot be read or written.
        DataError: where a trial's data cannot be read.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rank = TrialRank(ALONE, device, socket.gethostname())
    shared = {"study": study.location.url, "cpus": threads}
    with taken_up(study, Bookkeeper, console, now, guard) as (configs, books, _):
        return all(_train(rank, config, shared, books, stopped) for config in configs)


def _train(
    rank: TrialRank, config: Config, shared: Mapping[str, Any], books: Bookkeeper, stopped: Callable[[], bool]
) -> bool:
    """Whether the trial has ended."""
    books.started(config)
    rank.begin({**config, **shared})
    while True:
        result = rank.step()
        books.reported(config, result)
        if result["done"]:
            books.ended(config, result)
            return True
        if stopped():
            rank.save()
            return False
