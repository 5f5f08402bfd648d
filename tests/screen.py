"""What stands on a terminal after a command has written to it: as much of one as rich's pictures ask for."""

import re
from typing import Final

_CONTROL: Final = re.compile(r"\x1b\[(\??)(\d*)(?:;\d+)*([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


def lines_on_screen(written: str) -> list[str]:
    """The lines, without those that were taken back; no line is broken, whatever the terminal's width."""
    lines, row, column = [""], 0, 0
    for private, count, command, start, end, text in _CONTROL.findall(written):
        if text:
            lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
            column += len(text)
        elif start:
            column = 0
        elif end:
            row, column = row + 1, 0  # as a terminal's line discipline has it
            lines += [""] * (row == len(lines))
        elif command == "A":
            row = max(0, row - int(count or 1))
        elif command == "K":
            lines[row] = ""
        else:
            assert command in "mhl" or private, f"what is ESC [ {count} {command}?"
    return [line.rstrip() for line in lines]
