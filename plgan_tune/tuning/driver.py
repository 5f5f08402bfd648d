"""A study from its specification to its results: the rooms put together."""

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ray
from ray import tune
from rich.console import Console

from plgan_tune.data.check import check_data
from plgan_tune.data.dataset import load_dataset
from plgan_tune.data.errors import DataError
from plgan_tune.gan.networks import ImageShape
from plgan_tune.records import DecisionRow, TrialRow
from plgan_tune.spec.errors import RuleError
from plgan_tune.spec.study import NAME, StudySpec
from plgan_tune.spec.trial import TrialSpec
from plgan_tune.store.checkpoints import SAMPLES, TrialFiles, trials_with_files
from plgan_tune.store.location import Location, StoreError, check_writable
from plgan_tune.store.lock import LOCK, StudyLock
from plgan_tune.store.log import StudyLog
from plgan_tune.tuning.cluster import ClusterError, Share, capacity, check_address, connect
from plgan_tune.tuning.display import build_display
from plgan_tune.tuning.errors import StudyError
from plgan_tune.tuning.files import STUDY_FILE, write_best, write_study
from plgan_tune.tuning.history import History, brought_to_date, read_history
from plgan_tune.tuning.keeping import CheckpointKeeper
from plgan_tune.tuning.mirror import MIRROR, OptunaMirror
from plgan_tune.tuning.plan import check_trials
from plgan_tune.tuning.progress import StudyState
from plgan_tune.tuning.recorder import Logs, Recorder
from plgan_tune.tuning.sampler import OptunaSampler, check_sampler
from plgan_tune.tuning.stopping import EarlyStopping, build_halving, replayed, start_of
from plgan_tune.tuning.trainable import PlganTrainable
from plgan_tune.tuning.warm_start import Older, read_older

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a search came to.

    Attributes:
        location: the study's folder.
        state: every trial's row, the best of them, counts.
        best: the best configuration, None where no trial completed.
        threads: of each rank; the best trial's numbers are exact under as many.
        interrupted: whether it was asked to stop before its end.
    """

    location: Location
    state: StudyState
    best: TrialSpec | None
    threads: int
    interrupted: bool


class RecordingError(Exception):
    """The search's own bookkeeping failed: results may lack rows. The cause is a defect; please report it."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def run_study(
    spec: StudySpec,
    *,
    results: str | Path = "results",
    name: str | None = None,
    address: str | None = None,
    resume: bool = False,
    console: Console | None = None,
    now: Now = utc_now,
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
        now: the UTC time.

    Raises:
        StudyError: for a name that is taken.
        HistoryError: for a resume of another study.
        LockedError: where another search is writing that study.
        RuleError: where a trial's model does not fit the images, or its batch the ranks.
        StoreError: where the results cannot be written.
        DataError: where the data cannot be read, or has too few images.
        ClusterError: where the cluster cannot be joined or is too small.
    """
    started = now()
    console = console or Console(quiet=True)
    spec = _with_absolute_path(spec)
    location = study_location(results, name, default_name(spec, started), resume=resume)
    if address is not None:
        check_address(address)
    history = read_history(location, spec) if resume else History()
    older = read_older(spec)
    outside = [row.trial_id for row in history.trials if not spec.holds(row.params)]
    notes = [f"not as at the last start: {change}" for change in history.changes]
    if outside:
        notes.append(f"outside the domains of now, so kept but not told to the sampler: {', '.join(outside)}")
    for note in [*notes, *(study.note for study in older)]:
        console.print(f"note: {note}", style="yellow", soft_wrap=True, markup=False, highlight=False)
    check_sampler(spec.search)
    summary = check_data(spec.any_trial().data)
    check_trials(spec, ImageShape(summary.channels, summary.size))
    check_writable(location)
    with StudyLock(location), _named(location, spec, started, history):
        return _search(spec, location, history, older, started, address, console, now)


@contextmanager
def _named(location: Location, spec: StudySpec, started: datetime, history: History) -> Iterator[None]:
    """The study's file is there from the beginning, so that no later search takes the name.

    A new study that is refused before its first trial leaves nothing.
    """
    write_study(location, spec, started, history.starts)
    try:
        yield
    except (ClusterError, DataError, RuleError):
        if set(location.list()) <= {STUDY_FILE, LOCK}:
            location.remove()
        raise


def _search(
    spec: StudySpec,
    location: Location,
    history: History,
    older: Sequence[Older],
    started: datetime,
    address: str | None,
    console: Console,
    now: Now,
) -> StudyResult:
    with console.status("reading the images"):
        data = load_dataset(spec.any_trial().data)  # warms this node's cache; a bad image is found before Ray starts
    epochs = spec.any_trial().training.epochs
    halving, start = build_halving(spec), start_of(spec)
    starts = {row.trial_id: start(row.params) for row in history.trials}
    decisions = tuple(replayed(history.epochs, halving, starts, epochs))
    known = history
    history = brought_to_date(history, spec, decisions)
    deadline = started + timedelta(hours=spec.search.hours) if spec.search.hours else None
    state = StudyState(
        spec.study,
        trials=spec.search.trials,
        epochs=epochs,
        started_at=started,
        deadline=deadline,
        history=history,
        split_hash=data.split.hash,
    )
    with _joined(address, console):
        share, concurrent = capacity(spec.resources, spec.search.concurrent)
        with (
            StudyLog(location, spec.columns, spec.types) as log,
            CheckpointKeeper(location, state, log, spec.search.keep_checkpoints) as keeper,
            _mirrored(location, spec, history) as mirrors,
        ):
            log.open_tables()
            _remove_unknown(location, history)
            _log_what_was_lost(log, known, history, decisions)
            sampler = OptunaSampler(spec, history, older)
            stopping = EarlyStopping(halving, start)
            display = build_display(console, state, now)
            recorder = Recorder(state, Logs(log, *mirrors), display, now, keeper.trial_ended, stopping.taken)
            with display:
                _tune(spec, location, share, concurrent, sampler, stopping, recorder)
            out_of_time = deadline is not None and now() >= deadline
            if out_of_time:
                recorder.stop_running()
            sampler.close()
    if recorder.first_error is not None:
        raise RecordingError(f"the results in {location.url} are not whole: an event could not be recorded") from (
            recorder.first_error
        )
    threads = max(1, int(share.cpus))
    trial = _write_best(location, spec, state.best(), threads)
    return StudyResult(location, state, trial, threads, interrupted=not out_of_time and state.ended() < state.trials)


@contextmanager
def _mirrored(location: Location, spec: StudySpec, history: History) -> Iterator[list[OptunaMirror]]:
    """The study for optuna-dashboard, whose file must be a local one."""
    if location.local is None:
        yield []
        return
    with OptunaMirror(location.local / MIRROR, spec, history) as mirror:
        yield [mirror]


def _remove_unknown(location: Location, history: History) -> None:
    """Removes files of trials that began after the log was last written: their numbers are given anew."""
    for trial_id in sorted(set(trials_with_files(location)) - {row.trial_id for row in history.trials}):
        TrialFiles.of(location, trial_id).remove()


def _log_what_was_lost(log: StudyLog, known: History, now: History, decisions: Sequence[DecisionRow]) -> None:
    """What the epochs in the log imply and its driver did not live to write."""
    for before, after in zip(known.trials, now.trials, strict=True):
        if before != after:
            log.trial(after)
    last = known.decisions[-1].seq if known.decisions else -1
    for row in decisions:
        if row.seq > last:
            log.decision(row)


def _write_best(location: Location, spec: StudySpec, best: TrialRow | None, threads: int) -> TrialSpec | None:
    if best is None:
        return None
    trial = spec.trial(best.params)
    write_best(location, spec, best, trial, threads)
    samples = TrialFiles.of(location, best.trial_id).samples()
    if samples is not None:
        location.join(SAMPLES).write_bytes(samples)
    return trial


def _with_absolute_path(spec: StudySpec) -> StudySpec:
    """A trial's process has another working folder than the user."""
    path = spec.any_trial().data.path
    return spec if path is None or "://" in path else spec.with_path(str(Path(path).expanduser().absolute()))


def default_name(spec: StudySpec, started: datetime) -> str:
    """The study's name and the UTC time."""
    return f"{spec.study}-{started:%Y%m%d-%H%M%S}"


LONGEST_NAME = 200


def study_location(results: str | Path, name: str | None, default: str, *, resume: bool) -> Location:
    """The study's folder, checked to be free, or to be resumed. Nothing is written.

    Args:
        name: that the user chose; None takes `default`.

    Raises:
        StudyError: naming the option at fault.
    """
    if not str(results):
        raise StudyError("--results must be a folder or URL, but got ''")
    if str(results).startswith("memory://"):
        raise StudyError("--results memory:// is lost with its process: name a folder or a shared URL")
    if resume and name is None:
        raise StudyError("--resume needs --name: which study is to go on?")
    name = default if name is None else name
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise StudyError(
            f"--name must be at most {LONGEST_NAME} letters, digits, '.', '_' and '-', the first a letter or digit, "
            f"but got {name!r}"
        )
    try:
        location = Location.at(results).join(name)
        taken = location.list()
    except StoreError as error:
        raise StudyError(f"--results {results}: must be a folder or URL that can be written: {error}") from error
    if taken and not resume:
        raise StudyError(
            f"--name {name}: {location.url} already exists; add --resume to go on with it, or take another name"
        )
    return location


def _tune(
    spec: StudySpec,
    study: Location,
    share: Share,
    concurrent: int,
    sampler: OptunaSampler,
    stopping: EarlyStopping,
    recorder: Recorder,
) -> None:
    # Of several ranks each is an actor of its own; the Trainable itself then takes nothing.
    bundles = share.bundles() if share.ranks == 1 else [{}, *share.bundles()]
    with _quiet_tune(), tempfile.TemporaryDirectory(prefix="plgan_tune_ray_") as scratch:
        tune.Tuner(
            tune.with_resources(PlganTrainable, tune.PlacementGroupFactory(bundles, strategy="PACK")),
            param_space={
                "study": study.url,
                "ranks": share.ranks,
                "cpus": share.cpus,
                "gpus": share.gpus,
                "max_failures": spec.search.max_failures,
            },
            tune_config=tune.TuneConfig(
                metric=spec.search.metric,
                mode=spec.search.mode,
                search_alg=sampler,
                scheduler=stopping,
                num_samples=spec.search.trials,
                max_concurrent_trials=concurrent,
                time_budget_s=spec.search.hours * 3600 if spec.search.hours else None,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=scratch,
                callbacks=[recorder],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=-1),
                verbose=0,
            ),
        ).fit()


@contextmanager
def _joined(address: str | None, console: Console) -> Iterator[None]:
    """Ray for the time of a search; a Ray that the caller started is used and left alone."""
    if ray.is_initialized():
        yield
        return
    with console.status("starting Ray" if address is None else f"joining the cluster at {address}"):
        connect(address)
    try:
        yield
    finally:
        ray.shutdown()


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
