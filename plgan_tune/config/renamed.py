"""Names of earlier versions: `profile: recipe` is `method: pl_gan` today. Files that hold them are read as before."""

from collections.abc import Mapping
from typing import Any, Final

OLD: Final = "profile"
NEW: Final = "method"
METHOD_OF: Final = {"recipe": "pl_gan"}
"""A profile whose name has changed -> the method."""


def with_new_names(file: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the content of a space file in the names of today, and a note if it had older ones."""
    trial = file.get("trial") if isinstance(file, Mapping) else None
    if not isinstance(trial, Mapping) or OLD not in trial or NEW in trial:
        return file, ()
    renamed = {**file, "trial": trial_with_new_names(trial)}
    if isinstance(search := file.get("search"), Mapping) and isinstance(points := search.get("first"), list):
        renamed["search"] = {**search, "first": [trial_with_new_names(point) for point in points]}
    return renamed, ("trial.profile of earlier versions is read as trial.method, and its recipe as pl_gan",)


def trial_with_new_names(trial: Any) -> Any:
    """Return a trial, or a point of its keys, with the method in place of the profile, in the same order."""
    if not isinstance(trial, Mapping):
        return trial
    return {NEW if key == OLD else key: _method_of(value) if key == OLD else value for key, value in trial.items()}


def _method_of(profile: Any) -> Any:
    """Return the method of a profile, or the domain of methods of a domain of profiles."""
    match profile:
        case str():
            return METHOD_OF.get(profile, profile)
        case list():
            return [_method_of(option) for option in profile]
        case Mapping():
            return {key: _method_of(value) for key, value in profile.items()}
    return profile
