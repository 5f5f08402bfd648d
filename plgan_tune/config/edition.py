"""Find out which edition of the defaults a file uses.

If defaults changed, they would change the meaning of files that earlier versions wrote. A study and a space file may
name their edition. Files from before there were editions lack it, and some keys. A space file that names none uses the
current edition.
"""

from collections.abc import Mapping
from typing import Any, Final

from plgan_tune.config.defaults import EDITIONS, latest_edition, start_of
from plgan_tune.config.errors import Finding, show
from plgan_tune.config.renamed import trial_with_new_names
from plgan_tune.config.trial import LEAVES, SECTIONS, TrialSpec

EDITION: Final = "edition"
"""The key of a space file."""

MADE_WITH: Final = "made_with"
"""The section of a space file that says when and with which versions a study was started."""

FIRST: Final = 1

YOUNGER: Final = frozenset(
    {"model.initial_spread", "model.generator_initial_spread", "model.generator_weight_norm_init"}
)
"""Keys that even a complete configuration from before editions lacks."""

ALLOWED: Final = f"one of {', '.join(str(number) for number in range(FIRST, len(EDITIONS) + 1))}"


def edition_of(file: Mapping[str, Any]) -> int:
    """Return the edition of a file's defaults; the current one if the file names an unknown edition.

    If the file names none, two kinds of files are from before editions: a study, and a configuration that gives every
    key except the younger ones, such as a `best.yaml` or an export. Any other file uses the current edition.
    """
    if EDITION in file:
        return file[EDITION] if _is_known(file[EDITION]) else latest_edition()
    return FIRST if MADE_WITH in file or _is_whole(file.get("trial")) else latest_edition()


def check_edition(file: Mapping[str, Any]) -> list[Finding]:
    """Return what is wrong with the edition that a file names."""
    if EDITION not in file or _is_known(file[EDITION]):
        return []
    return [Finding((EDITION,), f"must be {ALLOWED}, an edition that this plgan-tune knows", show(file[EDITION]))]


def completed(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that some version wrote in full, in the names and with all keys of today."""
    configuration = trial_with_new_names(configuration)
    model = configuration["model"]
    return {**configuration, "model": {**start_of(model, FIRST), **model}}


def _is_known(edition: object) -> bool:
    return isinstance(edition, int) and not isinstance(edition, bool) and FIRST <= edition <= latest_edition()


def _is_whole(trial: Any) -> bool:
    if not isinstance(trial, Mapping):
        return False
    return all(_gives(trial, path) for path in _REQUIRED - YOUNGER)


def _gives(trial: Mapping[str, Any], path: str) -> bool:
    section, _, leaf = path.rpartition(".")
    holder = trial.get(section) if section else trial
    return isinstance(holder, Mapping) and leaf in holder


_REQUIRED: Final = frozenset(
    path
    for path in LEAVES
    for section, _, leaf in [path.rpartition(".")]
    if (SECTIONS[section] if section else TrialSpec).model_fields[leaf].is_required()
)
"""Keys that every complete configuration gives. The others came later and have their own defaults."""
