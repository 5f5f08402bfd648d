"""Run a study with Ray Tune: one reused Trainable, without Tune's loggers, snapshots and checkpoints."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from ray import tune
from ray.tune import Stopper
from ray.tune.stopper import CombinedStopper

from plgan_tune.backends.backend import Workload
from plgan_tune.backends.ray.backpressure import Pause
from plgan_tune.backends.ray.callbacks import CoordinatorCallback
from plgan_tune.backends.ray.embedded import RayWatch
from plgan_tune.backends.ray.local import Local, LocalCallback
from plgan_tune.backends.ray.scheduler import CoordinatorScheduler
from plgan_tune.backends.ray.scratch import scratch_folder
from plgan_tune.backends.ray.searcher import CoordinatorSearcher
from plgan_tune.backends.ray.silence import SilenceWatch
from plgan_tune.backends.ray.trainable import PlganTrainable
from plgan_tune.store.lock import seconds_awake_or_asleep
from plgan_tune.study.backpressure import Backpressure
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.errors import StudyError
from plgan_tune.study.trial_resources import TrialResources


def run_tune(
    workload: Workload,
    share: TrialResources,
    concurrent: int,
    coordinator: Coordinator,
    backpressure: Backpressure,
    on_ray_death: Callable[[str], None],
) -> bool:
    """Run a study's trials on the joined cluster until all have ended, a limit is reached or the user stops the search.

    Unfinished trials save a checkpoint. Their end is not reported to the coordinator.

    Args:
        workload: What to train.
        share: What a trial takes.
        concurrent: Trials at a time.
        coordinator: Hands out the trials.
        backpressure: Held after every report.
        on_ray_death: Called in a thread as soon as this process's own Ray is found dead.

    Returns:
        Whether the user stopped the search.

    Raises:
        StudyError: If no trial can start.
        RayDiedError: If this process's own Ray has died.
    """
    search = workload.search
    scheduler = CoordinatorScheduler(coordinator)
    silence = SilenceWatch(scheduler.controller, search.trial_timeout, coordinator.silent)
    asked, beginning = StopSignal(silence, coordinator.stopping), Beginning(coordinator)
    callbacks = [
        CoordinatorCallback(coordinator, scheduler.train_fewer),
        Pause(backpressure),
        silence,
        asked,
        beginning,
        TrimResults(),
    ]
    with (
        _quiet_tune(),
        scratch_folder() as scratch,
        RayWatch(scheduler.controller, on_ray_death) as ray_watch,
    ):
        tune.Tuner(
            tune.with_resources(PlganTrainable, placement_of(share)),
            param_space={"study": workload.study.url, "ranks": share.ranks, "cpus": share.cpus, "gpus": share.gpus},
            tune_config=tune.TuneConfig(
                search_alg=CoordinatorSearcher(coordinator, scheduler.has_room),
                scheduler=scheduler,
                num_samples=search.trials,
                max_concurrent_trials=concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=str(scratch),
                stop=CombinedStopper(beginning, TimeLimit(search.hours), LogLimit(coordinator), ray_watch),
                callbacks=callbacks,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=-1),
                verbose=0,
            ),
        ).fit()
    if (why := coordinator.why_none_starts()) is not None:
        raise StudyError(why)
    return asked.to_stop


def placement_of(share: TrialResources) -> tune.PlacementGroupFactory:
    """Return the placement group that Tune requests for each trial."""
    # Each of several ranks is a separate actor; the Trainable itself then takes nothing.
    bundles = share.bundles() if share.ranks == 1 else [{}, *share.bundles()]
    return tune.PlacementGroupFactory(bundles, strategy=share.placement.upper())


class Beginning(LocalCallback, Stopper):
    """Stops a search in which no trial can start: enough have failed for good, and all others have failed before."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._hope = True

    def on_step_begin(self, *, trials: Sequence[Any], **_info: Any) -> None:
        """Check whether any trial may still start. Looks at all trials only while none has."""
        if self._coordinator.why_none_starts() is not None:
            self._hope = any(not trial.is_finished() and not trial.config["assignment"].failures for trial in trials)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Return whether no trial can start."""
        return self._coordinator.why_none_starts() is not None and not self._hope


class TimeLimit(Stopper):
    """Stops a search after `hours`, if given. Tune's own limit uses the machine's clock, which may be changed.

    The time counts from the first call of `stop_all`, which Tune makes once it runs.
    """

    def __init__(self, hours: float | None) -> None:
        self._seconds = None if hours is None else hours * 3600
        self._begun: float | None = None

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:  # noqa: ARG002
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Return whether the time is over."""
        if self._seconds is None:
            return False
        now = seconds_awake_or_asleep()
        self._begun = now if self._begun is None else self._begun
        return now - self._begun >= self._seconds


class LogLimit(Local, Stopper):
    """Ends a search once its log reaches a limit."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:  # noqa: ARG002
        """Never stop a single trial."""
        return False

    def stop_all(self) -> bool:
        """Return whether a limit is reached."""
        return self._coordinator.is_over()


class TrimResults(LocalCallback):
    """Removes from a trial what Tune would keep unread until the study ends. Must be the last callback.

    Tune keeps six statistics and two queues for every number in a result.
    """

    def on_trial_result(self, *, result: dict[str, Any], **_info: Any) -> None:
        """Remove the config and the report, which all callbacks have read by now."""
        for name in ("config", "report"):
            result.pop(name, None)

    def on_trial_complete(self, *, trial: Any, **_info: Any) -> None:
        """Remove the statistics and the last result."""
        trial.metric_analysis.clear()
        trial.metric_n_steps.clear()
        trial.run_metadata.last_result = {}


class StopSignal(LocalCallback):
    """Notes a stop, and restores the earlier handler of SIGUSR1: Tune takes SIGINT and SIGUSR1 for itself.

    Args:
        silence: Says how long to wait for trials.
        on_stop: Called in the signal handler, with what the stop waits for.

    Attributes:
        to_stop: Whether the user stopped the search.
    """

    def __init__(self, silence: SilenceWatch, on_stop: Callable[[str], None]) -> None:
        self.to_stop = False
        self._silence, self._on_stop = silence, on_stop
        self._usr1 = signal.getsignal(signal.SIGUSR1)

    def setup(self, **_info: Any) -> None:
        """Wrap Tune's signal handlers, which are set by now."""
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


STOPPING: Final = "waiting at most {:.0f} s for trials to finish their epoch and save; Ctrl-C again stops at once"

TUNE_SETTINGS: Mapping[str, str] = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # several unread files per trial
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a diverged trial's last result has no val_error
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's snapshots are never read: the log is the state
    "RAY_AIR_NEW_OUTPUT": "0",
}


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Configure Tune, which reads only the environment, and silence it: the log already holds every failure."""
    before = {key: os.environ.get(key) for key in TUNE_SETTINGS}
    os.environ.update(TUNE_SETTINGS)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}  # not restored by Tune
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
