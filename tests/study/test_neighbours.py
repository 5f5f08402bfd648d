"""Other searches of the machine are known by their command lines."""

import subprocess
import sys

from plgan_tune.study.neighbours import in_words, other_searches


def test_they_are_known_however_they_were_started() -> None:
    python = "/usr/bin/python3"
    processes = [
        (9, [python, "-m", "plgan_tune.search", "--name", "a"]),
        (3, [python, "/venv/bin/plgan-tune", "evaluate", "results/a"]),
        (5, [python, "plgan_tune/train.py"]),
        (7, [python, "-m", "plgan_tune.analyze", "results/search"]),
        (8, ["vim", "plgan_tune/searching.txt"]),
        (1, []),
        (4, [python, "-m", "plgan_tune.search"]),
    ]
    assert in_words(processes, me=4) == ["evaluate, process 3", "train, process 5", "search, process 9"]


def test_a_living_one_is_found() -> None:
    words = [sys.executable, "-c", "input()", "-m", "plgan_tune.search"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as other:
        try:
            assert f"search, process {other.pid}" in other_searches()
        finally:
            other.kill()
