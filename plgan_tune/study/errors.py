"""Errors of a search that cannot start."""


class StudyError(Exception):
    """The study cannot be started as requested; the message names the key or option, the rule and the value.

    Also raised if no trial can start; the message says why the last one failed.
    """
