"""`python -m plgan_tune.train`: trains one configuration, without Ray or Optuna."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Self

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from plgan_tune.backends.judging import decoded, facts_of, keep_judge
from plgan_tune.config.defaults import latest_edition
from plgan_tune.config.edition import FIRST
from plgan_tune.config.errors import RuleError, SpecError
from plgan_tune.config.load import MOST_THREADS, load_trial, load_trial_and_threads
from plgan_tune.config.metrics import METRICS, Metric
from plgan_tune.config.own import read_own, sha256_of
from plgan_tune.config.trial import TrialSpec
from plgan_tune.console.exit import Command
from plgan_tune.console.format import Prose, measured, redrawn, say, terminal
from plgan_tune.console.judge import judge_in_words, note_on_judge
from plgan_tune.console.reading import reading_images
from plgan_tune.console.shell import Option, option_words, python, shell_line, torchrun
from plgan_tune.console.signals import asked_to_stop
from plgan_tune.data.check import check_data
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.data.errors import DataError
from plgan_tune.gan.explain import explain
from plgan_tune.gan.own import Own
from plgan_tune.gan.own_contract import Shapes
from plgan_tune.gan.own_file import check_own, load_own
from plgan_tune.gan.pairs.base import ImageShape
from plgan_tune.records import MEASURES, EpochMetrics
from plgan_tune.store.folder import CHECKPOINT, TrainingFolder
from plgan_tune.store.judge import read_judge
from plgan_tune.store.location import Location, StoreError, check_writable, no_empty_folder_left
from plgan_tune.store.own import keep_own
from plgan_tune.store.read import EPOCHS
from plgan_tune.study.study_file import STUDY_FILE
from plgan_tune.training.checkpoint import CheckpointError, decode_checkpoint, differences, restore_state
from plgan_tune.training.judge import Judge
from plgan_tune.training.launch import LaunchError, Place, join_torchrun
from plgan_tune.training.loop import Diverged, epochs
from plgan_tune.training.ranks import ALONE, RankFailedError, RankLostError, Ranks, check_ranks
from plgan_tune.training.session import session
from plgan_tune.training.state import TrainState, new_state
from plgan_tune.training.threads import torch_threads

Watch = Callable[[EpochMetrics], bool]
"""Called with every epoch; returns whether to continue."""


def train(
    trial: TrialSpec,
    out: str | Path,
    *,
    resume: bool = False,
    begun: Callable[[], None] = lambda: None,
    watch: Watch = lambda metrics: True,  # noqa: ARG005
    device: torch.device | None = None,
    ranks: Ranks = ALONE,
    threads: int = 1,
) -> list[EpochMetrics]:
    """Train one configuration, and write `epochs/`, `samples.png`, `checkpoint.pt` and `judge.pt` to `out`.

    The package exports this function as `train_trial`, because `plgan_tune.train` is the module of the command.

    ```python
    from plgan_tune import load_trial, train_trial

    rows = train_trial(load_trial("results/first/best.yaml"), out="trained/best")
    print(rows[-1].val_error)
    ```

    Args:
        trial: The configuration.
        out: A folder or an fsspec URL.
        resume: Continue from the checkpoint in `out`. `trial` may then differ in `training.epochs`, and
            in `data.path` if the images are the same.
        begun: Called once before the first epoch, after all checks have passed.
        watch: Called after every epoch. If it returns False on any rank, all ranks save a checkpoint and stop.
        device: The default is the GPU if there is one.
        ranks: This process's place among the ranks of the trial (`plgan_tune.training.launch`). Only rank 0 writes to
            `out`.
        threads: CPU threads of this process. The last digits of a sum on a CPU depend on them.
            `load_trial_and_threads` reads those of a search's `best.yaml`.

    Returns:
        One row for each epoch, including those before a resume.

    Raises:
        FileExistsError: If `out` holds a training and `resume` is False.
        FileNotFoundError: If `resume` is True and there is no checkpoint.
        CheckpointError: If the checkpoint is damaged or of another configuration.
        DataError: If the data cannot be read, or has too few images.
        StoreError: If `out` cannot be read or written.
        RuleError: If the model does not fit the images, or there are more ranks than images in a batch.
        Diverged: If a loss is no longer finite. The last checkpoint stays.
        RankFailedError: If another rank could not start.
        RankLostError: If another rank died.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    location = Location.at(out)
    with torch_threads(threads), no_empty_folder_left(location):
        rows, state, data, judge = _prepared(trial, location, device, ranks, resume=resume)
        begun()
        return _train(rows, state, data, judge, location, ranks, watch)


def _prepared(
    trial: TrialSpec, location: Location, device: torch.device, ranks: Ranks, *, resume: bool
) -> tuple[list[EpochMetrics], TrainState, Dataset, Judge | None]:
    """Return the epochs before a resume, and the state, data and judge for the next one."""
    content = ranks.run_on_rank0(lambda: _saved(location, resume=resume))
    own_file = ranks.run_on_rank0(lambda: None if trial.own.file is None else read_own(Path(trial.own.file)))
    if own_file is not None and trial.own.sha256 is None:
        trial = trial.model_copy(update={"own": trial.own.model_copy(update={"sha256": sha256_of(own_file)})})
    with ranks.sync_errors():
        check_ranks(ranks.count, trial.training.batch_size)
        earlier = decode_checkpoint(content, location.join(CHECKPOINT).url) if content is not None else None
        data = load_dataset(trial.data).to(device)
        shapes = Shapes.of(ImageShape(data.channels, data.size), data.n_classes, trial.data)
        own = None if own_file is None else check_own(own_file, trial.own, str(trial.own.file), shapes, trial.model)
        state = restore_state(earlier, trial, data, device, own) if earlier else new_state(trial, data, device, own)
        if own_file is not None and ranks.index == 0:
            keep_own(location, sha256_of(own_file), own_file)
    judge_file = ranks.run_on_rank0(lambda: keep_judge(location, trial.data, data))
    judge = None if judge_file is None else decoded(location, judge_file)
    return list(earlier.rows) if earlier else [], state, data, judge


def _train(
    rows: list[EpochMetrics],
    state: TrainState,
    data: Dataset,
    judge: Judge | None,
    location: Location,
    ranks: Ranks,
    watch: Watch,
) -> list[EpochMetrics]:
    with _recorded(state, rows.copy(), data, judge, location, ranks) as epochs_to_come:
        for metrics in epochs_to_come:
            rows.append(metrics)
            if ranks.any_true(not watch(metrics)):
                break
    return rows


def _saved(location: Location, *, resume: bool) -> bytes | None:
    """Return the checkpoint to resume from; None at a start, which needs a writable folder without a training."""
    saved = location.join(CHECKPOINT)
    there = sorted({CHECKPOINT, EPOCHS, STUDY_FILE}.intersection(location.list()))
    if resume and CHECKPOINT not in there:
        raise FileNotFoundError(f"--resume: there is no checkpoint {saved.url}; leave --resume out to start")
    if there and not resume:
        what = (
            "add --resume to continue from it, or choose another --out"
            if CHECKPOINT in there
            else "choose another --out"
        )
        raise FileExistsError(f"{location.join(there[0]).url} already exists; {what}")
    check_writable(location)
    return saved.read_bytes() if resume else None


@contextmanager
def _recorded(
    state: TrainState,
    earlier: list[EpochMetrics],
    data: Dataset,
    judge: Judge | None,
    location: Location,
    ranks: Ranks,
) -> Iterator[Iterator[EpochMetrics]]:
    """Yield the epochs to train; on rank 0, write their rows and files to `location`."""
    if ranks.index > 0:
        yield epochs(state, data, ranks, judge=judge)
        return
    with (
        TrainingFolder(location, location.name, lambda: datetime.now(UTC)) as folder,
        closing(session(state, earlier, data, folder, ranks, judge=judge)) as recorded,
    ):
        yield recorded


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Command)
def main(
    config: Annotated[Path, typer.Option(metavar="FILE", help="A space file without a domain, such as a best.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, repeatable: trial.training.epochs=20."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where files go; default a new folder in trained/.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from DIR/checkpoint.pt; only the epochs may change.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_THREADS,
            metavar="N",
            help="CPU threads of each rank; default resources.cpus_per_rank of the file, or 1.",
        ),
    ] = None,
    explained: Annotated[
        bool, typer.Option("--explain", help="Print the losses with their numbers and the idle keys; train nothing.")
    ] = False,
) -> None:
    """Train ONE configuration, on the GPU if there is one.

    On several GPUs, with one process for each:

        torchrun --nproc-per-node=N -m plgan_tune.train --config FILE
    """
    asked = _Asked(config, tuple(overrides or ()), out, resume, threads)
    if explained:
        raise typer.Exit(_explain(asked))
    try:
        with join_torchrun() as place:
            code = _train_and_tell(place, asked)
    except (RankLostError, LaunchError) as error:
        # Every rank prints this, because rank 0 may be dead.
        say(terminal(stderr=True), str(error), "red")
        raise typer.Exit(1) from None
    # Only rank 0 returns the status: at another rank's error, torchrun would end rank 0 while it still writes.
    raise typer.Exit(code if place.ranks.index == 0 else 0)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options that the user gave."""

    config: Path
    overrides: tuple[str, ...]
    out: str | None
    resume: bool
    threads: int | None


def _explain(asked: _Asked) -> int:
    """Print what the configuration minimises, and return the exit status."""
    try:
        trial, _ = _configuration(asked)
        own = _own(trial)
    except (SpecError, StoreError, CheckpointError) as error:
        return _refused(ALONE, str(error))
    except (DataError, RuleError) as error:
        return _refused(ALONE, f"{asked.config}: {error}")
    console = terminal()
    found = explain(trial, own)
    say(console, f"{trial.method}, {trial.model.kind}, {trial.training.epochs} epochs", "bold")
    blocks = (("D minimises", found.discriminator), ("G minimises", found.generator), ("No effect", found.idle))
    for title, lines in blocks:
        if not lines:
            continue
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="cyan", no_wrap=True)
        for line in lines:
            table.add_row(f"  {line.name}", Prose(line.text))
        console.print()
        say(console, title, "bold")
        console.print(table, highlight=False)
    return 0


def _own(trial: TrialSpec) -> Own | None:
    """Run the user's own file, if there is one, for the names of its terms."""
    if trial.own.file is None:
        return None
    data = check_data(trial.data)
    shapes = Shapes.of(ImageShape(data.channels, data.size), len(data.classes), trial.data)
    return load_own(read_own(Path(trial.own.file)), trial.own, trial.own.file, shapes)


def _train_and_tell(place: Place, asked: _Asked) -> int:
    """Train, report the result, and return the exit status."""
    ranks, device = place
    console = terminal(quiet=ranks.index > 0)
    try:
        trial, threads = ranks.run_on_rank0(lambda: _configuration(asked))
        where = _where(trial, asked)
        seen = ranks.run_on_rank0(lambda: _read_images(trial, console))
        with (
            asked_to_stop() as stopped,
            _Progress(console, trial, _on_what(place, threads)) as progress,
        ):
            rows = train(
                trial,
                where,
                resume=asked.resume,
                begun=lambda: progress.begun([*seen, *_judge_in_words(where)] if ranks.index == 0 else []),
                watch=lambda metrics: progress.epoch(metrics) and not stopped(),
                device=device,
                ranks=ranks,
                threads=threads,
            )
    except (
        SpecError,
        StoreError,
        CheckpointError,
        RankFailedError,
        FileExistsError,
        FileNotFoundError,
    ) as error:
        return _refused(ranks, str(error))
    except (DataError, RuleError) as error:
        return _refused(ranks, f"{asked.config}: {error}")
    except Diverged as error:
        say(console, f"diverged: {error}", "red")
        return 1
    _conclude(console, rows, trial, where)
    if not rows or rows[-1].epoch < trial.training.epochs:
        go_on = _resume_command(asked, where, ranks.count)
        say(console, f"Interrupted. Resume with:\n  {go_on}")
        return 130
    return 0


def _configuration(asked: _Asked) -> tuple[TrialSpec, int]:
    """Return the configuration and threads. At a resume, keys that the file omits keep their values from the start."""
    trial, threads = load_trial_and_threads(asked.config, asked.overrides)
    threads = asked.threads or threads
    saved = None if asked.out is None or not asked.resume else Location.at(asked.out).join(CHECKPOINT)
    if saved is None or not saved.exists():
        return trial, threads
    trained = decode_checkpoint(saved.read_bytes(), saved.url).trial
    as_of = (load_trial(asked.config, asked.overrides, edition) for edition in range(FIRST, latest_edition() + 1))
    return next((one for one in (trial, *as_of) if not differences(trained, one)), trial), threads


def _read_images(trial: TrialSpec, console: Console) -> list[str]:
    """Decode the images into the cache, and return lines on what was seen."""
    with reading_images(console) as progress:
        return [f"note: {note}" for note in load_dataset(trial.data, progress=progress).notes]


def _judge_in_words(where: str) -> list[str]:
    """Return a line on the judge of generated images in this folder, and a warning if it errs often."""
    folder = Location.at(where)
    content = read_judge(folder)
    if content is None:
        return []
    judge = facts_of(folder, content)
    note = note_on_judge(judge)
    return [f"judge of generated images: {judge_in_words(judge)}", *([] if note is None else [f"note: {note}"])]


def _on_what(place: Place, threads: int) -> str:
    """Return a line such as `training on the CPU, 2 ranks of 1 thread each`."""
    ranks, device = place
    where = "the CPU" if device.type == "cpu" else f"{device}, {torch.cuda.get_device_name(device)}"
    each = f"{threads} {'CPU ' * (device.type != 'cpu')}thread{'s' * (threads != 1)}"
    return f"training on {where}, {each if ranks.count == 1 else f'{ranks.count} ranks of {each} each'}"


def _refused(ranks: Ranks, message: str) -> int:
    say(terminal(stderr=True, quiet=ranks.index > 0), message, "red")
    return 2


def _where(trial: TrialSpec, asked: _Asked) -> str:
    if asked.resume and asked.out is None:
        raise FileNotFoundError("--resume needs --out, the folder of the training to resume")
    return asked.out or f"trained/{trial.data.source}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _resume_command(asked: _Asked, where: str, ranks: int) -> str:
    launcher = [python()] if ranks == 1 else [torchrun(), f"--nproc-per-node={ranks}"]
    given: dict[str, Option] = {
        "--config": asked.config,
        "--set": asked.overrides,
        "--threads": asked.threads,
        "--out": where,
        "--resume": True,
    }
    return shell_line([*launcher, "-m", "plgan_tune.train", *option_words(given)])


def _conclude(console: Console, rows: list[EpochMetrics], trial: TrialSpec, where: str) -> None:
    if rows:
        last = rows[-1]
        told = f"epoch {last.epoch} of {trial.training.epochs}"
        if (metric := metric_of(last)) is not None:
            told += f": {metric.name} {measured(metric, last.value(metric.name))}, averaged weights"
            told += f" (raw {measured(metric, last.value(raw))})" if (raw := f"{metric.name}_raw") in MEASURES else ""
        say(console, told)
    say(console, f"epochs, samples.png and checkpoint.pt are in {where}")


class _Progress:
    """A progress bar on a terminal, one line per epoch elsewhere, once training has begun. A context manager.

    Args:
        console: Where to print.
        trial: The configuration that trains.
        on_what: A line about the device, printed before the first epoch.
    """

    def __init__(self, console: Console, trial: TrialSpec, on_what: str) -> None:
        self._console, self._epochs, self._on_what = console, trial.training.epochs, on_what
        whole = Column(no_wrap=True, overflow="fold")
        columns: list[ProgressColumn] = [
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}", table_column=whole),
            BarColumn(bar_width=None),
            TextColumn("{task.description}", table_column=whole),
            TimeRemainingColumn(),
        ]
        self._bar = Progress(*columns, console=console, disable=not redrawn(console), expand=True)
        self._task = self._bar.add_task("starting", total=self._epochs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def begun(self, about: Sequence[str]) -> None:
        """Print the device and these lines, and start the bar."""
        for line in (self._on_what, *about):
            say(self._console, line, "dim")
        self._bar.start()

    def epoch(self, metrics: EpochMetrics) -> bool:
        """Show an epoch; return True, to continue."""
        text = describe(metrics, losses=not redrawn(self._console) or self._console.width >= WIDE)
        self._bar.update(self._task, completed=metrics.epoch, description=text)
        if not redrawn(self._console):
            say(self._console, f"epoch {metrics.epoch}/{self._epochs}  {text}")
        return True


WIDE: Final = 110
"""From this many columns on, the losses are shown beside the bar."""


def metric_of(metrics: EpochMetrics) -> Metric | None:
    """Return the first metric that the epoch has a value of: the error where there are labels; None if it has none."""
    return next((metric for metric in METRICS.values() if metrics.value(metric.name) is not None), None)


def describe(metrics: EpochMetrics, *, losses: bool = True) -> str:
    """Return an epoch as one line: its metric, losses of D and of G, speed."""
    metric = metric_of(metrics)
    parts = [] if metric is None else [f"{metric.name} {measured(metric, metrics.value(metric.name))}"]
    if losses:
        parts += [
            f"D {(metrics.loss_supervised or 0.0) + (metrics.loss_unsupervised or 0.0):.3f}",
            *([] if metrics.loss_self_training is None else [f"C_self {metrics.loss_self_training:.3f}"]),
            f"V_log {metrics.loss_adversarial or 0.0:+.3f}",
            f"V_feature {metrics.loss_feature or 0.0:.4f}",
        ]
    return "  ".join([*parts, f"{metrics.images_per_second or 0.0:,.0f} images/s"])


if __name__ == "__main__":
    app()
