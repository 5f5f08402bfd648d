"""The study in a form that optuna-dashboard opens: a journal file derived from the rows, which is never read here."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Final, Self

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import LOCK_FILE_SUFFIX
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from plgan_tune.config.domains import Choice, Domain
from plgan_tune.config.study import StudySpec
from plgan_tune.records import DecisionRow, EpochRow, TrialRow, TrialStatus
from plgan_tune.study.history import History
from plgan_tune.tuning.distributions import distributions, quiet
from plgan_tune.tuning.sampler import values_of

logger = logging.getLogger(__name__)

MIRROR: Final = "optuna.log"

STATES: Final = {
    TrialStatus.RUNNING: TrialState.RUNNING,
    TrialStatus.COMPLETED: TrialState.COMPLETE,
    TrialStatus.STOPPED: TrialState.PRUNED,
    TrialStatus.DIVERGED: TrialState.FAIL,
    TrialStatus.FAILED: TrialState.FAIL,
}


def _by_name(domains: Mapping[str, Domain]) -> dict[str, Domain]:
    """A dashboard shows options, not their places."""
    return {
        path: replace(domain, ordered=False) if isinstance(domain, Choice) else domain
        for path, domain in domains.items()
    }


class OptunaMirror:
    """Writes all rows of the log to an Optuna journal.

    A context manager with its own thread, because each line is synced to the disk. The file is rewritten from
    `history`. If it cannot be written, the search continues without it.

    Args:
        path: the file.
        spec: names the study and its domains; trials outside them are left out.
        history: rows of earlier starts.
    """

    def __init__(self, path: Path, spec: StudySpec, history: History) -> None:
        self._path, self._spec, self._history = path, spec, history
        self._directions = [
            StudyDirection.MINIMIZE if metric.better == "lower" else StudyDirection.MAXIMIZE
            for metric in spec.objectives
        ]
        self._distributions: Mapping[str, BaseDistribution] = distributions(_by_name(spec.domains))
        self._ids: dict[str, int] = {}
        self._ended = {row.trial_id for row in history.ended}
        self._waiting: SimpleQueue[TrialRow | EpochRow | None] = SimpleQueue()
        self._thread = Thread(target=self._mirror, name="optuna-mirror", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._thread.join()

    def trial(self, row: TrialRow) -> None:
        """Queue a trial's row."""
        self._waiting.put(row)

    def epoch(self, row: EpochRow) -> None:
        """Queue an epoch's row."""
        self._waiting.put(row)

    def decision(self, row: DecisionRow) -> None:
        """Ignore the row: Optuna's journal has no decisions."""

    def _mirror(self) -> None:
        try:
            storage, study = self._opened()
            for row in self._history.trials:
                self._begin(storage, study, row, self._history.curves.get(row.trial_id, {}))
            while (news := self._waiting.get()) is not None:
                if isinstance(news, EpochRow):
                    self._report(storage, news)
                elif news.trial_id in self._ids:
                    self._follow(storage, news)
                else:
                    self._begin(storage, study, news, {})
        except Exception as error:  # the search does not depend on the mirror
            logger.warning("%s is no longer updated: %s", self._path, error)

    def _opened(self) -> tuple[JournalStorage, int]:
        for file in (self._path, self._path.with_name(f"{self._path.name}{LOCK_FILE_SUFFIX}")):
            file.unlink(
                missing_ok=True
            )  # a driver that was killed may have left the lock, and Optuna waits 30 s for it
        storage = JournalStorage(JournalFileBackend(str(self._path)))
        with quiet():
            return storage, storage.create_new_study(self._directions, self._path.parent.name)

    def _begin(self, storage: JournalStorage, study: int, row: TrialRow, curve: Mapping[int, float]) -> None:
        if self._spec.holds(row.params):
            self._ids[row.trial_id] = storage.create_new_trial(study, self._frozen(row, curve))

    def _report(self, storage: JournalStorage, row: EpochRow) -> None:
        value = row.metrics.value(self._spec.metric.name)
        if row.trial_id in self._ids and value is not None and not self._two:
            storage.set_trial_intermediate_value(self._ids[row.trial_id], row.metrics.epoch, value)

    def _follow(self, storage: JournalStorage, row: TrialRow) -> None:
        if row.status is TrialStatus.RUNNING or row.trial_id in self._ended:
            return
        storage.set_trial_state_values(self._ids[row.trial_id], STATES[row.status], self._values(row))
        self._ended.add(row.trial_id)

    @property
    def _two(self) -> bool:
        """Whether the study has two objectives: Optuna then takes no value of an epoch."""
        return self._spec.second is not None

    def _values(self, row: TrialRow) -> tuple[float, ...] | None:
        """Return a completed trial's value of each objective; None for any other trial."""
        return values_of(self._spec, row) if row.status is TrialStatus.COMPLETED else None

    def _frozen(self, row: TrialRow, curve: Mapping[int, float]) -> FrozenTrial:
        return optuna.trial.create_trial(
            state=STATES[row.status],
            values=self._values(row),
            params=dict(row.params),
            distributions=dict(self._distributions),
            intermediate_values={} if self._two else dict(curve),
            user_attrs={"trial_id": row.trial_id, "seed": row.seed},
        )
