"""URLs as users give them: where things are, and never a password."""

import re
from typing import Final

from plgan_tune.config.errors import RuleError

_PASSWORD: Final = re.compile(r"(://)[^/@]*:[^/@]*@|^((?:https?|ftp)://)[^/@]+@", re.IGNORECASE)
"""On the web a token alone may stand where a user does."""


def check_no_password(url: str) -> str:
    """The URL itself; it will stand in study.yaml, in logs and on command lines.

    Raises:
        RuleError: where it holds a password, which the message leaves out.
    """
    if _PASSWORD.search(url):
        raise RuleError(
            "must hold no password: credentials come from the environment or the machine's role (docs/security.md)",
            _PASSWORD.sub(r"\1\2***@", url),
        )
    return url
