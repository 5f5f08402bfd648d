"""How a command says no: one message on standard error, status 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console


def refuse(message: str) -> NoReturn:
    Console(stderr=True).print(message, style="red", soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(2)


@contextmanager
def refusing(*kinds: type[Exception]) -> Iterator[None]:
    """What the user can mend, errors of these kinds, is refused with its message; Ctrl-C ends with 130."""
    try:
        yield
    except kinds as error:
        refuse(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
