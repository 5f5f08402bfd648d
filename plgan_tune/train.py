"""`python -m plgan_tune.train`: trains one configuration, without Ray or Optuna."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from plgan_tune.data.dataset import load_dataset
from plgan_tune.data.errors import DataError
from plgan_tune.records import EpochMetrics
from plgan_tune.spec.errors import SpecError
from plgan_tune.spec.load import load_trial
from plgan_tune.spec.trial import TrialSpec
from plgan_tune.store.folder import CHECKPOINT, TrainingFolder
from plgan_tune.store.location import Location, StoreError, check_writable
from plgan_tune.training.checkpoint import CheckpointError, decode_checkpoint, restore_state
from plgan_tune.training.loop import Diverged
from plgan_tune.training.session import session
from plgan_tune.training.state import new_state

Watch = Callable[[EpochMetrics], bool]
"""Sees every epoch; answers whether to go on."""


def train(
    trial: TrialSpec,
    out: str | Path,
    *,
    resume: bool = False,
    watch: Watch = lambda metrics: True,  # noqa: ARG005
    device: torch.device | None = None,
) -> list[EpochMetrics]:
    """Trains one configuration; leaves `epochs/`, `samples.png` and `checkpoint.pt` in `out`.

        from pathlib import Path
        from plgan_tune.spec.load import load_trial
        from plgan_tune.train import train

        rows = train(load_trial(Path("results/mine/best.yaml")), out="results/best")
        print(rows[-1].val_error)

    Args:
        trial: the configuration.
        out: a folder or an fsspec URL.
        resume: go on from `out`'s checkpoint; `trial` may then differ in `training.epochs` only.
        watch: called after every epoch; training ends, with a checkpoint, where it answers False.
        device: default the GPU if there is one.

    Returns:
        One row an epoch, those before a resume included.

    Raises:
        FileExistsError: where `out` holds a checkpoint and `resume` is not asked for.
        FileNotFoundError: where there is none to resume from.
        CheckpointError: where the checkpoint is damaged or of another configuration.
        DataError, StoreError: where data or `out` cannot be used.
        Diverged: where a loss is no longer finite; the last checkpoint stays.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    location = Location.at(out)
    saved = location.join(CHECKPOINT)
    if saved.exists() != resume:
        raise _at_odds(saved.url, resume=resume)
    earlier = decode_checkpoint(saved.read_bytes(), saved.url) if resume else None
    data = load_dataset(trial.data).to(device)
    state = restore_state(earlier, trial, data, device) if earlier else new_state(trial, data, device)
    rows = list(earlier.rows) if earlier else []
    check_writable(location)
    with (
        TrainingFolder(location, location.name, lambda: datetime.now(UTC)) as folder,
        closing(session(state, rows, data, folder)) as epochs,
    ):
        for metrics in epochs:
            rows.append(metrics)
            if not watch(metrics):
                break
    return rows


def _at_odds(url: str, *, resume: bool) -> OSError:
    if resume:
        return FileNotFoundError(f"--resume: there is no checkpoint {url}; leave --resume out to start")
    return FileExistsError(f"{url} already exists; add --resume to go on from it, or take another --out")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    config: Annotated[Path, typer.Option(help="A space file without a domain, such as a search's best.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. trial.training.epochs=20.")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where files go; default a new folder in results/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from DIR/checkpoint.pt; only the epochs may change.")] = False,
) -> None:
    """Train ONE configuration, on the GPU if there is one."""
    console = Console()
    try:
        if resume and out is None:
            raise FileNotFoundError("--resume needs --out: which folder's training is to go on?")
        trial = load_trial(config, overrides or [])
        where = out or f"results/{trial.data.source}-train-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        with _stop_on_signal() as stopped, _progress(console, trial) as show:
            rows = train(trial, where, resume=resume, watch=lambda metrics: show(metrics) and not stopped())
    except (SpecError, DataError, StoreError, CheckpointError, ValueError, FileExistsError, FileNotFoundError) as error:
        console.print(str(error), style="red", soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit(2) from None
    except Diverged as error:
        console.print(f"diverged: {error}", style="red", soft_wrap=True)
        raise typer.Exit(1) from None
    _conclude(console, rows, trial, where, config)


def _conclude(console: Console, rows: list[EpochMetrics], trial: TrialSpec, where: str, config: Path) -> None:
    if rows:
        last = rows[-1]
        console.print(
            f"epoch {last.epoch} of {trial.training.epochs}: val_error {last.val_error:.4f} "
            f"(raw weights {last.val_error_raw:.4f})",
            highlight=False,
        )
    console.print(f"epochs, samples.png and checkpoint.pt are in {where}", soft_wrap=True, highlight=False)
    if not rows or rows[-1].epoch < trial.training.epochs:
        console.print(
            f"interrupted; to go on:\n  {Path(sys.executable).name} -m plgan_tune.train --config {config} --out {where} --resume",
            soft_wrap=True,
            highlight=False,
        )
        raise typer.Exit(130)


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM lets the epoch end, so that a checkpoint can be written; a second ends at once."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:  # noqa: ARG001
        asked.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, ask)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(console: Console, trial: TrialSpec) -> Iterator[Callable[[EpochMetrics], bool]]:
    """A bar on a terminal, a line an epoch elsewhere."""
    columns: list[ProgressColumn] = [
        BarColumn(bar_width=None),
        TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console, disable=not console.is_terminal, expand=True) as progress:
        task = progress.add_task("starting", total=trial.training.epochs)

        def show(metrics: EpochMetrics) -> bool:
            text = describe(metrics)
            progress.update(task, completed=metrics.epoch, description=text)
            if not console.is_terminal:
                console.print(f"epoch {metrics.epoch}/{trial.training.epochs}  {text}", highlight=False, soft_wrap=True)
            return True

        yield show


def describe(metrics: EpochMetrics) -> str:
    """An epoch in a line: losses of D and of G, error, speed."""
    return (
        f"D {metrics.loss_supervised + metrics.loss_unsupervised:.3f}  V_log {metrics.loss_adversarial:+.3f}  "
        f"V_feature {metrics.loss_feature:.4f}  val_error {metrics.val_error:.4f}  "
        f"{metrics.images_per_second:,.0f} images/s"
    )


if __name__ == "__main__":
    app()
