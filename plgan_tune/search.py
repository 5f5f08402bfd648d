"""`python -m plgan_tune.search`: searches a space on Ray, on a laptop or a cluster, or in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from plgan_tune.analysis.seeds import reference_of, settings_of
from plgan_tune.analysis.study import REPORT_FILE, read_study
from plgan_tune.backends.errors import ClusterError
from plgan_tune.backends.selection import check_selection, select_backend
from plgan_tune.config.advice import advice
from plgan_tune.config.errors import RuleError, SpecError
from plgan_tune.config.load import LoadedStudy, default_space, load_study, load_study_document
from plgan_tune.config.study import SearchSpec
from plgan_tune.config.trial import DataSpec
from plgan_tune.config.yaml import read_yaml
from plgan_tune.console.display import print_summary
from plgan_tune.console.exit import Command, refuse, refusing
from plgan_tune.console.format import say, terminal
from plgan_tune.console.reading import reading_images
from plgan_tune.console.shell import Option, option_words, python, shell_line, typed
from plgan_tune.console.signals import say_how_to_resume, stopping_as_ctrl_c
from plgan_tune.data.errors import DataError
from plgan_tune.data.survey import check_all, check_one
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.lock import LockedError
from plgan_tune.study.clock import steady_clock
from plgan_tune.study.errors import StudyError
from plgan_tune.study.folder import default_name, study_location, with_absolute_path
from plgan_tune.study.history import History, HistoryError, as_begun, read_history
from plgan_tune.study.neighbours import other_searches
from plgan_tune.study.state import Ending
from plgan_tune.study.study_file import STUDY_FILE
from plgan_tune.tuning.driver import run_study
from plgan_tune.tuning.dry_run import notes_before, plan_study, print_plan
from plgan_tune.tuning.warm_start import read_older

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Command)
def main(
    space: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The space file; default the embedded digits.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a key by its dotted path, repeatable; VALUE is YAML, so it may be a domain.",
        ),
    ] = None,
    results: Annotated[
        str, typer.Option(metavar="PATH", help="Where studies go: a folder or a shared fsspec URL.")
    ] = "results",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="This study's folder; default the study's name and the UTC time.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDR", help="`auto` or `host:port` of a Ray cluster; default an embedded Ray."),
    ] = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Train one trial after another in this process, without Ray.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the study of that --name, or start it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Validate and print the plan; start nothing.")] = False,
    check_data: Annotated[
        bool, typer.Option("--check-data", help="Decode all images and print the plan; start nothing.")
    ] = False,
) -> None:
    """Search the hyperparameters of a semi-supervised GAN."""
    console, now = terminal(), steady_clock()
    with (
        refusing(SpecError, StoreError, StudyError, HistoryError, LockedError, ClusterError),
        _space_file(space, results, name, resume=resume) as file,
    ):
        check_selection(address, in_process=in_process)
        loaded = _load(file, overrides or [])
        study = default_name(loaded.study, now()) if name is None else name
        location = study_location(results, name, study, resume=resume)
        if dry_run or check_data:
            spec = as_begun(loaded.study, location) if resume else loaded.study
            history = read_history(location, with_absolute_path(spec)) if resume else History()
            notes = notes_before(spec, history, read_older(spec), begins=location if resume else None)
            images = spec.any_trial().data
            seen = _all_images(images, console) if check_data else check_one(images)
            print_plan(console, plan_study(spec, history), [*loaded.notes, *notes, *seen])
            return
        for sentence in [*loaded.notes, *advice(loaded.study)]:
            say(console, f"note: {sentence}", "yellow")
        if others := other_searches():
            say(console, f"beside {'; '.join(others)}: they share this machine's cores, GPUs and memory", "yellow")
        go_on = _resume(study, space, overrides, results, address, in_process)
        try:
            with (
                stopping_as_ctrl_c(go_on, console),
                select_backend(address, in_process=in_process, console=console, resume=go_on) as backend,
            ):
                result = run_study(
                    loaded.study,
                    backend=backend,
                    results=results,
                    name=study,
                    resume=resume,
                    console=console,
                    now=now,
                )
        except KeyboardInterrupt:
            say_how_to_resume(console, "Interrupted; finished epochs are saved", go_on)
            raise
    further = [*(overrides or []), *_further(result.ending, loaded.study.search)]
    again = None if result.ending is Ending.DONE else _resume(study, space, further, results, address, in_process)
    print_summary(
        console,
        result.state,
        now(),
        results=typed(result.location),
        python=python(),
        ending=result.ending,
        resume=again,
        cluster=result.cluster,
        reference=settings_of(reference_of(loaded.study)),
    )
    _leave_report(console, result.location)
    if result.ending is Ending.INTERRUPTED:
        raise typer.Exit(130)
    if result.best is None:
        raise typer.Exit(1)


def _all_images(images: DataSpec, console: Console) -> tuple[str, ...]:
    """Decode all images, and return what was seen."""
    with reading_images(console) as progress:
        return check_all(images, progress=progress)


@contextmanager
def _space_file(space: Path | None, results: str, name: str | None, *, resume: bool) -> Iterator[Path | Location]:
    """Yield the file to read: --space, else that of the study to resume, else the embedded digits.

    Data errors, and data that do not fit the model, are refused with its name.
    """
    file: Path | Location = space or default_space()
    if space is None and resume and name is not None:
        held = study_location(results, name, name, resume=True).join(STUDY_FILE)
        file = held if held.exists() else file
    try:
        yield file
    except (DataError, RuleError) as error:
        where = file.url if isinstance(file, Location) else file
        refuse("\n".join(f"{where}: {line}" for line in str(error).splitlines()))


def _load(file: Path | Location, overrides: list[str]) -> LoadedStudy:
    if isinstance(file, Path):
        return load_study(file, overrides)
    folder = None if file.local is None else file.local.parent
    return load_study_document(read_yaml(file.read_text()), file.url, overrides, folder)


def _resume(
    name: str, space: Path | None, overrides: list[str] | None, results: str, address: str | None, in_process: bool
) -> str:
    """Return the command that resumes the study."""
    given: dict[str, Option] = {
        "--space": space,
        "--set": overrides or (),
        "--results": results if results != "results" else None,
        "--address": address,
        "--in-process": in_process,
        "--name": name,
        "--resume": True,
    }
    return shell_line([python(), "-m", "plgan_tune.search", *option_words(given)])


def _further(ending: Ending, search: SearchSpec) -> list[str]:
    """What a resume must override to continue: a limit on the log, unlike one of the time, is still reached then."""
    if ending is Ending.OUT_OF_EPOCHS and search.epochs:
        return [f"search.epochs={2 * search.epochs}"]
    if ending is Ending.STOPPED_IMPROVING and search.patience:
        return [f"search.patience={2 * search.patience}"]
    return []


def _leave_report(console: Console, study: Location) -> None:
    """Write the report. A failure must not fail the search, nor Plotly's import, two seconds, delay its start."""
    file = study.join(REPORT_FILE)
    try:
        with console.status("drawing the report"):
            from plgan_tune.analysis.report.page import write_report  # noqa: PLC0415

            write_report(read_study(study.url), file)
    except Exception as error:  # in any case, the results are in the store
        say(console, f"no report: {type(error).__name__}: {error}", "yellow")
        return
    console.print("Open the report in a browser:", style="dim")
    say(console, f"  {typed(file)}")


if __name__ == "__main__":
    app()
