"""What the user reads, at several widths, in colour and without."""

import io
import re
import shlex
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from plgan_tune.console.display import (
    LiveDisplay,
    PlainDisplay,
    Screen,
    build_display,
    print_summary,
)
from plgan_tune.records import TrialStatus
from plgan_tune.study.cluster_status import ClusterStatus
from plgan_tune.study.history import History
from plgan_tune.study.state import Ending, StudyState
from plgan_tune.study.trial_resources import TrialResources
from tests.factories import START, make_metrics, make_trial

NOW = START + timedelta(seconds=100)
RESULTS = "results/digits-20260101-000000"


def terminal(width: int = 80, height: int = 24, **options: Any) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=True, _environ={}, **options)


def pipe() -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=False, _environ={})


def text(console: Console) -> str:
    """What was printed, without colours."""
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def train(state: StudyState, number: int, errors: list[float], ramp: float = 1.0) -> str:
    trial_id = f"t{number:04d}"
    params = {
        "loss.alpha": 0.123456789,
        "loss.beta": 0.5,
        "loss.switch_epoch": 20,
        "optim.lr_discriminator": 3e-4,
        "optim.lr_generator": 2e-3,
        "optim.decay_epoch": 40,
    }
    state.start(trial_id, number, params, 0, START)
    for epoch, error in enumerate(errors, start=1):
        metrics = make_metrics(epoch, error, val_error_raw=error + 0.01, ramp=ramp, seconds=1.0)
        reported_at = START + timedelta(seconds=epoch)
        state.epoch(trial_id, 1, metrics, reported_at=reported_at, node=None, split_hash=None)
    return trial_id


@pytest.fixture
def state() -> StudyState:
    """Of 24 trials: 1 completed, 1 stopped, 1 diverged, 1 failed, 2 running; 30 of 100 s gone a trial."""
    state = StudyState("digits", trials=24, epochs=60, started_at=START)
    state.end(train(state, 0, [0.5] * 59 + [0.1528]), TrialStatus.COMPLETED, NOW)
    state.end(train(state, 1, [0.6] * 20), TrialStatus.STOPPED, NOW)
    state.end(train(state, 2, [0.9] * 4), TrialStatus.DIVERGED, NOW, "loss_feature is nan in epoch 5")
    state.end(train(state, 3, []), TrialStatus.FAILED, NOW, "RuntimeError: out of memory")
    train(state, 4, [0.9, 0.5, 0.4, 0.3])
    train(state, 5, [0.9, 0.8], ramp=0.25)
    return state


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_the_screen_holds_the_counts_the_best_the_time_and_a_line_a_running_trial(
    state: StudyState, width: int
) -> None:
    console = terminal(width)
    console.print(Screen(state, NOW))
    shown = text(console)
    assert max(map(len, shown.splitlines())) <= width
    if width >= 80:
        for words in ("4 of 24", "1 completed", "1 stopped", "1 diverged", "1 failed", "2 running"):
            assert words in shown.replace("\N{NO-BREAK SPACE}", " ")
        assert "15.28 % by t0000" in shown
        assert "alpha\N{NO-BREAK SPACE}0.123" in shown
        assert "running for 1 min 40 s · about" in shown
        (t4,) = [line for line in shown.splitlines() if line.startswith("t0004")]
        (t5,) = [line for line in shown.splitlines() if line.startswith("t0005")]
        assert re.search(r"4/60 +30.00 % +█▃▂▁ +switched", t4)
        assert max(len(t4), len(t5)) <= width - len("^C^C")  # which a terminal writes behind them
        assert re.search(r"2/60 +80.00 % +█▁ +w 0.25", t5)
        assert shown.splitlines().index(t5) == shown.splitlines().index(t4) + 1


def test_the_counts_of_one_study_take_one_line_of_80_columns(state: StudyState) -> None:
    console = terminal(80)
    console.print(Screen(state, NOW))
    (line,) = [line for line in text(console).splitlines() if line.startswith("trials")]
    assert line.rstrip().endswith("running")


@pytest.mark.parametrize("height", [8, 12, 24])
def test_more_trials_than_lines_are_counted(height: int) -> None:
    state = StudyState("digits", trials=50, epochs=60, started_at=START)
    for number in range(40):
        train(state, number, [0.5])
    console = terminal(80, height)
    console.print(Screen(state, NOW))
    lines = text(console).splitlines()
    shown = sum(line.startswith("t00") for line in lines)
    assert len(lines) <= height
    assert f"and {40 - shown} more" in lines
    assert shown >= 1


def test_a_budget_of_epochs_is_part_of_what_is_to_be_done() -> None:
    """And of the time that is left: sixty epochs took a hundred seconds, and sixty may still come."""
    state = StudyState("digits", trials=24, epochs=60, started_at=START, budget=120)
    state.end(train(state, 0, [0.5] * 60), TrialStatus.COMPLETED, NOW)
    assert state.time_left(NOW) == timedelta(seconds=100)
    plain, console = pipe(), terminal()
    with PlainDisplay(plain, state, lambda: NOW, lambda: None):
        assert "study digits: 24 trials of 60 epochs, at most 120 in all" in text(plain)
    print_summary(console, state, NOW, results=RESULTS, ending=Ending.OUT_OF_EPOCHS)
    assert "digits: out of epochs, this run took" in text(console)
    assert "60 trained of at most 120" in text(console)


def test_a_study_without_any_event_can_be_shown() -> None:
    console = terminal()
    console.print(Screen(StudyState("digits", trials=24, epochs=60, started_at=START), START))
    assert "0 of 24 · the first are starting" in text(console)
    assert "none completed yet" in text(console)


def test_colour_obeys_no_color(state: StudyState) -> None:
    coloured, plain = terminal(color_system="standard"), terminal(color_system="standard", no_color=True)
    for console in (coloured, plain):
        console.print(Screen(state, NOW))
    codes = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
    assert isinstance(coloured.file, io.StringIO)
    assert isinstance(plain.file, io.StringIO)
    assert codes.search(coloured.file.getvalue())
    assert not codes.search(plain.file.getvalue())
    assert text(plain).count("15.28 %") == 1


def test_live_on_a_terminal_plain_elsewhere(state: StudyState) -> None:
    console = terminal()
    with build_display(console, state, lambda: NOW) as display:
        assert isinstance(display, LiveDisplay)
        display.progressed(state.trial("t0004"))
    assert "4 of 24" in text(console)
    assert isinstance(build_display(pipe(), state, lambda: NOW), PlainDisplay)


def test_plain_lines_tell_of_endings_and_new_bests_but_not_of_epochs() -> None:
    state = StudyState("digits", trials=3, epochs=60, started_at=START)
    console = pipe()
    with build_display(console, state, lambda: NOW) as display:
        for number, (error, status) in enumerate(
            [(0.2, TrialStatus.COMPLETED), (0.3, TrialStatus.COMPLETED), (0.1, TrialStatus.STOPPED)]
        ):
            trial_id = train(state, number, [error] * 3)
            display.started(state.trial(trial_id))
            for _ in range(3):
                display.progressed(state.trial(trial_id))
            display.ended(state.end(trial_id, status, NOW))
    lines = text(console).splitlines()
    assert lines[0] == "study digits: 3 trials of 60 epochs"
    assert lines[1].startswith("[1/3] t0000 completed, 20.00 % after 3 epochs; about")
    assert lines[2].startswith("new best: t0000 20.00 % with alpha\N{NO-BREAK SPACE}0.123, beta")
    assert lines[3].startswith("[2/3] t0001 completed, 30.00 %")
    assert lines[4].startswith("[3/3] t0002 stopped, 10.00 %")
    assert len(lines) == 5


def test_plain_lines_say_why_a_trial_broke_and_that_it_starts_again(state: StudyState) -> None:
    console = pipe()
    with build_display(console, state, lambda: NOW) as display:
        display.ended(state.trial("t0002"))
        state.lost("t0004", "OSError: [gone]")
        display.started(state.start("t0004", 4, {}, 0, NOW))
    assert "t0002 diverged, 90.00 % after 4 epochs: loss_feature is nan in epoch 5" in text(console)
    assert "t0004 starts again, attempt 2: OSError: [gone]" in text(console)


def cluster(**changes: Any) -> ClusterStatus:
    """Two nodes of two GPUs each, three of them busy, with trials of four GPUs on one host."""
    share = TrialResources(4, 1, 1, placement="strict_pack")
    known = ClusterStatus(
        share, 3, ("10.0.0.1", "10.0.0.2"), gpus=4, largest=2, busy=3, holds=0, free=0, waiting=2, most_busy=4
    )
    return replace(known, **changes)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (cluster(), "2 trials: each needs 4 GPUs on one host, the largest has 2"),
        (
            cluster(waiting=1, share=TrialResources(1, 8, 0)),
            "1 trial: each needs 1 x (8 CPU), and no current node has that",
        ),
        (cluster(share=TrialResources(1, 1, 4)), "2 trials: each needs 4 GPUs on one host, the largest has 2"),
        (
            cluster(waiting=1, share=TrialResources(1, 1, 1, "H100"), largest=0),
            "1 trial: each needs 1 GPU of H100 on one host, the largest has 0",
        ),
        (
            cluster(waiting=1, share=TrialResources(2, 8, 1, placement="strict_pack")),
            "1 trial: each needs 2 x (8 CPU, 1 GPU) on one host, and no current node has that",
        ),
        (
            cluster(share=TrialResources(2, 1, 1), holds=2),
            "2 trials: each needs 2 x (1 CPU, 1 GPU); room for 2 at once, "
            "taken by trials that train or start, or by others",
        ),
    ],
)
def test_the_screen_says_which_nodes_how_busy_and_why_trials_wait(
    state: StudyState, now: ClusterStatus, told: str
) -> None:
    console = terminal(120)
    console.print(Screen(state, NOW, now))
    rows = [line.rstrip() for line in text(console).splitlines()]
    assert "cluster  2 nodes (10.0.0.1, 10.0.0.2), 3 of 4 GPUs busy" in rows
    assert f"waiting  {told}" in rows


def test_the_screen_says_nothing_of_waiting_where_no_trial_does(state: StudyState) -> None:
    console = terminal(120)
    console.print(Screen(state, NOW, cluster(waiting=0)))
    assert "waiting" not in text(console)


def test_plain_lines_tell_of_nodes_and_waiting_when_they_change(state: StudyState) -> None:
    console, seen = pipe(), [cluster(waiting=0)]
    with build_display(console, state, lambda: NOW, lambda: seen[-1]) as display:
        for now in (cluster(waiting=0), cluster(), cluster(), cluster(nodes=("10.0.0.1",), waiting=0)):
            seen.append(now)
            display.looked()
    assert text(console).splitlines() == [
        "study digits: 24 trials of 60 epochs, 3 at a time on 2 nodes (10.0.0.1, 10.0.0.2), 3 of 4 GPUs busy",
        "waiting: 2 trials: each needs 4 GPUs on one host, the largest has 2",
        "now on 1 node (10.0.0.1), 3 of 4 GPUs busy",
        "no trial waits for resources any more",
    ]


def test_the_summary_names_the_nodes_the_gpus_and_who_found_no_room() -> None:
    state = StudyState("digits", trials=3, epochs=1, started_at=START)
    for number, node in enumerate(["10.0.0.2", "10.0.0.1", "10.0.0.2"]):
        trial_id = f"t{number:04d}"
        state.start(trial_id, number, {}, 0, START)
        state.epoch(trial_id, 1, make_metrics(1, 0.5, ramp=1.0), reported_at=NOW, node=node, split_hash=None)
        state.end(trial_id, TrialStatus.COMPLETED, NOW)
    console = terminal(120)
    print_summary(console, state, NOW, results=RESULTS, cluster=cluster())
    rows = [line.strip("│ ") for line in text(console).splitlines()]
    assert "nodes    10.0.0.1 (1 trial), 10.0.0.2 (2 trials)" in rows
    assert "GPUs     at most 4 of 4 busy" in rows
    assert "waiting  2 trials: each needs 4 GPUs on one host, the largest has 2" in rows


def test_a_trial_is_idle_before_its_start_and_while_it_is_lost() -> None:
    state = StudyState("digits", trials=3, epochs=60, started_at=START)
    assert state.idle(2) == 2
    train(state, 0, [0.5])
    train(state, 1, [0.5])
    assert state.idle(2) == 0
    state.lost("t0001", "its node has died")
    assert state.idle(2) == 1
    state.start("t0001", 1, {}, 0, NOW)
    assert state.idle(2) == 0
    for trial_id in ("t0000", "t0001"):
        state.end(trial_id, TrialStatus.COMPLETED, NOW)
    assert state.idle(2) == 1


def test_the_next_command_names_what_an_evaluation_compares_with(state: StudyState) -> None:
    for reference in ("the patent's settings", "the settings of gp_wirgan"):
        console = terminal(120)
        print_summary(console, state, NOW, results=RESULTS, reference=reference)
        assert f"Train the best three and {reference} on five new seeds, and test them:" in text(console)


@pytest.mark.parametrize("width", [80, 120])
def test_the_summary_holds_the_best_configuration_and_what_the_search_did(state: StudyState, width: int) -> None:
    console = terminal(width)
    print_summary(console, state, NOW, results=RESULTS, python=".venv/bin/python")
    shown = text(console)
    rows = [line.strip("│ ") for line in shown.splitlines()]
    assert "val_error         15.28 % by t0000, averaged weights (raw 16.28 %)" in rows
    assert "alpha             0.123457" in rows
    assert "lr_discriminator  0.0003" in rows
    assert "switch_epoch      20" in rows
    assert "trials   2 unfinished, 1 completed, 1 stopped, 1 diverged, 1 failed" in rows
    assert "epochs   90 trained of at most 1,440; early stopping saved 40" in rows
    assert f"results  {RESULTS}" in rows
    assert f"  .venv/bin/python -m plgan_tune.train --config {RESULTS}/best.yaml" in shown.splitlines()
    assert "--resume" not in shown


@pytest.mark.parametrize("results", [RESULTS, "s3://lake/a b/it's", 'quo"te', "$HOME/`x`"])
def test_commands_can_be_typed_as_they_stand_at_any_width(state: StudyState, results: str) -> None:
    console = terminal(30)
    resume = "python -m plgan_tune.search --name x --resume --set trial.data.path=/a/long/way/down"
    print_summary(console, state, NOW, results=results, resume=resume)
    commands = [shlex.split(line) for line in text(console).splitlines() if line.startswith("  ")]
    go_on, best, seeds, look = commands
    assert go_on == shlex.split(resume)
    assert best == ["python", "-m", "plgan_tune.train", "--config", f"{results}/best.yaml"]
    assert seeds == ["python", "-m", "plgan_tune.evaluate", results]
    assert look == ["python", "-m", "plgan_tune.analyze", results]


@pytest.mark.parametrize("ending", list(Ending))
def test_the_summary_says_how_the_search_came_to_its_end(state: StudyState, ending: Ending) -> None:
    console = terminal()
    print_summary(console, state, NOW, results=RESULTS, ending=ending)
    assert f"digits: {ending}, this run took" in text(console)


def test_a_search_without_a_completed_trial_has_no_best_configuration() -> None:
    state = StudyState("digits", trials=2, epochs=60, started_at=START)
    state.end(train(state, 0, [0.9]), TrialStatus.STOPPED, NOW)
    console = terminal()
    print_summary(console, state, NOW, results=RESULTS)
    assert "No trial completed" in text(console)
    assert "plgan_tune.train" not in text(console)


def test_a_leaf_that_two_keys_share_is_shown_with_its_path() -> None:
    state = StudyState("digits", trials=2, epochs=1, started_at=START)
    state.start("t0000", 0, {"a.seed": 1, "b.seed": 2, "b.width": 0.5}, 0, START)
    state.epoch("t0000", 1, make_metrics(1, 0.5, ramp=1.0), reported_at=NOW, node=None, split_hash=None)
    state.end("t0000", TrialStatus.COMPLETED, NOW)
    console = terminal()
    print_summary(console, state, NOW, results=RESULTS)
    rows = [line.strip("│ ").split() for line in text(console).splitlines()]
    assert ["a.seed", "1"] in rows
    assert ["b.seed", "2"] in rows
    assert ["width", "0.5"] in rows


def test_time_left_follows_what_ended_trials_took(state: StudyState) -> None:
    # 90 epochs in 100 s; ended trials took 60, 20, 4, 0: 21 on average; 18 to start, 17 and 19 to finish
    left = state.time_left(NOW)
    assert left is not None
    assert left.total_seconds() == pytest.approx((18 * 21 + 17 + 19) * 100 / 90)
    state.deadline = NOW + timedelta(seconds=9)
    assert state.time_left(NOW) == timedelta(seconds=9)
    assert state.time_left(NOW + timedelta(seconds=60)) == timedelta()


def test_a_resume_knows_what_is_there_before_its_first_trial_starts() -> None:
    rows = (make_trial(0, TrialStatus.COMPLETED, error=0.2), make_trial(1))
    state = StudyState("digits", trials=3, epochs=1, started_at=START, history=History(rows))
    console, plain = terminal(), pipe()
    print_summary(console, state, NOW, results=RESULTS, ending=Ending.INTERRUPTED)
    lines = [line.strip("│ ") for line in text(console).splitlines()]
    assert "trials   1 unfinished, 1 completed, 0 stopped, 0 diverged, 0 failed" in lines
    assert "epochs   2 trained of at most 3" in lines
    with PlainDisplay(plain, state, lambda: NOW, lambda: None) as display:
        state.start("t2", 2, {"loss.alpha": 0.5}, 0, NOW)
        display.ended(state.end("t2", TrialStatus.STOPPED, NOW))
    assert "[2/3] t2 stopped" in text(plain)
    assert "new best" not in text(plain)


def test_trials_that_do_not_compete_have_no_best() -> None:
    state = StudyState("seeds", trials=1, epochs=2, started_at=START, competing=False)
    live, plain = terminal(), pipe()
    with PlainDisplay(plain, state, lambda: NOW, lambda: None) as display:
        display.ended(state.end(train(state, 0, [0.5, 0.4]), TrialStatus.COMPLETED, NOW))
    live.print(Screen(state, NOW))
    assert "[1/1] t0000 completed, 40.00 % after 2 epochs" in text(plain)
    assert "best" not in text(plain)
    assert "best" not in text(live)


def test_a_stop_is_part_of_the_picture_which_anything_printed_would_tear(
    state: StudyState, capfd: pytest.CaptureFixture[str]
) -> None:
    console = terminal(100)
    with LiveDisplay(console, state, lambda: NOW, lambda: None) as display:
        display.stopping("trials save")
    assert "stopping  trials save" in text(console)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("quiet", "said"), [(False, "\nstopping: trials save\n"), (True, "")])
def test_a_stop_is_said_at_once_where_there_is_no_picture(
    state: StudyState, capfd: pytest.CaptureFixture[str], quiet: bool, said: str
) -> None:
    console = Console(file=io.StringIO(), quiet=quiet)
    with PlainDisplay(console, state, lambda: NOW, lambda: None) as display:
        display.stopping("trials save")
    assert capfd.readouterr().out == said


def test_the_start_of_ray_is_no_part_of_the_pace() -> None:
    """It may take as long as the first trial."""
    left = []
    for ray_took in (timedelta(), timedelta(hours=1)):
        state = StudyState("digits", trials=24, epochs=60, started_at=START - ray_took)
        state.end(train(state, 0, [0.5] * 60), TrialStatus.COMPLETED, NOW)
        left.append(state.time_left(NOW))
    assert left == [timedelta(seconds=23 * 100)] * 2


def test_a_trial_that_goes_on_is_shown_with_its_whole_course() -> None:
    known = replace(make_trial(0), epochs=2)
    history = History((known,), curves={known.trial_id: {1: 0.75, 2: 0.5, 3: 0.9}})
    state = StudyState("digits", trials=1, epochs=4, started_at=START, history=history)
    state.start(known.trial_id, 0, known.params, 0, NOW)
    assert state.curve(known.trial_id) == (0.75, 0.5)
    state.epoch(known.trial_id, 2, make_metrics(3, 0.25, ramp=1.0), reported_at=NOW, node=None, split_hash=None)
    assert state.curve(known.trial_id) == (0.75, 0.5, 0.25)


@pytest.mark.parametrize(("environ", "kind"), [({"TERM": "xterm"}, LiveDisplay), ({"TERM": "dumb"}, PlainDisplay)])
def test_a_terminal_that_cannot_go_back_gets_lines(state: StudyState, environ: dict[str, str], kind: type) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, _environ=environ)
    assert isinstance(build_display(console, state, lambda: NOW), kind)


def test_a_silent_trial_is_named_with_what_is_known(state: StudyState) -> None:
    state.silent["t0005"] = "no report for 40 s, where 10 usual epochs take 3 s"
    console = terminal(120)
    console.print(Screen(state, NOW))
    shown = text(console).splitlines()
    (line,) = [line for line in shown if line.startswith("silent")]
    assert "t0005: no report for 40 s, where 10 usual epochs take 3 s" in line
    (t4,) = [line.rstrip() for line in shown if line.startswith("t0004")]
    (t5,) = [line.rstrip() for line in shown if line.startswith("t0005")]
    assert t4.endswith("switched")
    assert t5.endswith("silent")
    plain = pipe()
    with build_display(plain, state, lambda: NOW) as display:
        display.silent("t0005")
    assert "t0005 is silent: no report for 40 s, where 10 usual epochs take 3 s" in text(plain)


def test_notes_on_trials_stand_in_the_picture_the_lines_and_the_summary(state: StudyState) -> None:
    notes = [f"t000{number}: its checkpoint is damaged" for number in range(5)]
    state.notes.extend(notes)
    live, plain, end = terminal(100), pipe(), terminal(100)
    live.print(Screen(state, NOW))
    shown = [line for line in text(live).splitlines() if line.startswith("note")]
    assert [line.split(maxsplit=1)[1].rstrip() for line in shown] == notes[-3:]
    with build_display(plain, state, lambda: NOW) as display:
        display.noted(notes[0])
    assert f"note: {notes[0]}" in text(plain)
    print_summary(end, state, NOW, results=RESULTS)
    said = text(end)
    assert all(note in said for note in notes[:3])
    assert notes[3] not in said
    assert "2 more" in said
