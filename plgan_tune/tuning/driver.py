"""A study from its specification to its results: the rooms put together."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console

from plgan_tune.data.check import DataSummary, check_data
from plgan_tune.data.dataset import load_dataset
from plgan_tune.data.errors import DataError
from plgan_tune.gan.networks import ImageShape
from plgan_tune.records import TrialRow
from plgan_tune.spec.errors import RuleError
from plgan_tune.spec.study import StudySpec, threads_of
from plgan_tune.spec.trial import TrialSpec
from plgan_tune.store.checkpoints import SAMPLES, TrialFiles
from plgan_tune.store.location import Location, check_writable, no_empty_folder_left
from plgan_tune.store.lock import StudyLock
from plgan_tune.study_file import STUDY_FILE, STUDY_ID
from plgan_tune.tuning.bookkeeping import Logs
from plgan_tune.tuning.clock import Now, steady_clock
from plgan_tune.tuning.cluster import ClusterError, check_address
from plgan_tune.tuning.display import build_display
from plgan_tune.tuning.errors import StudyError
from plgan_tune.tuning.files import (
    default_name,
    study_location,
    taken,
    with_absolute_path,
    write_best,
    write_study,
)
from plgan_tune.tuning.history import RULE_SINCE, History, as_begun, read_history
from plgan_tune.tuning.mirror import MIRROR, OptunaMirror
from plgan_tune.tuning.nodes import joined_for
from plgan_tune.tuning.opening import opened
from plgan_tune.tuning.pause import Pause
from plgan_tune.tuning.plan import already_in_words, check_trials, notes_before, rungs_in_words
from plgan_tune.tuning.progress import Ending, StudyState
from plgan_tune.tuning.recorder import Recorder
from plgan_tune.tuning.room import Room
from plgan_tune.tuning.sampler import OptunaSampler, check_sampler
from plgan_tune.tuning.stopping import EarlyStopping, build_halving, left_behind, start_of
from plgan_tune.tuning.tuner import run_tune
from plgan_tune.tuning.warm_start import Older, read_older
from plgan_tune.tuning.watch import RoomWatch
from plgan_tune.wording import say, terminal


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a search came to.

    Attributes:
        location: the study's folder.
        state: every trial's row, the best of them, counts.
        best: the best configuration, None where no trial completed.
        threads: of each rank; the best trial's numbers are exact under as many.
        ending: whether all trials have ended, or why the others have not.
        room: the cluster at its end.
    """

    location: Location
    state: StudyState
    best: TrialSpec | None
    threads: int
    ending: Ending
    room: Room


def run_study(
    spec: StudySpec,
    *,
    results: str | Path = "results",
    name: str | None = None,
    address: str | None = None,
    resume: bool = False,
    console: Console | None = None,
    now: Now | None = None,
    on_ray_death: Callable[[str], None] = lambda died: None,  # noqa: ARG005
) -> StudyResult:
    """Searches: trials are suggested, trained on Ray, stopped early, and every epoch is logged.

        from plgan_tune.spec.load import load_study
        from plgan_tune.tuning.driver import run_study

        result = run_study(load_study("search_spaces/digits.yaml").study, name="mine")
        print(result.state.best())

    Args:
        spec: what to search.
        results: where studies go, a folder or an fsspec URL that every node reaches.
        name: the study's folder under `results`; default the study's name and the UTC time.
        address: `auto` or `host:port` of a running Ray cluster; None starts an embedded Ray, and stops it at the end.
        resume: go on with the study of that name, if there is one.
        console: where progress is shown; None shows nothing.
        now: the UTC time; default a clock that nobody sets while the search runs.
        on_ray_death: told, in a thread, that an embedded Ray has died. The search then ends, if it can: without its GCS
            Ray ends this process after a minute.

    Raises:
        StudyError: for a name that is taken, and where no trial can begin.
        HistoryError: for a resume of another study.
        LockedError: where another search is writing that study.
        RuleError: where a trial's model does not fit the images, or its batch the ranks.
        StoreError: where the results cannot be written, or a study that is gone on with or begun from cannot be read.
        DataError: where the data cannot be read, or has too few images.
        ClusterError: where the cluster cannot be joined or is too small.
        RayDiedError: where an embedded Ray has died. What was logged is whole.
    """
    console, now = console or terminal(quiet=True), now or steady_clock()
    asked = _checked(with_absolute_path(spec), results, name, address, resume, now())
    with no_empty_folder_left(asked.location):
        check_writable(asked.location)
        with StudyLock(asked.location) as lock:
            if not asked.resume:
                _check_free(asked.location)
            history = read_history(asked.location, asked.spec) if asked.resume else History()
            _say_what_is_known(asked, history, console)
            with _named(asked, history) as study_id:
                return _search(asked, history, study_id, lock, console, now, on_ray_death)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A search as it was asked for and found possible; nothing has been written yet.

    Attributes:
        older: the studies of `search.warm_start`.
        summary: of the images.
    """

    spec: StudySpec
    location: Location
    address: str | None
    resume: bool
    older: Sequence[Older]
    summary: DataSummary
    started: datetime


def _checked(
    spec: StudySpec, results: str | Path, name: str | None, address: str | None, resume: bool, started: datetime
) -> _Asked:
    location = study_location(results, name, default_name(spec, started), resume=resume)
    spec = as_begun(spec, location) if resume else spec
    if address is not None:
        check_address(address)
    check_sampler(spec.search)
    summary = check_data(spec.any_trial().data)
    check_trials(spec, ImageShape(summary.channels, summary.size))
    return _Asked(spec, location, address, resume, read_older(spec), summary, started)


def _check_free(study: Location) -> None:
    """Looks again, now that nobody else can take it; raises StudyError where another search has taken it meanwhile."""
    # What begins with "_" is a lock or another's attempt.
    if any(not name.startswith("_") for name in study.list()):
        raise StudyError(taken(study))


def _say_what_is_known(asked: _Asked, history: History, console: Console) -> None:
    """What is to be known before anything is trained."""
    begins = asked.location if asked.resume else None
    for note in notes_before(asked.spec, history, asked.older, begins=begins):
        say(console, f"note: {note}", "yellow")
    facts = [f"already there: {already_in_words(history)}"] if history.trials else []
    for fact in [*facts, f"rungs of early stopping: {rungs_in_words(asked.spec)}"]:
        say(console, fact, "dim")


@contextmanager
def _named(asked: _Asked, history: History) -> Iterator[str | None]:
    """The study's file is there from the beginning, so that no later search takes the name. Answers with its id.

    A new study that is refused before its first trial leaves nothing.
    """
    location = asked.location
    is_new = not location.join(STUDY_FILE).exists()
    about = {RULE_SINCE: history.rule_since} | ({STUDY_ID: uuid.uuid4().hex} if is_new else {})
    held = write_study(location, asked.spec, asked.started, history.starts, about)
    try:
        yield held.study_id
    except (ClusterError, DataError, RuleError):
        if all(name == STUDY_FILE or name.startswith("_") for name in location.list()):
            location.remove()
        raise


def _search(
    asked: _Asked,
    history: History,
    study_id: str | None,
    lock: StudyLock,
    console: Console,
    now: Now,
    on_ray_death: Callable[[str], None],
) -> StudyResult:
    spec, location, images = asked.spec, asked.location, asked.spec.any_trial().data
    with console.status("reading the images"):
        data = load_dataset(images)  # warms this node's cache; a bad image is found before Ray starts
    halving, start = build_halving(spec), start_of(spec)
    left = left_behind(history, spec, halving, start)
    state = StudyState(
        location.name,
        trials=left.history.in_all(spec.search.trials),
        epochs=spec.any_trial().training.epochs,
        started_at=asked.started,
        deadline=asked.started + timedelta(hours=spec.search.hours) if spec.search.hours else None,
        history=left.history,
        split_hash=data.split.hash,
    )
    limits = spec.search.model_copy(update={"trials": state.trials})
    with (
        joined_for(
            spec.resources, limits.concurrent, images, asked.summary, address=asked.address, console=console
        ) as (share, concurrent),
        RoomWatch(share, concurrent, state) as watch,
        opened(location, spec.columns, spec.types, state, limits.keep_checkpoints, left, lock.check, study_id) as (
            log,
            on_end,
        ),
        _mirrored(location, spec, left.history) as mirrors,
    ):
        sampler = OptunaSampler(spec, left.history, asked.older)
        stopping = EarlyStopping(halving, start)
        display = build_display(console, state, now, lambda: watch.room)
        watch.news = display.looked
        recorder = Recorder(state, Logs(log, *mirrors), display, now, on_end, stopping.taken)
        with display:
            stopped = run_tune(
                limits, location, share, concurrent, sampler, stopping, recorder, [Pause(log)], on_ray_death
            )
    recorder.check_whole(location.url)
    threads = threads_of(share.cpus)
    best = _write_best(location, spec, state.best(), threads)
    return StudyResult(location, state, best, threads, _ending(state, stopped), watch.room)


def _ending(state: StudyState, stopped: bool) -> Ending:
    """Args: stopped: whether somebody asked for it."""
    if state.ended() == state.trials:
        return Ending.DONE
    return Ending.INTERRUPTED if stopped or state.deadline is None else Ending.OUT_OF_TIME


@contextmanager
def _mirrored(location: Location, spec: StudySpec, history: History) -> Iterator[list[OptunaMirror]]:
    """The study for optuna-dashboard, whose file must be a local one."""
    if location.local is None:
        yield []
        return
    with OptunaMirror(location.local / MIRROR, spec, history) as mirror:
        yield [mirror]


def _write_best(location: Location, spec: StudySpec, best: TrialRow | None, threads: int) -> TrialSpec | None:
    if best is None:
        return None
    trial = spec.trial(best.params)
    write_best(location, spec, best, trial, threads)
    samples = TrialFiles.of(location, best.trial_id).samples()
    if samples is not None:
        location.join(SAMPLES).write_bytes(samples)
    return trial
