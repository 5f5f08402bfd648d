"""URLs that users give, which must not hold a password."""

import re
from typing import Final

from plgan_tune.config.errors import RuleError

_PASSWORD: Final = re.compile(r"(://)[^/@]*:[^/@]*@|^((?:https?|ftp)://)[^/@]+@", re.IGNORECASE)
"""`user:password@`; in web and FTP addresses also `user@`, which may be a token."""


def check_no_password(url: str) -> str:
    """Return the URL, which study.yaml, logs and command lines will show.

    Raises:
        RuleError: If it holds a password. The message leaves the password out.
    """
    if _PASSWORD.search(url):
        raise RuleError(
            "must hold no password: credentials come from the environment or the machine's role (docs/security.md)",
            _PASSWORD.sub(r"\1\2***@", url),
        )
    return url
