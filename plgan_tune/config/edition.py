"""Which edition's defaults a file means: its own time's, though it may not say so.

Defaults that changed would change what earlier versions have written. A study and a space file may name their edition.
Files of before editions lack it, and some keys; a space file that names none is of today.
"""

from collections.abc import Mapping
from typing import Any, Final

from plgan_tune.config.defaults import EDITIONS, latest_edition, start_of
from plgan_tune.config.errors import Finding, show
from plgan_tune.config.trial import LEAVES, SECTIONS, TrialSpec

EDITION: Final = "edition"
"""The key of a space file."""

MADE_WITH: Final = "made_with"
"""The section of a space file that says when and with which versions a study was started."""

FIRST: Final = 1

YOUNGER: Final = frozenset(
    {"model.initial_spread", "model.generator_initial_spread", "model.generator_weight_norm_init"}
)
"""Keys that a configuration of before editions lacks, however whole it is."""

ALLOWED: Final = f"one of {', '.join(str(number) for number in range(FIRST, len(EDITIONS) + 1))}"


def edition_of(file: Mapping[str, Any]) -> int:
    """The edition of a file's defaults; today's where it names none that there is.

    Of before editions are a study that names none, and a configuration that gives every key but those that are younger:
    a `best.yaml`, an export.
    """
    if EDITION in file:
        return file[EDITION] if _is_known(file[EDITION]) else latest_edition()
    return FIRST if MADE_WITH in file or _is_whole(file.get("trial")) else latest_edition()


def check_edition(file: Mapping[str, Any]) -> list[Finding]:
    """What is wrong with the edition that a file names."""
    if EDITION not in file or _is_known(file[EDITION]):
        return []
    return [Finding((EDITION,), f"must be {ALLOWED}, an edition that this plgan-tune knows", show(file[EDITION]))]


def completed(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that some version has written whole, with the keys that are younger than it."""
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
"""Keys that every configuration written whole gives: the others came later, with a default of their own."""
