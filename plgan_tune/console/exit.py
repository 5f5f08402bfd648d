"""How a command answers --help, and how it says no: one message on standard error, status 2."""

import inspect
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


class Command(TyperCommand):
    """A command that repeats its words visibly where it cannot read them.

    Its help names a value only where one is given: `--resume`, not `--resume <bool>`.
    """

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What must be given, then that there are options."""
        shown = [param for param in self.get_params(ctx) if param.required]
        return [*(_typed(param) for param in shown), "[OPTIONS]"]

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        console = terminal()
        console.print(Text(self.get_usage(ctx), "bold"))
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            is_code = paragraph.startswith(" ")  # to be copied as it stands
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
        try:
            return super().parse_args(*args)
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):
                error.message = visible(message)  # type: ignore[attr-defined]
            raise


def _typed(param: Any) -> str:
    """A parameter as it is typed: `RESULTS`, `--set KEY=VALUE`, `--resume`."""
    if param.param_type_name == "argument":
        return str(param.metavar)
    return param.opts[0] if param.is_flag else f"{param.opts[0]} {param.metavar}"


def _listed(params: Sequence[Any], width: int) -> Iterator[Text]:
    """A parameter a line, and its meaning beside it, without spaces at a line's end."""
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
    say(terminal(stderr=True), message, "red")
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
