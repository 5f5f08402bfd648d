"""The error that this package raises about a user's data."""


class DataError(ValueError):
    """The data do not fit the specification. The message gives the place, the rule, the value and what is allowed."""
