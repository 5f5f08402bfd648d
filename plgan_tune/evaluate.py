"""`python -m plgan_tune.evaluate`: trains a search's best configurations with fresh seeds and measures test errors."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from plgan_tune.analysis.study import REPORT_FILE
from plgan_tune.backends.backend import Backend
from plgan_tune.backends.judging import decoded, keep_judge
from plgan_tune.backends.selection import check_selection, select_backend
from plgan_tune.config.errors import RuleError
from plgan_tune.config.study import StudySpec, threads_of
from plgan_tune.config.trial import TrialSpec
from plgan_tune.console.exit import Command, refuse, refuse_password, refusing
from plgan_tune.console.format import say, terminal
from plgan_tune.console.reading import reading_images
from plgan_tune.console.shell import Option, option_words, python, shell_line, typed
from plgan_tune.console.signals import signals_as_ctrl_c, stopping_as_ctrl_c
from plgan_tune.data.check import DataSummary, check_data
from plgan_tune.data.dataset import load_dataset, load_test, notes_on_test
from plgan_tune.data.errors import DataError
from plgan_tune.evaluation.generation import Fidelity, check_weights
from plgan_tune.evaluation.measure import Gauge, GeneratorGauge, Measured, measure
from plgan_tune.evaluation.plan import Evaluation, plan_evaluation, write_evaluation
from plgan_tune.evaluation.quality import Yardstick, training_images
from plgan_tune.evaluation.table import print_evaluation
from plgan_tune.evaluation.train import train_fixed
from plgan_tune.gan.own_contract import Shapes
from plgan_tune.gan.own_file import check_own
from plgan_tune.gan.pairs.base import ImageShape
from plgan_tune.gan.pairs.build import check_image
from plgan_tune.records import TrialStatus
from plgan_tune.store.judge import JUDGE_FILE, read_judge
from plgan_tune.store.location import Location, StoreError, check_writable
from plgan_tune.store.lock import LockedError, StudyLock
from plgan_tune.store.own import keep_own, own_copy
from plgan_tune.store.read import read_trials, trial_rows
from plgan_tune.study.clock import steady_clock
from plgan_tune.study.errors import StudyError
from plgan_tune.study.folder import with_absolute_path
from plgan_tune.study.study_file import read_study_file
from plgan_tune.training.checkpoint import CheckpointError
from plgan_tune.training.judge import Judge
from plgan_tune.training.threads import torch_threads

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Command)
def main(
    results: Annotated[str, typer.Argument(metavar="RESULTS", help="The folder or URL of a search.")],
    top: Annotated[int, typer.Option(min=1, max=100, metavar="K", help="How many of its best configurations.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Seeds of each configuration.")] = 5,
    methods: Annotated[
        bool,
        typer.Option(
            "--methods",
            help="Also regular GAN, feature-wise GAN and supervised only; without labels: GRAN, WIRGAN and GP-WIRGAN.",
        ),
    ] = False,
    refit: Annotated[bool, typer.Option("--refit", help="Train on the validation images as well.")] = False,
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDR", help="`auto` or `host:port` of a Ray cluster; default an embedded Ray."),
    ] = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="One after another in this process, without Ray.")
    ] = False,
    data_path: Annotated[
        str | None,
        typer.Option("--data", metavar="PATH", help="Where the images are here, if not where the study says."),
    ] = None,
    inception_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure Inception score and FID with these weights.")
    ] = None,
) -> None:
    """Train a search's best configurations and the patent's with fresh seeds, and measure their test errors.

    Of a study without labels, measure how far generated images are from the test images.

    The same command continues an earlier one, and trains only what is missing.
    """
    console = terminal()
    with refusing(DataError, RuleError, StoreError, StudyError, LockedError, CheckpointError):
        check_selection(address, in_process=in_process)
        refuse_password("RESULTS", results)
        search = Location.at(results)
        held = read_study_file(search)
        study = held.spec
        if data_path is not None:
            refuse_password("--data", data_path)
            study = with_absolute_path(study.with_path(data_path))
        metric = study.metric.name
        trials = trial_rows(read_trials(search, held.study_id, metric), study.columns, study.options, metric)
        data = check_data(study.any_trial().data)
        evaluation = plan_evaluation(
            search, study, trials, top=top, seeds=seeds, methods=methods, refit=refit, study_id=held.study_id
        )
        for configuration in evaluation.configurations:
            image = ImageShape(data.channels, data.size)
            check_image(configuration.trial.model, image)
            _check_own(search, configuration.trial, Shapes.of(image, len(data.classes), configuration.trial.data))
        for note in _seen_in_test(study, console):
            say(console, f"note: {note}", "yellow")
        gauge = _gauge(study, inception_weights)
        for note in evaluation.notes:
            say(console, f"note: {note}", "yellow")
        go_on = _again(results, top, seeds, methods, refit, address, in_process, data_path, inception_weights)
        study = _alone(study) if in_process else study
        with select_backend(address, in_process=in_process, console=console, resume=go_on) as backend:
            measured = evaluate(evaluation, study, gauge, backend, data, console, go_on)
    if measured is None:
        say(console, f"Interrupted. Resume with:\n  {go_on}")
        raise typer.Exit(130)
    if measured.rows:
        print_evaluation(console, evaluation, measured, trials)
        _print_next(console, search)
    if measured.missing:
        anew = f"to train everything again, remove the folder {typed(evaluation.location)}"
        refuse("\n".join([*measured.missing, anew]))
    if all(row.status is not TrialStatus.COMPLETED for row in measured.rows):
        raise typer.Exit(1)


def _print_next(console: Console, search: Location) -> None:
    """Print where the rows are, and the command that adds the table to the study's report."""
    lines = [f"One row per configuration and seed: {typed(search)}/evaluations"]
    if search.local is not None:  # --html writes a local file
        draw = [python(), "-m", "plgan_tune.analyze", typed(search), "--html", f"{typed(search)}/{REPORT_FILE}"]
        lines += ["The study's report with this table:", f"  {shell_line(draw)}"]
    say(console, "\n".join(lines))


def evaluate(
    evaluation: Evaluation,
    study: StudySpec,
    gauge: Gauge,
    backend: Backend,
    data: DataSummary,
    console: Console,
    go_on: str,
) -> Measured | None:
    """Train and measure what is missing. Return None if the user interrupted it."""
    fixed, now = evaluation.study, steady_clock()
    backend.check()
    check_writable(evaluation.location)
    try:
        with (
            signals_as_ctrl_c(),
            StudyLock(evaluation.location) as lock,
            torch_threads(threads_of(study.resources.cpus_per_rank)),
        ):
            write_evaluation(evaluation, _now())
            if (sha256 := study.template["own"]["sha256"]) is not None:
                keep_own(evaluation.location, sha256, own_copy(evaluation.search, sha256).read_bytes())
            with console.status("training the judge of generated images"):
                gauge = _with_judge(evaluation, study, gauge)
            with stopping_as_ctrl_c(go_on, console):
                done = train_fixed(fixed, study, backend, summary=data, console=console, now=now, writer=lock)
            if not done:
                return None
            with console.status("measuring on the test images"):
                return measure(evaluation, gauge)
    except KeyboardInterrupt:
        return None


def _with_judge(evaluation: Evaluation, study: StudySpec, gauge: Gauge) -> Gauge:
    """Give the gauge the judge and, if generators are evaluated, the test images as it sees them."""
    judge = _judge(evaluation, study)
    if not evaluation.generators:
        return replace(gauge, judge=judge)
    yardstick = Yardstick.of(gauge.images, judge, gauge.device)
    data = load_dataset(study.any_trial().data)
    training = training_images(data)
    real = yardstick.measure(training[: yardstick.compared])
    return replace(gauge, judge=judge, generators=GeneratorGauge(yardstick, real, training, data))


def _judge(evaluation: Evaluation, study: StudySpec) -> Judge | None:
    """Return the search's judge, of which the evaluation has a copy; if an earlier version searched, train one."""
    folder, spec = evaluation.location, study.any_trial().data
    if read_judge(folder) is None and (content := read_judge(evaluation.search)) is not None:
        folder.join(JUDGE_FILE).write_bytes(content)
    content = read_judge(folder) or keep_judge(folder, spec, load_dataset(spec))
    return None if content is None else decoded(folder, content)


def _check_own(search: Location, trial: TrialSpec, shapes: Shapes) -> None:
    """Check the search's copy of the user's own file, which is run only if it has the hash in `study.yaml`."""
    if trial.own.sha256 is not None:
        copy = own_copy(search, trial.own.sha256)
        check_own(copy.read_bytes(), trial.own, copy.url, shapes, trial.model)


def _alone(study: StudySpec) -> StudySpec:
    """Return the study with one rank per trial, for training in this process."""
    return replace(study, resources=study.resources.model_copy(update={"ranks": 1}))


def _seen_in_test(study: StudySpec, console: Console) -> tuple[str, ...]:
    """Read the test images, and return what was seen."""
    with reading_images(console) as progress:
        return notes_on_test(study.any_trial().data, progress=progress)


def _gauge(study: StudySpec, inception_weights: Path | None) -> Gauge:
    """Return the gauge without its judge. It reads the test images before any training: errors in them appear now."""
    if inception_weights is not None:
        check_weights(inception_weights)
    images, labels = load_test(study.any_trial().data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Gauge(images, labels, None, Fidelity(inception_weights, images) if inception_weights else None, device, _now)


def _now() -> datetime:
    return datetime.now(UTC)


def _again(
    results: str,
    top: int,
    seeds: int,
    methods: bool,
    refit: bool,
    address: str | None,
    in_process: bool,
    data_path: str | None,
    inception_weights: Path | None,
) -> str:
    """Return the command that resumes: this same command."""
    given: dict[str, Option] = {
        "--top": top,
        "--seeds": seeds,
        "--address": address,
        "--data": data_path,
        "--inception-weights": inception_weights,
        "--methods": methods,
        "--refit": refit,
        "--in-process": in_process,
    }
    return shell_line([python(), "-m", "plgan_tune.evaluate", results, *option_words(given)])


if __name__ == "__main__":
    app()
