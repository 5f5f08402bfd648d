"""Why a backend does not train."""

from plgan_tune.study.errors import StudyError


class ClusterError(StudyError):
    """A cluster that cannot be joined, or that cannot hold a single trial. The message says what to do."""


class RayDiedError(StudyError):
    """A search whose own Ray has died. What is in its log is whole, and a resume continues it."""
