"""What cluster/ tells its reader, done on a machine of its own: the commands by hand, Slurm's script, `ray job`."""

import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.waiting import epochs_in, wait_for_epochs, wait_until

pytestmark = [pytest.mark.root, pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "cluster" / "README.md").read_text(encoding="utf-8")

EPOCHS = 8
SPACE = f"""
study: tiny
search: {{confirm: null, trials: 999, concurrent: 2, sampler: random, early_stopping: none}}
resources: {{gpus_per_rank: 0}}
trial:
  data: {{source: digits, labels: 20, validation: 200}}
  model: {{width: 0.05}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}, switch_epoch: 6}}
  training: {{epochs: {EPOCHS}, batch_size: 10, checkpoint_every: 1}}
"""
"""It never ends by itself, however fast the machine: what goes on with it is told how many trials are enough."""

Machines = Callable[[Path], AbstractContextManager[Any]]
Whole = Callable[[Path, int, int], None]


def block(heading: str, place: int = 0) -> list[str]:
    """The commands of a block of the README's section, or of the text above all sections."""
    section = README.partition(f"\n## {heading}\n")[2] if heading else README
    fences = re.findall(r"```sh\n(.*?)```", section.partition("\n## ")[0], flags=re.DOTALL)
    commands: list[str] = fences[place].splitlines()
    return commands


def one_more(study: Path) -> tuple[int, list[str]]:
    """A number of trials, one more than were begun, and the options that set it."""
    trials = int(pd.read_parquet(study / "trials")["number"].max()) + 2
    return trials, ["--set", f"search.trials={trials}"]


def test_the_readme_s_commands_bring_up_two_nodes_and_search_on_them(machine: Machines, tmp_path: Path) -> None:
    """As printed, in one shell; only the number of trials is cut."""
    commands = [*block("", 1), *block("Two processes of this machine")]
    assert [command.split()[0] for command in commands] == ["ray", "chmod", "export", "ray", "ray", "python", "ray"]
    shorter = [f"{line} --set search.trials=3" if "plgan_tune.search" in line else line for line in commands]
    with machine(tmp_path / "home") as host:
        said = host.run("bash", "-euxc", "\n".join(shorter), folder=tmp_path, timeout=420)
        processes = host.run("ps", "-e", "-o", "args")
    assert "2 at a time on 2 nodes" in said
    trials = pd.read_parquet(tmp_path / "results" / "two-nodes" / "trials")
    assert int(trials["replicate_of"].isna().sum()) == 3
    assert "raylet" not in processes


STUBS = {
    "scontrol": 'if [ "$1" = show ]; then echo node1; echo node2; else echo "$*" >> "$CALLS"; fi',
    "srun": 'echo "$*" >> "$CALLS"; while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "hostname": "echo 127.0.0.1 ::1",
}
"""Slurm with two nodes, both of them this machine."""


def test_slurm_sh_searches_on_its_nodes_and_goes_on_after_a_requeue(
    machine: Machines, tmp_path: Path, assert_whole: Whole
) -> None:
    programs, calls, said = tmp_path / "bin", tmp_path / "calls.txt", tmp_path / "said.txt"
    programs.mkdir()
    for name, body in STUBS.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "space.yaml").write_text(SPACE)
    study = tmp_path / "studies" / "mine"
    with machine(tmp_path / "home") as host:
        environ = {"PATH": f"{programs}:{host.environ['PATH']}", "CALLS": str(calls), "RESULTS": str(study.parent)}
        environ |= {"STUDY": "mine", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_CPUS_PER_TASK": "1"}
        script = ["bash", str(ROOT / "cluster" / "slurm.sh"), "--space", "space.yaml"]

        first = host.start(*script, said=said, folder=tmp_path, **environ)
        wait_for_epochs(first, study, 3, said)
        host.signal(first, signal.SIGUSR1)
        assert first.wait(timeout=120) == 130, said.read_text()
        assert any(line.endswith("--name mine --resume") for line in said.read_text().splitlines())
        assert not (study / "_lock.json").exists()
        assert "requeue 7" in calls.read_text().splitlines()
        wait_until(lambda: "raylet" not in host.run("ps", "-e", "-o", "args"), "every step's end", said)

        trials, fewer = one_more(study)
        again = host.start(*script, *fewer, said=said, folder=tmp_path, **environ)
        assert again.wait(timeout=600) == 0, said.read_text()
    starts = [line for line in calls.read_text().splitlines() if " start " in line]
    placed = sorted(("--head" in line, *re.findall(r"--nodelist=(\w+)", line)) for line in starts)
    assert placed == [(False, "node2")] * 2 + [(True, "node1")] * 2
    assert "2 at a time on 2 nodes" in said.read_text()
    assert_whole(study, trials, EPOCHS)
    tokens = re.findall(r"\b[0-9a-f]{64}\b", said.read_text() + calls.read_text())
    assert tokens == []


def check_a_token_is_asked_for(host: Any) -> None:
    for environ in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong"}):
        refused = subprocess.run(
            host.words("python", "-m", "plgan_tune.search", "--address", "127.0.0.1:6379", "--name", "mine"),
            env={**host.environ, **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert refused.returncode == 2, refused.stdout + refused.stderr
        told = " ".join(refused.stderr.split())
        assert "--address 127.0.0.1:6379: the cluster refuses this token" in told
        assert "RAY_AUTH_MODE=token" in told
        assert "~/.ray/auth_token" in told
        assert "Traceback" not in told


def test_ray_job_stop_stops_a_search_that_then_goes_on(machine: Machines, tmp_path: Path, assert_whole: Whole) -> None:
    """Submitted with the folder's files; what the log prints is submitted again. Nobody else's token does it."""
    work, said = tmp_path / "work", tmp_path / "said.txt"
    work.mkdir()
    (work / "space.yaml").write_text(SPACE)
    study = tmp_path / "studies" / "mine"
    search = "python -m plgan_tune.search --space space.yaml --address auto"
    options = f"--results {study.parent} --name mine --resume"
    submit = ["ray", "job", "submit", "--working-dir", ".", "--submission-id"]
    environ = {"RAY_AUTH_MODE": "token", "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:8265"}
    with machine(tmp_path / "home") as host:

        def run(*words: str, **more: str) -> str:
            return str(host.run(*words, folder=work, timeout=600, **environ, **more))

        run("ray", "get-auth-token", "--generate")
        head = "ray start --head --port=6379 --num-cpus=2 --dashboard-host=127.0.0.1"
        run(*head.split(), RAY_JOB_STOP_WAIT_TIME_S="60")
        check_a_token_is_asked_for(host)
        run(*submit, "one", "--no-wait", "--", *search.split(), *options.split())
        try:
            wait_until(lambda: epochs_in(study) >= 3, "three epochs", said)
        except AssertionError as late:
            raise AssertionError(run("ray", "job", "logs", "one")) from late
        run("ray", "job", "stop", "one")
        log = run("ray", "job", "logs", "one")
        assert "STOPPED" in run("ray", "job", "status", "one").upper()
        goes_on = [line.strip() for line in log.splitlines() if line.startswith("  ") and line.endswith("--resume")]
        assert goes_on, log
        assert set(goes_on) == {goes_on[0]}
        assert "Traceback" not in log
        assert "interrupted, this run took" in log
        assert not (study / "_lock.json").exists()
        trials, fewer = one_more(study)
        run(*submit, "two", "--", *shlex.split(goes_on[0]), *fewer)
        assert "two" in run("ray", "job", "list")
    assert_whole(study, trials, EPOCHS)
