"""An evaluation: configurations on paired seeds, as a list of trials that are trained like those of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from plgan_tune.analysis.seeds import PATENT, SEEDS, settings_of
from plgan_tune.config.changes import describe_changes
from plgan_tune.config.edition import MADE_WITH, completed
from plgan_tune.config.errors import show
from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.config.study import StudySpec
from plgan_tune.config.trial import TrialSpec
from plgan_tune.config.yaml import dump_yaml, read_yaml
from plgan_tune.evaluation.configurations import (
    Configuration,
    best_configurations,
    fresh_seeds,
    generator_configurations,
    method_configurations,
    patent_configuration,
    same,
    with_seed,
)
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.study.errors import StudyError
from plgan_tune.study.fixed_trials import FixedStudy, FixedTrial
from plgan_tune.study.folder import start_as_mapping

FILE: Final = "evaluation.yaml"
TYPES: Final = {"configuration": str, "refit": bool}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is trained and measured.

    Attributes:
        name: name of the search, that of its folder.
        search: the search's folder.
        configurations: in the order in which they are chosen.
        seeds: seeds of every configuration.
        refit: whether validation images are also trained on.
        notes: notes for the user on the choice.
        study_id: id of the search, which the evaluation's files also carry.
        metric: what the search went by, whose values stand beside the test errors.
        reference: the configuration that all others are compared with: the patent's settings, or the method's own.
    """

    name: str
    search: Location
    configurations: tuple[Configuration, ...]
    seeds: tuple[int, ...]
    refit: bool
    notes: tuple[str, ...]
    study_id: str | None
    metric: Metric = VAL_ERROR
    reference: str = PATENT

    @property
    def generators(self) -> bool:
        """Whether generators are evaluated, for no image has a label and D is no classifier."""
        return self.trial.data.labels == 0

    @property
    def location(self) -> Location:
        """The evaluation's folder."""
        return self.search.join(SEEDS)

    @property
    def trial(self) -> TrialSpec:
        """One of the trials, for the values that all share."""
        return self.configurations[0].trial

    @property
    def study(self) -> FixedStudy:
        """All trials, ordered by seed: trials of a seed share images, and pairs are complete early."""
        trials = [
            fixed_trial(configuration, seed, refit=self.refit)
            for seed in self.seeds
            for configuration in self.configurations
        ]
        return FixedStudy(self.name, self.location, tuple(trials), TYPES, self.study_id, self.metric)


def fixed_trial(configuration: Configuration, seed: int, *, refit: bool) -> FixedTrial:
    """Return a configuration's trial with one seed, named after both."""
    return FixedTrial(
        f"{configuration.name}-s{seed}" + "-refit" * refit,
        {"configuration": configuration.name, "refit": refit},
        with_seed(configuration.trial, seed, refit=refit),
    )


def plan_evaluation(
    search: Location,
    study: StudySpec,
    trials: Sequence[TrialRow],
    *,
    top: int,
    seeds: int,
    methods: bool,
    refit: bool,
    study_id: str | None = None,
) -> Evaluation:
    """Choose the `top` best of a search, the patent's settings, and with `methods` the patent's comparisons.

    Of a study without labels, its method's own settings take the patent's place, and the comparisons are of generators.

    Args:
        search: the search's folder.
        study: the search's study.
        trials: its trials.
        top: how many of the best trials.
        seeds: how many seeds; none is one of the search.
        methods: whether to add the comparisons.
        refit: whether to train on the validation images, too.
        study_id: id of the search; None for one from before ids existed.

    Raises:
        StudyError: if no trial has completed in the current domains.
    """
    best = best_configurations(study, trials, top)
    outside = sum(row.status is TrialStatus.COMPLETED and not study.holds(row.params) for row in trials)
    if not best:
        why = f" within the current domains: {outside} completed outside of them" if outside else ""
        raise StudyError(f"{search.url} must have a completed trial to evaluate, but has none of {len(trials)}{why}")
    patent = patent_configuration(study)
    labelled = patent.trial.data.labels > 0
    others: list[Configuration] = []
    if methods:
        others = method_configurations(patent) if labelled else generator_configurations(patent, study.edition)
    whose = settings_of(patent.name)
    twins = [one for one in (*best, *others) if same(one.trial, patent.trial)]
    notes = [f"{twin.name} has {whose}: see the row {patent.name}" for twin in twins]
    if len(best) < top:
        notes.append(f"only {len(best)} of the {top} requested configurations have completed")
    if outside:
        notes.append(f"{outside} completed trials lie outside the current domains and are left out")
    best, others = ([one for one in some if one not in twins] for some in (best, others))
    return Evaluation(
        search.name,
        search,
        (*best, patent, *others),
        tuple(fresh_seeds(study, trials, seeds)),
        refit,
        tuple(notes),
        study_id,
        study.metric,
        patent.name,
    )


def write_evaluation(evaluation: Evaluation, started: datetime) -> None:
    """Write the configurations to the evaluation's file, and keep those of earlier starts.

    Raises:
        StudyError: if an earlier start trained another configuration of the same name.
        StoreError: if the file cannot be read or written.
    """
    file = evaluation.location.join(FILE)
    earlier = _read(file) if file.exists() else {}
    known = {
        name: TrialSpec.model_validate(completed(trial)).model_dump(mode="json")  # keys may be younger than the file
        for name, trial in earlier.get("configurations", {}).items()
    }
    asked = {one.name: one.trial.model_dump(mode="json") for one in evaluation.configurations}
    for name, trial in asked.items():
        changes = describe_changes(known.get(name, trial), trial)
        changes.pop("data.path", None)  # the images may lie elsewhere here
        if changes:
            raise StudyError(
                f"{file.url} must hold what is evaluated, but {name} has changed: {'; '.join(changes.values())}; "
                f"to start over, remove the folder {evaluation.location.url}"
            )
    content = {
        "evaluation_of": evaluation.name,
        "configurations": {**known, **asked},
        MADE_WITH: [*earlier.get(MADE_WITH, ()), start_as_mapping(started)],
    }
    file.write_text(dump_yaml(content))


def _read(file: Location) -> Mapping[str, Any]:
    document = read_yaml(file.read_text())
    for found in document.findings:
        place = file.url if found.line is None else f"{file.url}:{found.line}"
        raise StudyError(f"{place}: {found.rule}, but got {found.value}")
    if not isinstance(document.value, dict):
        raise StudyError(f"{file.url} must be a mapping of what is evaluated, but got {show(document.value)}")
    return document.value
