"""How a command says no: one message on standard error, status 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console

from plgan_tune.spec.errors import RuleError
from plgan_tune.spec.urls import check_no_password


def refuse(message: str) -> NoReturn:
    Console(stderr=True).print(message, style="red", soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(2)


def refuse_password(option: str, place: str) -> None:
    """A URL that holds a password is refused, and not shown."""
    try:
        check_no_password(place)
    except RuleError as error:
        refuse(f"{option} {error}")


@contextmanager
def refusing(*kinds: type[Exception]) -> Iterator[None]:
    """What the user can mend, errors of these kinds, is refused with its message; Ctrl-C ends with 130."""
    try:
        yield
    except kinds as error:
        refuse(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
