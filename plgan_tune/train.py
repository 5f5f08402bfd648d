"""`python -m plgan_tune.train`: trains one configuration, without Ray or Optuna."""

import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from plgan_tune.config.defaults import latest_edition
from plgan_tune.config.edition import FIRST
from plgan_tune.config.errors import RuleError, SpecError
from plgan_tune.config.load import load_trial
from plgan_tune.config.trial import TrialSpec
from plgan_tune.console.exit import Command
from plgan_tune.console.format import redrawn, terminal
from plgan_tune.console.shell import command, python, torchrun
from plgan_tune.console.signals import asked_to_stop
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.data.errors import DataError
from plgan_tune.records import EpochMetrics
from plgan_tune.store.folder import CHECKPOINT, TrainingFolder
from plgan_tune.store.location import Location, StoreError, check_writable
from plgan_tune.store.read import EPOCHS
from plgan_tune.study.study_file import STUDY_FILE
from plgan_tune.training.checkpoint import CheckpointError, decode_checkpoint, differences, restore_state
from plgan_tune.training.launch import LaunchError, Place, launched
from plgan_tune.training.loop import Diverged, epochs
from plgan_tune.training.ranks import ALONE, RankFailedError, RankLostError, Ranks, check_ranks
from plgan_tune.training.session import session
from plgan_tune.training.state import TrainState, new_state

Watch = Callable[[EpochMetrics], bool]
"""Sees every epoch; answers whether to go on."""


def train(
    trial: TrialSpec,
    out: str | Path,
    *,
    resume: bool = False,
    watch: Watch = lambda metrics: True,  # noqa: ARG005
    device: torch.device | None = None,
    ranks: Ranks = ALONE,
) -> list[EpochMetrics]:
    """Train one configuration, and write `epochs/`, `samples.png` and `checkpoint.pt` to `out`.

    The package exports this function as `train_trial`, because `plgan_tune.train` is the module of the command.

    ```python
    from plgan_tune import load_trial, train_trial

    rows = train_trial(load_trial("results/first/best.yaml"), out="trained/best")
    print(rows[-1].val_error)
    ```

    Args:
        trial: The configuration.
        out: A folder or an fsspec URL.
        resume: Continue from the checkpoint in `out`. `trial` may then differ in `training.epochs` only.
        watch: Called after every epoch. If it returns False on any rank, all ranks save a checkpoint and stop.
        device: The default is the GPU if there is one.
        ranks: This process's place among the ranks of the trial (`plgan_tune.training.launch`). Only rank 0 writes to
            `out`.

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
    content = ranks.by_first(lambda: _saved(location, resume=resume))
    with ranks.in_step():
        check_ranks(ranks.count, trial.training.batch_size)
        earlier = decode_checkpoint(content, location.join(CHECKPOINT).url) if content is not None else None
        data = load_dataset(trial.data).to(device)
        state = restore_state(earlier, trial, data, device) if earlier else new_state(trial, data, device)
    rows = list(earlier.rows) if earlier else []
    with _recorded(state, rows, data, location, ranks) as epochs_to_come:
        for metrics in epochs_to_come:
            rows.append(metrics)
            if ranks.any_true(not watch(metrics)):
                break
    return rows


def _saved(location: Location, *, resume: bool) -> bytes | None:
    """The checkpoint to go on from; None at a start, where there must be none, in a folder that can be written."""
    saved = location.join(CHECKPOINT)
    there = sorted({CHECKPOINT, EPOCHS, STUDY_FILE}.intersection(location.list()))
    if resume and CHECKPOINT not in there:
        raise FileNotFoundError(f"--resume: there is no checkpoint {saved.url}; leave --resume out to start")
    if there and not resume:
        what = "add --resume to go on from it, or take another --out" if CHECKPOINT in there else "take another --out"
        raise FileExistsError(f"{location.join(there[0]).url} already exists; {what}")
    check_writable(location)
    return saved.read_bytes() if resume else None


@contextmanager
def _recorded(
    state: TrainState, earlier: list[EpochMetrics], data: Dataset, location: Location, ranks: Ranks
) -> Iterator[Iterator[EpochMetrics]]:
    """The epochs to come; on rank 0 their rows and files go to `location`."""
    if ranks.index > 0:
        yield epochs(state, data, ranks)
        return
    with (
        TrainingFolder(location, location.name, lambda: datetime.now(UTC)) as folder,
        closing(session(state, earlier, data, folder, ranks)) as recorded,
    ):
        yield recorded


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Command)
def main(
    config: Annotated[Path, typer.Option(help="A space file without a domain, such as a search's best.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. trial.training.epochs=20."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where files go; default a new folder in trained/.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from DIR/checkpoint.pt; only the epochs may change.")
    ] = False,
) -> None:
    """Train ONE configuration, on the GPU if there is one; on several by `torchrun --nproc-per-node=N -m ...`."""
    try:
        with launched() as place:
            code = _train_and_tell(place, config, overrides or [], out, resume=resume)
    except (RankLostError, LaunchError) as error:
        # Each rank says it: the one that could say more may be rank 0, and dead.
        terminal(stderr=True).print(str(error), style="red", soft_wrap=True, highlight=False)
        raise typer.Exit(1) from None
    # What all ranks know rank 0 reports. At another's exit with an error torchrun would end it, still writing.
    raise typer.Exit(code if place.ranks.index == 0 else 0)


def _train_and_tell(place: Place, config: Path, overrides: list[str], out: str | None, *, resume: bool) -> int:
    """Returns the exit status."""
    ranks, device = place
    console = terminal(quiet=ranks.index > 0)
    try:
        trial = ranks.by_first(lambda: _configuration(config, overrides, out if resume else None))
        where = _where(trial, out, resume=resume)
        with asked_to_stop(numbers=(signal.SIGINT, signal.SIGTERM)) as stopped, _progress(console, trial) as show:
            rows = train(
                trial,
                where,
                resume=resume,
                watch=lambda metrics: show(metrics) and not stopped(),
                device=device,
                ranks=ranks,
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
        return _refused(ranks, f"{config}: {error}")
    except Diverged as error:
        console.print(f"diverged: {error}", style="red", soft_wrap=True)
        return 1
    _conclude(console, rows, trial, where)
    if not rows or rows[-1].epoch < trial.training.epochs:
        go_on = _resume_command(config, overrides, where, ranks.count)
        console.print(f"interrupted; to go on:\n  {go_on}", soft_wrap=True, highlight=False)
        return 130
    return 0


def _configuration(config: Path, overrides: list[str], begun: str | None) -> TrialSpec:
    """What the file says.

    Args:
        config: The file.
        overrides: As of `--set`.
        begun: The folder of a training to continue; defaults are then those of the edition under which it began.
    """
    trial = load_trial(config, overrides)
    saved = None if begun is None else Location.at(begun).join(CHECKPOINT)
    if saved is None or not saved.exists():
        return trial
    trained = decode_checkpoint(saved.read_bytes(), saved.url).trial
    as_of = (load_trial(config, overrides, edition) for edition in range(FIRST, latest_edition() + 1))
    return next((one for one in (trial, *as_of) if not differences(trained, one)), trial)


def _refused(ranks: Ranks, message: str) -> int:
    terminal(stderr=True, quiet=ranks.index > 0).print(message, style="red", soft_wrap=True, highlight=False)
    return 2


def _where(trial: TrialSpec, out: str | None, *, resume: bool) -> str:
    if resume and out is None:
        raise FileNotFoundError("--resume needs --out: which folder's training is to go on?")
    return out or f"trained/{trial.data.source}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _resume_command(config: Path, overrides: list[str], where: str, ranks: int) -> str:
    launcher = [python()] if ranks == 1 else [torchrun(), f"--nproc-per-node={ranks}"]
    words = [*launcher, "-m", "plgan_tune.train", "--config", str(config)]
    words += [word for override in overrides for word in ("--set", override)]
    return command([*words, "--out", where, "--resume"])


def _conclude(console: Console, rows: list[EpochMetrics], trial: TrialSpec, where: str) -> None:
    if rows:
        last = rows[-1]
        console.print(
            f"epoch {last.epoch} of {trial.training.epochs}: val_error {last.val_error:.4f} "
            f"(raw weights {last.val_error_raw:.4f})",
            highlight=False,
        )
    console.print(f"epochs, samples.png and checkpoint.pt are in {where}", soft_wrap=True, highlight=False)


@contextmanager
def _progress(console: Console, trial: TrialSpec) -> Iterator[Callable[[EpochMetrics], bool]]:
    """A bar on a terminal, a line an epoch elsewhere."""
    columns: list[ProgressColumn] = [
        BarColumn(bar_width=None),
        TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console, disable=not redrawn(console), expand=True) as progress:
        task = progress.add_task("starting", total=trial.training.epochs)

        def show(metrics: EpochMetrics) -> bool:
            text = describe(metrics)
            progress.update(task, completed=metrics.epoch, description=text)
            if not redrawn(console):
                console.print(f"epoch {metrics.epoch}/{trial.training.epochs}  {text}", highlight=False, soft_wrap=True)
            return True

        yield show


def describe(metrics: EpochMetrics) -> str:
    """An epoch in a line: losses of D and of G, error, speed."""
    return (
        f"D {(metrics.loss_supervised or 0.0) + (metrics.loss_unsupervised or 0.0):.3f}  "
        f"V_log {metrics.loss_adversarial or 0.0:+.3f}  V_feature {metrics.loss_feature or 0.0:.4f}  "
        f"val_error {metrics.val_error:.4f}  {metrics.images_per_second or 0.0:,.0f} images/s"
    )


if __name__ == "__main__":
    app()
