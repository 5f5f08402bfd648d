"""How a command says no: one message on standard error, status 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

from plgan_tune.config.errors import RuleError
from plgan_tune.config.urls import check_no_password
from plgan_tune.console.format import terminal, visible


class Command(TyperCommand):
    """A command that repeats its words visibly where it cannot read them."""

    def parse_args(self, *args: Any) -> list[str]:
        try:
            return super().parse_args(*args)
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):
                error.message = visible(message)  # type: ignore[attr-defined]
            raise


def refuse(message: str) -> NoReturn:
    terminal(stderr=True).print(message, style="red", soft_wrap=True, highlight=False)
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
