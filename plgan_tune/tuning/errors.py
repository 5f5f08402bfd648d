"""Why a search does not start, or none of its trials."""


class StudyError(Exception):
    """A study that cannot be started as asked. The message names the key or option, the rule and the value.

    Or one of which no trial can begin; the message says why the last could not.
    """


class RayDiedError(StudyError):
    """A search whose own Ray has died. What is in its log is whole, and a resume goes on with it."""
