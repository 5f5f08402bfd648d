"""A page's examples in their order, as one script that does in a folder what a reader does there."""

import re
import runpy
import shlex
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import dropwhile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]

BLOCK: Final = re.compile(r"(?:Save as `(\S+)`:\n\n)?^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""A fenced block: the file that a reader saves it as, its language, its text."""

NOT_RUN: Final = {"pip", "python3", ".", "export"}
"""Commands that make the environment, which tests have already."""

COMMAND: Final = """
def command(*words):
    import sys
    from plgan_tune.__main__ import main
    sys.argv = ["plgan-tune", *words]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, (words, ended.code)
"""


def commands(text: str) -> list[list[str]]:
    """The words of each command of a shell block, without assignments before it."""
    lines = text.replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    found = [list(dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words)) for words in split]
    return [words for words in found if words and words[0] not in NOT_RUN]


def script(text: str, shorter: Mapping[str, Sequence[str]]) -> str:
    """The page as a script.

    Args:
        text: the page, in Markdown.
        shorter: what is added to each command of plgan_tune so that it takes seconds; the last of one option holds.
    """
    parts = [COMMAND]
    for file, language, body in BLOCK.findall(text):
        if file:
            parts.append(f"__import__('pathlib').Path({file!r}).write_text({body!r})\n")
        elif language == "python":
            parts.append(body)
        elif language == "sh":
            for words in commands(body):
                if words[0] == "python" and words[1].startswith("benchmarks/"):
                    assert (ROOT / words[1]).is_file(), words
                    continue
                assert words[:2] == ["python", "-m"], words
                name = words[2].removeprefix("plgan_tune.")
                parts.append(f"command(*{[name, *words[3:], *shorter[name]]!r})\n")
    return "\n".join(parts)


def read(text: str, folder: Path, shorter: Mapping[str, Sequence[str]]) -> str:
    """Runs a page's examples from top to bottom in a folder; what they print.

    In this process, for another one would take seconds to import torch.
    """
    (folder / "page.py").write_text(script(text, shorter), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(StringIO()) as said:
        patched.chdir(folder)
        patched.syspath_prepend(folder)
        for name, value in {"PLGAN_TUNE_CACHE": str(folder / "cache"), "COLUMNS": "120", "TERM": "dumb"}.items():
            patched.setenv(name, value)
        patched.setattr("sys.argv", ["page.py"])
        runpy.run_path("page.py", run_name="__main__")
    return said.getvalue()
