"""Given trials on a Ray cluster: a searcher that hands out a list, and a rule that stops nobody."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ray.tune.search import Searcher
from rich.console import Console

from plgan_tune.backends.ray.backpressure import Pause
from plgan_tune.backends.ray.callbacks import Recorder
from plgan_tune.backends.ray.preflight import joined_for
from plgan_tune.backends.ray.scheduler import EarlyStopping
from plgan_tune.backends.ray.tune_run import run_tune
from plgan_tune.config.study import ResourcesSpec, SearchSpec
from plgan_tune.data.check import DataSummary
from plgan_tune.store.location import Guard
from plgan_tune.study.fixed_trials import GivenStudy, left_to_do, taken_up
from plgan_tune.study.halving import Halving
from plgan_tune.study.recorder import Config


class HandedOut(Searcher):
    """Suggests these configs in their order."""

    def __init__(self, configs: Sequence[Config]) -> None:
        super().__init__(metric="val_error", mode="min")
        self._configs = iter(configs)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        """The next config; `Searcher.FINISHED` after the last."""
        config = next(self._configs, None)
        return str(Searcher.FINISHED) if config is None else dict(config)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: what ends is the log's business."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a study goes on from its rows, never from Tune's snapshots."""


def train_on_ray(
    study: GivenStudy,
    search: SearchSpec,
    resources: ResourcesSpec,
    *,
    summary: DataSummary,
    address: str | None,
    console: Console,
    now: Callable[[], datetime],
    guard: Guard,
    on_ray_death: Callable[[str], None],
) -> bool:
    """Trains what of the study is still to be trained on an embedded Ray, or on the cluster at `address`.

    Args:
        search: how many trials at a time, and how often one may fail.
        resources: what a trial takes.
        summary: of the images as this process found them.
        guard: called before each file of the log; raises FollowedError where another search writes now.
        on_ray_death: told, in a thread, that an embedded Ray has died.

    Returns:
        Whether every trial has ended; not so where the user has interrupted.

    Raises:
        StoreError: where the study cannot be read or written.
        ClusterError: where the cluster cannot be joined or is too small, or a node of it cannot train.
        StudyError: where no trial can begin.
        RayDiedError: where an embedded Ray has died.
    """
    if not left_to_do(study):
        return True
    data = study.trials[0].trial.data
    with joined_for(resources, search.concurrent, data, summary, address=address, console=console) as (
        share,
        concurrent,
    ):
        with taken_up(study, Recorder, console, now, guard) as (configs, recorder, log):
            limits = search.model_copy(update={"trials": len(configs), "hours": None})
            stopping = EarlyStopping(Halving((), 2), lambda point: 0)  # noqa: ARG005
            suggestions = HandedOut(configs)
            run_tune(
                limits,
                study.location,
                share,
                concurrent,
                suggestions,
                stopping,
                recorder,
                [Pause(log)],
                on_ray_death,
            )
        return recorder.state.ended() == recorder.state.trials
