"""The --help of a command, and how it refuses: one message on standard error, and status 2."""

import codecs
import inspect
import io
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.text import Text
from typer.core import TyperCommand

from plgan_tune.config.errors import RuleError
from plgan_tune.config.urls import check_no_password
from plgan_tune.console.format import say, terminal, visible


def show_what_can_be_shown() -> None:
    """Replace characters that the terminal's encoding lacks, as ASCII lacks borders and the letters of many names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="replace")


class Command(TyperCommand):
    """A command that escapes control characters when it repeats words that it cannot parse.

    What the terminal's encoding lacks is replaced.
    Its help shows a value only for options that take one: `--resume`, not `--resume <bool>`.
    """

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the required parameters, then `[OPTIONS]`."""
        shown = [param for param in self.get_params(ctx) if param.required]
        return [*(_typed(param) for param in shown), "[OPTIONS]"]

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Print the help: usage, docstring, arguments and options."""
        console = terminal()
        console.print(Text(self.get_usage(ctx), "bold"))
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            is_code = paragraph.startswith(" ")  # kept verbatim for copying
            shown = paragraph if is_code else textwrap.fill(" ".join(paragraph.split()), console.width)
            console.print(Text(f"\n{shown}"), soft_wrap=True)
        by_kind: dict[str, list[Any]] = {"argument": [], "option": []}
        for param in self.get_params(ctx):
            by_kind[param.param_type_name].append(param)
        for kind, params in by_kind.items():
            if params:
                console.print(Text(f"\n{kind.capitalize()}s", "bold"))
                for line in _listed(params, console.width):
                    console.print(line, soft_wrap=True)

    def parse_args(self, *args: Any) -> list[str]:
        """Parse the words; escape control characters in the message of an error."""
        show_what_can_be_shown()
        try:
            return super().parse_args(*args)
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):
                error.message = visible(message)  # type: ignore[attr-defined]
            raise


def _typed(param: Any) -> str:
    """Return a parameter as it is typed: `RESULTS`, `--set KEY=VALUE`, `--resume`."""
    if param.param_type_name == "argument":
        return str(param.metavar)
    return param.opts[0] if param.is_flag else f"{param.opts[0]} {param.metavar}"


def _listed(params: Sequence[Any], width: int) -> Iterator[Text]:
    """Yield each parameter with its meaning beside it, without trailing spaces."""
    margin = max(len(_typed(param)) for param in params) + 4
    for param in params:
        about = "; ".join(_about(param))
        meaning = f"{param.help} [{about}]".replace(about, about.replace(" ", _KEPT)) if about else param.help
        lines = textwrap.wrap(meaning, max(20, width - margin))
        text = Text("\n".join([lines[0], *(" " * margin + line for line in lines[1:])]).replace(_KEPT, " "))
        text.highlight_regex(r"\[[^\]]*\]$", "dim")
        name, _, value = _typed(param).partition(" ")
        typed = Text.assemble("  ", (name, "bold cyan"), " " * bool(value), (value, "yellow"))
        typed.pad_right(margin - len(typed))
        yield typed + text


_KEPT = "\N{NO-BREAK SPACE}"


def _about(param: Any) -> Iterator[str]:
    if param.required and param.param_type_name == "option":
        yield "required"
    if param.default not in (None, False):
        yield f"default: {param.default}"
    bounds = param if hasattr(param, "max") else param.type
    if getattr(bounds, "max", None) is not None:
        yield f"{bounds.min:,} to {bounds.max:,}"


def refuse(message: str) -> NoReturn:
    """Print the message on standard error, and exit with status 2."""
    say(terminal(stderr=True), message, "red")
    raise typer.Exit(2)


def refuse_password(option: str, place: str) -> None:
    """Refuse a URL that holds a password, without showing the password."""
    try:
        check_no_password(place)
    except RuleError as error:
        refuse(f"{option} {error}")


@contextmanager
def refusing(*kinds: type[Exception]) -> Iterator[None]:
    """Refuse errors of these kinds, which the user can correct, with their message; exit with 130 at Ctrl-C."""
    try:
        yield
    except kinds as error:
        refuse(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
