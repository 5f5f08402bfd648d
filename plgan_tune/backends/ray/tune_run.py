"""Ray Tune as a study uses it: one reused Trainable, none of its own loggers, snapshots and checkpoints."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from types import FrameType
from typing import Any, Final

from ray import tune
from ray.tune import Callback, Stopper
from ray.tune.search import Searcher
from ray.tune.stopper import CombinedStopper

from plgan_tune.backends.ray.callbacks import Recorder
from plgan_tune.backends.ray.embedded import RayWatch
from plgan_tune.backends.ray.local_callback import LocalCallback
from plgan_tune.backends.ray.scheduler import EarlyStopping
from plgan_tune.backends.ray.scratch import scratch_folder
from plgan_tune.backends.ray.silence import SilenceWatch
from plgan_tune.backends.ray.trainable import PlganTrainable
from plgan_tune.config.study import SearchSpec
from plgan_tune.records import EpochMetrics
from plgan_tune.store.location import Location
from plgan_tune.store.lock import seconds_awake_or_asleep
from plgan_tune.study.errors import StudyError
from plgan_tune.study.trial_resources import Share


def run_tune(
    search: SearchSpec,
    study: Location,
    share: Share,
    concurrent: int,
    suggestions: Searcher,
    stopping: EarlyStopping,
    recorder: Recorder,
    callbacks: Sequence[Callback],
    on_ray_death: Callable[[str], None],
) -> bool:
    """Runs a study's trials on the joined cluster until all have ended, its time is over or it is asked to stop.

    Those that have not ended then have saved, and nobody is told of an end.

    Args:
        search: how many trials there are at most, how often one may fail, and how long one and all may take.
        suggestions: hands the trials out, each a `Config`.
        callbacks: called after the recorder.
        on_ray_death: told, in a thread, that this process's own Ray has died, as soon as that is seen.

    Returns:
        Whether it was asked to stop.

    Raises:
        StudyError: where no trial can begin.
        RayDiedError: where this process's own Ray has died.
    """
    silence = SilenceWatch(stopping.controller, search.trial_timeout, recorder.silent)
    asked, beginning = AskedToStop(silence, recorder.stopping), Beginning()
    with (
        _quiet_tune(),
        scratch_folder() as scratch,
        RayWatch(stopping.controller, on_ray_death) as ray_watch,
    ):
        tune.Tuner(
            tune.with_resources(PlganTrainable, placement_of(share)),
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
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=str(scratch),
                stop=CombinedStopper(beginning, TimeLimit(search.hours), ray_watch),
                callbacks=[recorder, *callbacks, silence, asked, beginning, Forgetting()],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=-1),
                verbose=0,
            ),
        ).fit()
    beginning.check()
    return asked.to_stop


def placement_of(share: Share) -> tune.PlacementGroupFactory:
    """The placement group that Tune asks Ray for, a trial each."""
    # Of several ranks each is an actor of its own; the Trainable itself then takes nothing.
    bundles = share.bundles() if share.ranks == 1 else [{}, *share.bundles()]
    return tune.PlacementGroupFactory(bundles, strategy=share.placement.upper())


NONE_BEGINS: Final = 3
"""Trials that fail for good before any has begun: the nodes are taken to be at fault, and not they."""


class Beginning(LocalCallback, Stopper):
    """Ends a search of which no trial can begin: so many have failed for good, and all others under way have failed."""

    def __init__(self) -> None:
        self._begun = False
        self._failed: list[Mapping[str, Any]] = []
        self._hope = True

    def on_trial_start(self, **_info: Any) -> None:
        """Some process has loaded its images and made its networks."""
        self._begun = True

    def on_step_begin(self, *, trials: Sequence[Any], **_info: Any) -> None:
        if not self._begun:
            self._hope = any(not trial.is_finished() and not trial.config["failures"] for trial in trials)

    def on_trial_complete(self, *, trial: Any, **_info: Any) -> None:
        if not self._begun:
            self._failed.append(trial.config)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        return False

    def stop_all(self) -> bool:
        return not (self._begun or self._hope) and len(self._failed) >= NONE_BEGINS

    def check(self) -> None:
        """Raises StudyError where no trial could begin."""
        if self.stop_all():
            last = self._failed[-1]
            raise StudyError(
                f"no trial can begin: {len(self._failed)} failed {last['failures']} times each before any could, "
                f"the last with {last['last_error']}"
            )


class TimeLimit(Stopper):
    """Ends a search after `hours`, if given. Tune's own limit goes by the machine's clock, which may be set.

    The time counts from the first question, which Tune asks once it runs.
    """

    def __init__(self, hours: float | None) -> None:
        self._seconds = None if hours is None else hours * 3600
        self._begun: float | None = None

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:  # noqa: ARG002
        return False

    def stop_all(self) -> bool:
        if self._seconds is None:
            return False
        now = seconds_awake_or_asleep()
        self._begun = now if self._begun is None else self._begun
        return now - self._begun >= self._seconds


class Forgetting(LocalCallback):
    """Takes from a trial what Tune keeps of it to the study's end and nobody reads; the last of the callbacks.

    Of every number in a result it keeps six statistics and two queues: with the last result, 75 kB a trial.
    """

    def on_trial_result(self, *, result: dict[str, Any], **_info: Any) -> None:
        """The searcher reads two measures of the last result once more, at the trial's end."""
        for name in UNREAD:
            result.pop(name, None)

    def on_trial_complete(self, *, trial: Any, **_info: Any) -> None:
        trial.metric_analysis.clear()
        trial.metric_n_steps.clear()
        trial.run_metadata.last_result = {"status": trial.last_result.get("status")}


UNREAD: Final = ("config", *sorted({measure.name for measure in fields(EpochMetrics)} - {"epoch", "val_error"}))


class AskedToStop(LocalCallback):
    """Notes a stop, and gives SIGUSR1 back to who had it: Tune takes both signals for itself.

    Args:
        silence: knows how long trials are waited for.
        on_stop: told what a stop waits for, in a signal's handler.

    Attributes:
        to_stop: whether it was.
    """

    def __init__(self, silence: SilenceWatch, on_stop: Callable[[str], None]) -> None:
        self.to_stop = False
        self._silence, self._on_stop = silence, on_stop
        self._usr1 = signal.getsignal(signal.SIGUSR1)

    def setup(self, **_info: Any) -> None:
        """Tune's handlers are set by now."""
        if threading.current_thread() is not threading.main_thread():
            return
        stop = signal.getsignal(signal.SIGINT)

        def note_and_stop(number: int, frame: FrameType | None) -> None:
            self.to_stop = True
            self._on_stop(STOPPING.format(self._silence.patience()))
            self._silence.stop()
            if callable(stop):
                stop(number, frame)

        signal.signal(signal.SIGINT, note_and_stop)
        signal.signal(signal.SIGUSR1, self._usr1 if callable(self._usr1) else note_and_stop)


STOPPING: Final = "trials end the epoch that they are in and save, {:.0f} s at most; Ctrl-C again does not wait"

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
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}  # Tune leaves its own
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
