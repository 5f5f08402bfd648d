"""Runs a study from its specification to its results."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from plgan_tune.backends.backend import Backend, Workload
from plgan_tune.backends.judging import facts_of, keep_judge
from plgan_tune.backends.run import run_trials
from plgan_tune.config.errors import RuleError
from plgan_tune.config.own import sha256_of
from plgan_tune.config.study import StudySpec
from plgan_tune.config.trial import TrialSpec
from plgan_tune.console.format import say, terminal
from plgan_tune.console.judge import judge_in_words, note_on_judge
from plgan_tune.console.reading import reading_images
from plgan_tune.data.check import DataSummary, check_data
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.records import DecisionRow
from plgan_tune.store.checkpoints import SAMPLES, TrialFiles
from plgan_tune.store.judge import JUDGE_FILE
from plgan_tune.store.location import Location, StoreError, check_writable, no_empty_folder_left
from plgan_tune.store.lock import StudyLock
from plgan_tune.store.own import FOLDER, keep_own
from plgan_tune.study.clock import Now, steady_clock
from plgan_tune.study.cluster_status import ClusterStatus
from plgan_tune.study.confirming import Confirming
from plgan_tune.study.early_stopping import build_rule, left_behind
from plgan_tune.study.errors import StudyError
from plgan_tune.study.folder import (
    default_name,
    own_content,
    study_location,
    taken,
    with_absolute_path,
    with_own_copy,
    write_best,
    write_front,
    write_study,
)
from plgan_tune.study.history import RULE_SINCE, History, as_begun, check_images, read_history
from plgan_tune.study.log_session import open_log
from plgan_tune.study.patience import patience_of
from plgan_tune.study.protocols import LogListener, Rule, Suggestions
from plgan_tune.study.race import race_of
from plgan_tune.study.ranking import trained_whole
from plgan_tune.study.state import Ending, StudyState
from plgan_tune.study.study_file import IMAGES, STUDY_FILE, STUDY_ID, StudyFile
from plgan_tune.tuning.dry_run import already_in_words, check_trials, notes_before, rungs_in_words
from plgan_tune.tuning.optuna_mirror import MIRROR, OptunaMirror
from plgan_tune.tuning.sampler import OptunaSampler, check_sampler
from plgan_tune.tuning.warm_start import Older, read_older


@dataclass(frozen=True, slots=True)
class StudyResult:
    """The result of a search.

    Attributes:
        location: The study's folder.
        state: Every trial: `state.rows()`, the best one `state.best()`, and how many ended how `state.counts()`.
        best: The best configuration; None if no trial completed.
        threads: CPU threads of each rank. Training with as many repeats the best trial's numbers exactly.
        ending: Whether all trials have ended, or why the search ended before.
        cluster: The cluster at the end; None if trials trained in this process.
    """

    location: Location
    state: StudyState
    best: TrialSpec | None
    threads: int
    ending: Ending
    cluster: ClusterStatus | None


def run_study(
    spec: StudySpec,
    *,
    backend: Backend,
    results: str | Path = "results",
    name: str | None = None,
    resume: bool = False,
    console: Console | None = None,
    now: Now | None = None,
    suggest: Callable[[StudySpec, History, Sequence[Older]], Suggestions] = OptunaSampler,
    stop: Callable[[StudySpec], Rule] = build_rule,
    listeners: Sequence[LogListener] = (),
) -> StudyResult:
    """Search: suggest trials, train them, stop weak ones early, and log every epoch.

    ```python
    from plgan_tune import InProcess, load_study, run_study

    result = run_study(load_study("search_spaces/digits.yaml").study, backend=InProcess(), name="first")
    print(result.state.best())
    ```

    Args:
        spec: What to search.
        backend: Who trains: `InProcess()`, or `RayBackend()` for a Ray of its own or a cluster.
        results: Where studies are stored: a folder, or an fsspec URL that every node reaches.
        name: The study's folder in `results`. The default is the study's name and the UTC time.
        resume: Continue the study of that name, if it exists.
        console: Where progress is shown. None shows nothing.
        now: Returns the UTC time. The default clock ignores changes of the system time.
        suggest: Makes the sampler, from the study, its history and the studies of `search.warm_start`. The default is
            the sampler that `search.sampler` names.
        stop: Makes the rule of early stopping. The default is the rule that `search.early_stopping` names.
        listeners: Take every row, after the log itself.

    Returns:
        Every trial and the best configuration.

    Raises:
        StudyError: If the name is taken, or no trial can start.
        HistoryError: If `resume` is asked for a study that differs in a key that may not change.
        LockedError: If another search is writing the study.
        RuleError: If a model does not fit the images, the ranks a batch, or the resources the back-end.
        StoreError: If the results cannot be written, or an older study cannot be read.
        DataError: If the data cannot be read, or has too few images.
        ClusterError: If the cluster cannot be joined or is too small.
        RayDiedError: If the search's own Ray has died. The log is complete.
    """
    console, now = console or terminal(quiet=True), now or steady_clock()
    asked = _checked(with_absolute_path(spec), results, name, backend, resume, now())
    with no_empty_folder_left(asked.location):
        check_writable(asked.location)
        with StudyLock(asked.location) as lock:
            if not asked.resume:
                _check_free(asked.location)
            history = read_history(asked.location, asked.spec) if asked.resume else History()
            _say_what_is_known(asked, history, console)
            data = _images(asked, history, console)
            with _named(asked, history, data) as held:
                return _search(asked, history, held, data, lock, console, now, suggest, stop, listeners)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A requested search that passed all checks; nothing has been written yet.

    Attributes:
        older: the studies of `search.warm_start`.
        summary: summary of the images.
        own: what the user's own file holds; None if there is none.
    """

    spec: StudySpec
    location: Location
    backend: Backend
    resume: bool
    older: Sequence[Older]
    summary: DataSummary
    started: datetime
    own: bytes | None


def _checked(
    spec: StudySpec, results: str | Path, name: str | None, backend: Backend, resume: bool, started: datetime
) -> _Asked:
    location = study_location(results, name, default_name(spec, started), resume=resume)
    spec = as_begun(spec, location) if resume else spec
    backend.check()
    check_sampler(spec.search)
    summary = check_data(spec.any_trial().data)
    own = own_content(spec)
    check_trials(spec, summary, own)
    return _Asked(with_own_copy(spec), location, backend, resume, read_older(spec), summary, started, own)


def _check_free(study: Location) -> None:
    """Check again, now under the lock; raise StudyError if another search has taken the folder meanwhile."""
    # Names that begin with "_" are a lock or another search's attempt.
    if any(not name.startswith("_") for name in study.list()):
        raise StudyError(taken(study))


def _say_what_is_known(asked: _Asked, history: History, console: Console) -> None:
    """Print what the user should know before anything is trained."""
    begins = asked.location if asked.resume else None
    for note in notes_before(asked.spec, history, asked.older, begins=begins):
        say(console, f"note: {note}", "yellow")
    facts = [f"already there: {already_in_words(history)}"] if history.trials else []
    for fact in [*facts, f"rungs of early stopping: {rungs_in_words(asked.spec)}"]:
        say(console, fact, "dim")


def _images(asked: _Asked, history: History, console: Console) -> Dataset:
    """Read the images before any file is written. This fills the node's cache, and finds a bad image at once."""
    spec = asked.spec.any_trial().data
    with reading_images(console) as progress:
        data = load_dataset(spec, progress=progress)
        check_images(history, spec.path, data.fingerprint, data.split.hash)
    for note in [*data.notes, *_read_otherwise(history, data)]:
        say(console, f"note: {note}", "yellow")
    return data


def _read_otherwise(history: History, data: Dataset) -> list[str]:
    """Return a note on a study whose trials may have seen other pixels, and whose version did not tell its images."""
    if not data.notes or not history.trials or any(IMAGES in start for start in history.starts):
        return []
    return [
        "an earlier version began this study, which turned no image upright and dropped transparency: if a note tells "
        "of such images, its trials saw others, so begin a new study"
    ]


@contextmanager
def _named(asked: _Asked, history: History, data: Dataset) -> Iterator[StudyFile]:
    """Write the study's files at once, so that no later search takes the name, and yield its `study.yaml`.

    If a new study fails before its first row, the folder is removed.
    """
    location = asked.location
    is_new = not location.join(STUDY_FILE).exists()
    about: dict[str, Any] = {RULE_SINCE: history.rule_since, IMAGES: data.fingerprint}
    if is_new:
        about[STUDY_ID] = uuid.uuid4().hex
    if asked.own is not None:
        keep_own(location, sha256_of(asked.own), asked.own)
    held = write_study(location, asked.spec, asked.started, history.starts, about)
    try:
        yield held
    except Exception:
        if all(name in (STUDY_FILE, FOLDER, JUDGE_FILE) or name.startswith("_") for name in location.list()):
            location.remove()
        raise


def _search(
    asked: _Asked,
    history: History,
    held: StudyFile,
    data: Dataset,
    lock: StudyLock,
    console: Console,
    now: Now,
    suggest: Callable[[StudySpec, History, Sequence[Older]], Suggestions],
    stop: Callable[[StudySpec], Rule],
    listeners: Sequence[LogListener],
) -> StudyResult:
    spec, location, images = asked.spec, asked.location, asked.spec.any_trial().data
    _judge(asked, held, data, console)
    rule = stop(spec)
    left = left_behind(history, spec, rule)
    if left.disagreement is not None:
        say(console, f"note: {_another_rule(left.disagreement)}", "yellow")
    race = race_of(spec)
    called_off = 0 if race else sum(row.replicate_of is not None for row in left.history.unfinished)
    state = StudyState(
        location.name,
        trials=left.history.in_all(spec.search.trials) - called_off,
        epochs=spec.any_trial().training.epochs,
        started_at=asked.started,
        deadline=asked.started + timedelta(hours=spec.search.hours) if spec.search.hours else None,
        budget=spec.search.epochs,
        trial_hours=spec.search.trial_hours,
        patience=patience_of(spec),
        history=left.history,
        split_hash=data.split.hash,
        race=race,
        metric=spec.metric,
        second=spec.second,
    )
    most = state.trials + (race.most_trainings(state.trials) if race else 0)
    limits = spec.search.model_copy(update={"trials": most})
    keep = limits.keep_checkpoints
    run = run_trials(
        asked.backend,
        Workload(location, limits, spec.resources, images, asked.summary),
        _suggestions(suggest(spec, left.history, asked.older), spec, state, left.history, now),
        rule,
        state,
        open_log(location, spec.columns, spec.types, state, keep, left, lock, held.study_id),
        console=console,
        now=now,
        listening=_listening(location, spec, left.history, listeners),
    )
    best = _write_best(location, spec, state, run.threads)
    ending = _ending(state, run.asked_to_stop, spec.search.trials)
    return StudyResult(location, state, best, run.threads, ending, run.cluster)


def _judge(asked: _Asked, held: StudyFile, data: Dataset, console: Console) -> None:
    """Train the study's judge, unless the folder has it, and say how well it knows the images.

    Raises:
        StoreError: if the folder's judge is not the one that `study.yaml` names.
    """
    location, earlier = asked.location, held.judge
    with console.status("training the judge of generated images"):
        was_there = location.join(JUDGE_FILE).exists()
        content = keep_judge(location, asked.spec.any_trial().data, data)
    if content is None:
        if needing := [metric.name for metric in asked.spec.objectives if metric.needs_judge]:
            raise RuleError(
                "search.metric must be one without a judge, such as val_transport, unless two classes have images with "
                "a label besides those for validation",
                needing[0],
            )
        say(console, "no judge of generated images: fewer than two classes have labels besides validation", "dim")
        return
    judge = facts_of(location, content)
    if earlier is not None and was_there and judge.sha256 != earlier.sha256:
        raise StoreError(
            f"{location.join(JUDGE_FILE).url} must be the judge of this study, of sha256 {earlier.sha256}, but it has "
            f"{judge.sha256}; put a copy back, or remove it to train another"
        )
    say(console, f"judge of generated images: {judge_in_words(judge)}", "dim")
    if judge == earlier:
        return
    held.with_judge(judge).write(location)
    if held.starts[1:]:
        say(console, "note: the judge is new: val_distance of earlier epochs is missing, or by another", "yellow")
    if (note := note_on_judge(judge)) is not None:
        say(console, f"note: {note}", "yellow")


def _suggestions(search: Suggestions, spec: StudySpec, state: StudyState, history: History, now: Now) -> Suggestions:
    """Return the search's suggestions, followed by the race of its best if there is one."""
    confirm, deadline = spec.search.confirm, state.deadline
    if confirm is None or state.race is None:
        return search
    time = None if deadline is None else (deadline - state.started_at) * (1 - confirm.share)
    until = None if time is None else state.started_at + time
    return Confirming(search, state.race, spec, state, history, lambda: until is not None and now() >= until)


def _another_rule(decision: DecisionRow) -> str:
    return (
        f"early stopping decided {decision.verdict} on {decision.trial_id} at epoch {decision.epoch}, but the rule of "
        "this resume decides otherwise: earlier decisions stay, and this rule judges later epochs"
    )


def _ending(state: StudyState, asked_to_stop: bool, asked_for: int) -> Ending:
    if state.ended() == state.trials and not state.race_waits():
        own = sum(row.replicate_of is None for row in state.rows())
        return (state.searched_enough() if own < asked_for else None) or Ending.DONE
    if asked_to_stop:
        return Ending.INTERRUPTED
    return state.over() or (Ending.INTERRUPTED if state.deadline is None else Ending.OUT_OF_TIME)


@contextmanager
def _listening(
    location: Location, spec: StudySpec, history: History, listeners: Sequence[LogListener]
) -> Iterator[Sequence[LogListener]]:
    """Yield all listeners: the mirror for optuna-dashboard, if its file can be local, and the caller's."""
    if location.local is None:
        yield listeners
        return
    with OptunaMirror(location.local / MIRROR, spec, history) as mirror:
        yield [mirror, *listeners]


def _write_best(location: Location, spec: StudySpec, state: StudyState, threads: int) -> TrialSpec | None:
    best = state.best()
    if best is None:
        return None
    trial = spec.trial(best.params)
    write_best(location, spec, best, trial, threads, state.standing())
    if spec.second is not None:
        write_front(location, spec, [state.trial(one.trial_id) for one in state.front()], threads)
    whole = trained_whole(best, state.rows())
    samples = TrialFiles.of(location, whole.trial_id).samples() if whole else None
    if samples is not None:
        location.join(SAMPLES).write_bytes(samples)
    return trial
