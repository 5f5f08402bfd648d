"""Errors of a back-end."""

from plgan_tune.study.errors import StudyError


class ClusterError(StudyError):
    """The cluster cannot be joined or cannot hold a single trial. The message says what to do."""


class RayDiedError(StudyError):
    """The search's own Ray has died. The log is intact, so a resume continues the search."""
