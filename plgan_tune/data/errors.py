"""What every part of this room raises about a user's data."""


class DataError(ValueError):
    """The data do not fit the specification; the message names place, rule, value and what is allowed."""
