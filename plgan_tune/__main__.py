"""`plgan-tune` and `python -m plgan_tune`: list the commands, and start one.

`plgan-tune search ...` does what `python -m plgan_tune.search ...` does. A command's module is imported when it starts,
so that the list appears at once.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from typer import Typer

COMMANDS: Final[Mapping[str, str]] = {
    "search": "Search the hyperparameters of a semi-supervised GAN.",
    "train": "Train one configuration.",
    "evaluate": "Train the best configurations with fresh seeds and measure their test errors.",
    "analyze": "Show what a study found.",
    "generate": "Draw images with a trained generator.",
}


def main() -> None:
    """Start the command that the first word of the command line names, with the words after it."""
    match sys.argv[1:]:
        case [command, *words] if command in COMMANDS:
            _command(command)(words, prog_name=f"{_program()} {command}")
        case [] | ["--help" | "-h"]:
            sys.stdout.write(_help())
        case [word, *_]:
            _refuse(word)


def _command(name: str) -> "Typer":
    match name:
        case "search":
            from plgan_tune.search import app
        case "train":
            from plgan_tune.train import app
        case "evaluate":
            from plgan_tune.evaluate import app
        case "analyze":
            from plgan_tune.analyze import app
        case _:
            from plgan_tune.generate import app
    return app


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    usage = f"Usage: {_program()} COMMAND [OPTIONS]"
    return "\n".join([usage, "", *listed, "", f"{_program()} COMMAND --help lists a command's options.", ""])


def _refuse(word: str) -> NoReturn:
    sys.stderr.write(f"COMMAND must be one of {', '.join(COMMANDS)}, but got {word!a}\n")
    raise SystemExit(2)


def _program() -> str:
    """Return the name under which this program was started."""
    return "python -m plgan_tune" if Path(sys.argv[0]).name == "__main__.py" else "plgan-tune"


if __name__ == "__main__":
    main()
