"""Ray Tune as a study uses it: one reused Trainable, none of its own loggers, snapshots and checkpoints."""

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ray import tune
from ray.tune import Callback
from ray.tune.search import Searcher

from plgan_tune.spec.study import SearchSpec
from plgan_tune.store.location import Location
from plgan_tune.tuning.share import Share
from plgan_tune.tuning.stopping import EarlyStopping
from plgan_tune.tuning.trainable import PlganTrainable


def run_tune(
    search: SearchSpec,
    study: Location,
    share: Share,
    concurrent: int,
    suggestions: Searcher,
    stopping: EarlyStopping,
    callbacks: Sequence[Callback],
) -> None:
    """Runs a study's trials on the joined cluster until all have ended, its time is over or it is asked to stop.

    Args:
        search: how many trials there are at most, how often one may fail, and how long all may take.
        suggestions: hands the trials out, each a `Config`.
    """
    # Of several ranks each is an actor of its own; the Trainable itself then takes nothing.
    bundles = share.bundles() if share.ranks == 1 else [{}, *share.bundles()]
    with _quiet_tune(), tempfile.TemporaryDirectory(prefix="plgan_tune_ray_") as scratch:
        tune.Tuner(
            tune.with_resources(PlganTrainable, tune.PlacementGroupFactory(bundles, strategy=share.placement.upper())),
            param_space={
                "study": study.url,
                "ranks": share.ranks,
                "cpus": share.cpus,
                "gpus": share.gpus,
                "max_failures": search.max_failures,
            },
            tune_config=tune.TuneConfig(
                metric=search.metric,
                mode=search.mode,
                search_alg=suggestions,
                scheduler=stopping,
                num_samples=search.trials,
                max_concurrent_trials=concurrent,
                time_budget_s=search.hours * 3600 if search.hours else None,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=scratch,
                callbacks=[*callbacks],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=-1),
                verbose=0,
            ),
        ).fit()


TUNE_SETTINGS: Mapping[str, str] = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # several files a trial that nobody reads
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a diverged trial's last result has no val_error
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's snapshots are never read: the log is the state
    "RAY_AIR_NEW_OUTPUT": "0",
}


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Tune reads settings from the environment alone, and prints every failure that the log already holds."""
    before = {key: os.environ.get(key) for key in TUNE_SETTINGS}
    os.environ.update(TUNE_SETTINGS)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    interrupt = signal.getsignal(signal.SIGINT)  # Tune leaves its own handler behind
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupt)
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
