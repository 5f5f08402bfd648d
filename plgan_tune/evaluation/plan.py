"""An evaluation: configurations on paired seeds, as the list of trials that the search's own machinery trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from plgan_tune.analysis.seeds import SEEDS
from plgan_tune.config.changes import describe_changes
from plgan_tune.config.edition import MADE_WITH, completed
from plgan_tune.config.errors import show
from plgan_tune.config.study import StudySpec
from plgan_tune.config.trial import TrialSpec
from plgan_tune.config.yaml import dump_yaml, read_yaml
from plgan_tune.data.check import DataSummary
from plgan_tune.evaluation.configurations import (
    Configuration,
    best_configurations,
    fresh_seeds,
    judge_configuration,
    method_configurations,
    patent_configuration,
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
        name: of the search: its folder's.
        search: that folder.
        configurations: without the judge, in the order of the table's making.
        judge: of generated images; None where none is trained.
        seeds: of every configuration; the judge has the first alone.
        refit: whether validation images are trained on too.
        notes: what the user should know of the choice.
        study_id: the search's, which its own files carry, too.
    """

    name: str
    search: Location
    configurations: tuple[Configuration, ...]
    judge: Configuration | None
    seeds: tuple[int, ...]
    refit: bool
    notes: tuple[str, ...]
    study_id: str | None

    @property
    def location(self) -> Location:
        return self.search.join(SEEDS)

    @property
    def trial(self) -> TrialSpec:
        """Any of the trials: right in all that they share."""
        return self.configurations[0].trial

    @property
    def study(self) -> FixedStudy:
        """Its trials, all of a seed before the next seed's: they share images, and pairs are there early."""
        trials = [
            fixed_trial(configuration, seed, refit=self.refit)
            for seed in self.seeds
            for configuration in self.configurations
        ]
        judges = [self.judge_trial] if self.judge_trial else []
        return FixedStudy(self.name, self.location, (*judges, *trials), TYPES, self.study_id)

    @property
    def judge_trial(self) -> FixedTrial | None:
        return None if self.judge is None else fixed_trial(self.judge, self.seeds[0], refit=False)


def fixed_trial(configuration: Configuration, seed: int, *, refit: bool) -> FixedTrial:
    """A configuration's trial with one seed; its name says which."""
    return FixedTrial(
        f"{configuration.name}-s{seed}" + "-refit" * refit,
        {"configuration": configuration.name, "refit": refit},
        with_seed(configuration.trial, seed, refit=refit),
    )


def plan_evaluation(
    search: Location,
    study: StudySpec,
    trials: Sequence[TrialRow],
    data: DataSummary,
    *,
    top: int,
    seeds: int,
    methods: bool,
    refit: bool,
    study_id: str | None = None,
) -> Evaluation:
    """The `top` best of a search and the patent's own settings, and with `methods` its comparisons.

    A judge is trained where the images are grey, for which there is no Inception network.

    Args:
        search: the search's folder.
        trials: its trials.
        data: its images.
        study_id: the search's; None where it was begun before there were ids.
        seeds: how many; none of them is the search's own.

    Raises:
        StudyError: where no trial has completed in the current domains.
    """
    best = best_configurations(study, trials, top)
    outside = sum(row.status is TrialStatus.COMPLETED and not study.holds(row.params) for row in trials)
    if not best:
        why = f" within the current domains: {outside} completed outside of them" if outside else ""
        raise StudyError(f"{search.url} must have a completed trial to evaluate, but has none of {len(trials)}{why}")
    patent = patent_configuration(study)
    twins = [one for one in best if with_seed(one.trial, 0) == with_seed(patent.trial, 0)]
    notes = [f"{twin.name} has the patent's own settings: its row is {patent.name}'s" for twin in twins]
    if len(best) < top:
        notes.append(f"of {top} configurations asked for, {len(best)} have completed")
    if outside:
        notes.append(f"{outside} completed trials lie outside the current domains and are left out")
    others = method_configurations(patent) if methods else []
    chosen = (*(one for one in best if one not in twins), patent, *others)
    judge = judge_configuration(patent, data) if data.channels == 1 else None
    drawn = tuple(fresh_seeds(study, trials, seeds))
    return Evaluation(search.name, search, chosen, judge, drawn, refit, tuple(notes), study_id)


def write_evaluation(evaluation: Evaluation, started: datetime) -> None:
    """Notes what each configuration is, those of earlier starts kept.

    Raises:
        StudyError: where an earlier start has trained another configuration of the same name.
        StoreError: where the file cannot be read or written.
    """
    file = evaluation.location.join(FILE)
    earlier = _read(file) if file.exists() else {}
    known = {
        name: TrialSpec.model_validate(completed(trial)).model_dump(mode="json")  # keys may be younger than the file
        for name, trial in earlier.get("configurations", {}).items()
    }
    judges = [evaluation.judge] if evaluation.judge else []
    asked = {one.name: one.trial.model_dump(mode="json") for one in (*evaluation.configurations, *judges)}
    for name, trial in asked.items():
        changes = describe_changes(known.get(name, trial), trial)
        changes.pop("data.path", None)  # the images may lie elsewhere here
        if changes:
            raise StudyError(
                f"{file.url} must hold what is evaluated, but {name} is another now: {'; '.join(changes.values())}; "
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
