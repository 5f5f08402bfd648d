"""Prints what a search would do, without doing it."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from plgan_tune.config.advice import advice, corner_trials, rungs
from plgan_tune.config.study import ConfirmSpec, StudySpec
from plgan_tune.config.trial import ModelSpec
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.console.format import Prose, say
from plgan_tune.console.shell import typed
from plgan_tune.data.check import DataSummary, check_data
from plgan_tune.data.survey import Survey, survey
from plgan_tune.gan.own_contract import Shapes
from plgan_tune.gan.own_file import check_own
from plgan_tune.gan.pairs.base import ImageShape
from plgan_tune.gan.pairs.build import check_image
from plgan_tune.records import TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.study.folder import own_content
from plgan_tune.study.history import History
from plgan_tune.training.ranks import check_ranks
from plgan_tune.tuning.points import key_of
from plgan_tune.tuning.sampler import check_sampler
from plgan_tune.tuning.warm_start import Older


def check_trials(study: StudySpec, data: DataSummary, own: bytes | None) -> None:
    """Check that every trial can work: its model on the images, its batch over the ranks, the user's own terms.

    Args:
        study: the study.
        data: its images.
        own: what the user's own file holds; None if there is none.

    Raises:
        RuleError: if one cannot.
    """
    trials, image = corner_trials(study), ImageShape(data.channels, data.size)
    for trial in trials:
        check_image(trial.model, image)
        check_ranks(study.resources.ranks, trial.training.batch_size)
    if own is not None:
        built = {trial.own.model_dump_json() + _pair_key(trial.model): trial for trial in trials}
        for trial in built.values():
            check_own(own, trial.own, str(trial.own.file), Shapes.of(image, len(data.classes), trial.data), trial.model)


def _pair_key(model: ModelSpec) -> str:
    """Return what tells the networks apart that a user's own file builds."""
    return model.model_dump_json() if model.kind == "own" else ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The extent of a search.

    Attributes:
        study: the resolved study.
        most_epochs: total if no further trial is stopped; at most what `search.epochs` leaves.
        least_epochs: total if all remaining trials but one are stopped at the first rung; one always leads.
        data: the training images.
        trials: total number.
        history: rows of earlier starts; empty for a new study.
        files: what lies where the images are.
    """

    study: StudySpec
    most_epochs: int
    least_epochs: int
    data: DataSummary
    trials: int
    history: History
    files: Survey


def plan_study(study: StudySpec, history: History = History()) -> Plan:  # noqa: B008 - frozen
    """Plan a search. This reads the data's schema and first image and does not start Ray.

    Raises:
        DataError: if the data are missing, broken or too few.
        RuleError: if a model does not fit the images, or a batch the ranks.
    """
    trial = study.any_trial()
    asha = study.search.early_stopping.asha
    epochs = trial.training.epochs
    stops = rungs(asha, epochs) if asha else ()
    first = min(epochs, earliest_start(study) + stops[0]) if stops else epochs
    check_sampler(study.search)
    data = check_data(trial.data)
    check_trials(study, data, own_content(study))
    trained = sum(row.epochs for row in history.ended)
    to_come = _to_come(study, history)
    left = [row.epochs for row in history.unfinished] + [0] * to_come
    least = [max(first, done) for done in left]
    if least and all(row.status is not TrialStatus.COMPLETED for row in history.trials):
        least[least.index(max(least))] = epochs
    in_all = len(history.trials) + to_come
    budget = study.search.epochs
    room = len(left) * epochs if budget is None else sum(left) + max(0, budget - history.next_seq)
    most, fewest = (trained + min(room, reached) for reached in (len(left) * epochs, sum(least)))
    return Plan(study, most, fewest, data, in_all, history, survey(trial.data))


def _to_come(study: StudySpec, history: History) -> int:
    """How many trials have yet to begin: as many as are asked for, and no more than there are untried points."""
    asked_for = len(history.to_come(study.search.trials))
    tried = {key_of(study.domains, row.params) for row in history.trials if study.holds(row.params)}
    return asked_for if study.points is None else min(asked_for, max(0, study.points - len(tried)))


def notes_before(
    spec: StudySpec, history: History, older: Sequence[Older], *, begins: Location | None = None
) -> list[str]:
    """Return notes for the user on the study that is resumed and on the older studies.

    Args:
        spec: the study.
        history: rows of its earlier starts.
        older: the studies of `search.warm_start`.
        begins: the folder of the study to resume; None for a new study.
    """
    notes = [f"no study is in {typed(begins)} yet: this search starts it"] if begins and not history.starts else []
    notes += [f"changed since the last start: {change}" for change in history.changes]
    outside = [row.trial_id for row in history.trials if not spec.holds(row.params)]
    if outside:
        what = "domains or rules" if spec.search.rules else "domains"
        notes.append(f"outside the current {what}, so kept but not passed to the sampler: {', '.join(outside)}")
    return [*notes, *(study.note for study in older)]


def earliest_start(study: StudySpec) -> int:
    """Return the earliest epoch from which any trial's rungs count."""
    asha = study.search.early_stopping.asha
    if asha is None or asha.align == "epoch":
        return 0
    return min(trial.loss.switch_epoch for trial in corner_trials(study))


def rungs_in_words(study: StudySpec) -> str:
    """Return the epochs at which early stopping compares trials, and the first that is dropped."""
    asha = study.search.early_stopping.asha
    stops = rungs(asha, study.any_trial().training.epochs) if asha else ()
    if asha is None or not stops:
        return "none: no trial is stopped early"
    text = ", ".join(map(str, stops))
    both = "; judged by the place in both metrics" if study.judges_by_both else ""
    if asha.align == "switch":
        return f"{text} epochs after a trial's own switch epoch, if before its last epoch{both}"
    dropped = asha.grace_period * asha.reduction_factor ** len(stops)
    return f"{text}; the next, {dropped}, is dropped: it is not before the last epoch{both}"


def print_plan(console: Console, plan: Plan, notes: Sequence[str]) -> None:
    """Print the resolved study as YAML, then its extent, then notes for the user."""
    text = dump_yaml(plan.study.as_mapping())
    if console.is_terminal:
        console.print(Syntax(text, "yaml", background_color="default", word_wrap=True))
    else:
        console.out(text, highlight=False)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _facts(plan):
        table.add_row(name, Prose(text))
    console.print(table)
    for sentence in [*notes, *plan.files.notes, *advice(plan.study)]:
        say(console, Text.assemble(("note  ", "yellow"), sentence))


def already_in_words(history: History) -> str:
    """Return how far a resumed study has come."""
    epochs = sum(row.epochs for row in history.trials)
    ended = len(history.ended)
    return f"{ended:,} trial{'s' * (ended != 1)} ended, {len(history.unfinished):,} unfinished; {epochs:,} epochs"


def _length_in_words(study: StudySpec) -> str:
    epochs, hours = study.any_trial().training.epochs, study.search.trial_hours
    limit = "" if hours is None else f" and about {hours:g} hour{'s' * (hours != 1)} of training"
    return f"{epochs} epochs{limit}"


def _confirming_in_words(confirm: ConfirmSpec, plan: Plan) -> str:
    first = " and the first point" if plan.study.search.first else ""
    most = int(plan.most_epochs * confirm.share / (1 - confirm.share))
    share = f"{100 * confirm.share:g} % of all epochs, so {most:,} further ones"
    if plan.study.search.epochs is not None:
        share = f"{100 * confirm.share:g} % of those epochs"
    best = f"at most the best {confirm.finalists}{first}, the last two of them on at most {confirm.seeds} fresh seeds"
    return f"then {best}, for at most {share}"


def _patience_in_words(study: StudySpec) -> str:
    trials, images = study.search.patience, study.metric.images(study.any_trial().data.validation)
    can_tell = f" that {images:,} validation images can tell" if study.metric.is_share else f" of {study.metric.name}"
    return f"the search ends after {trials} in a row without an improvement{can_tell}"


def _budget_in_words(plan: Plan) -> str:
    budget = plan.study.search.epochs
    return "" if budget is None else f"; the search ends at {budget:,}, of which {plan.history.next_seq:,} are logged"


def _labels_in_words(data: DataSummary) -> str:
    if not data.classes:
        return f"{data.unlabelled:,} without a label"
    fewest, most = min(data.images_per_class), max(data.images_per_class)
    balance = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    labelled = f"{sum(data.images_per_class):,} with a label ({balance} per class, {len(data.classes)} classes)"
    return f"{labelled}, {data.unlabelled:,} without"


def _facts(plan: Plan) -> list[tuple[str, str]]:
    study, data = plan.study, plan.data
    resources = study.resources
    gpus = "1 GPU if the cluster has any" if resources.gpus_per_rank == "auto" else f"{resources.gpus_per_rank:g} GPU"
    return [
        (
            "images",
            f"{_labels_in_words(data)}; {data.channels} x {data.size} x {data.size}",
        ),
        *[(f"{half} files", told) for half, told in plan.files.taken.items()],
        *[("passed over", f"{reason}, {told}") for reason, told in plan.files.passed.items()],
        ("searched", ", ".join(study.domains) or "nothing: all trials have the same configuration"),
        ("trials", f"{plan.trials}, each of at most {_length_in_words(study)}"),
        *([("already there", already_in_words(plan.history))] if plan.history.trials else []),
        ("rungs", rungs_in_words(study)),
        *([("confirming", _confirming_in_words(study.search.confirm, plan))] if study.search.confirm else []),
        *([("patience", _patience_in_words(study))] if study.search.patience else []),
        ("epochs", f"at most {plan.most_epochs:,}, at least {plan.least_epochs:,}{_budget_in_words(plan)}"),
        (
            "a trial takes",
            f"{resources.ranks} rank{'s' * (resources.ranks > 1)}, each {resources.cpus_per_rank:g} CPU and {gpus}"
            + (f", on nodes with {resources.accelerator}" if resources.accelerator else "")
            + {"pack": "", "strict_pack": "; all on one host", "strict_spread": "; each on a different host"}[
                resources.placement
            ],
        ),
    ]
