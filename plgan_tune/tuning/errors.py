"""What a search refuses before it starts."""


class StudyError(Exception):
    """A study that cannot be started as asked. The message names the key or option, the rule and the value."""
