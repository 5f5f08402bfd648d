"""A trial's files: ours are known by name, and nothing else is ever removed."""

from plgan_tune.store.checkpoints import TrialFiles, trials_with_files
from plgan_tune.store.location import Location


def test_what_a_user_puts_beside_a_checkpoint_stays(study: Location) -> None:
    files = TrialFiles.of(study, "t0000")
    files.write(1, 5, b"checkpoint")
    files.write_samples(b"png")
    files.location.join("notes.txt").write_text("mine")
    files.location.join("deep", "attempt-001-epoch-000005.pt").write_text("mine, too")
    study.join("checkpoints", "my_model", "weights.ckpt").write_text("years of work")
    study.join("checkpoints", "README").write_text("mine")
    for name in trials_with_files(study):
        TrialFiles.of(study, name).remove()
    assert trials_with_files(study) == ["README", "my_model", "t0000"]
    assert files.location.list() == ["deep", "notes.txt"]
    assert files.location.join("deep").list() == ["attempt-001-epoch-000005.pt"]
    assert study.join("checkpoints", "my_model").list() == ["weights.ckpt"]


def test_a_trial_s_own_files_go_and_its_folder_with_them(study: Location) -> None:
    files = TrialFiles.of(study, "t0000")
    files.write(1, 5, b"checkpoint")
    files.write_samples(b"png")
    files.write_grid(5, b"png")
    files.write_steps(b"png")
    files.location.join("_attempt-001-epoch-000006.pt.tmp").write_bytes(b"half a")
    files.location.join(f"_samples-epoch-000006.png.{'0' * 32}.tmp").write_bytes(b"half a")
    files.remove()
    assert trials_with_files(study) == []


def names(files: TrialFiles) -> list[str]:
    return [file.name for file in files.newest_first()]


def test_the_last_whole_checkpoint_stays_until_a_later_one_is_there(study: Location) -> None:
    files = TrialFiles.of(study, "t0000")
    first = files.write(1, 5, b"whole")
    damaged = files.write(1, 10, b"damaged since", first)
    assert names(files) == [damaged, first]
    second = files.write(2, 6, b"after a fall back on the first", first)
    assert names(files) == [second, first]
    third = files.write(2, 7, b"whole", second)
    assert names(files) == [third, second]


def test_an_attempt_without_a_checkpoint_to_fall_back_on_removes_none(study: Location) -> None:
    files = TrialFiles.of(study, "t0000")
    unread = files.write(1, 10, b"of a newer version")
    anew = files.write(2, 1, b"begun anew")
    assert names(files) == [anew, unread]


def test_an_attempt_that_ends_late_leaves_its_followers_checkpoints(study: Location) -> None:
    files = TrialFiles.of(study, "t0000")
    first = files.write(1, 5, b"whole")
    later = files.write(2, 6, b"of the next attempt", first)
    late = files.write(1, 7, b"of an attempt that was taken for dead", first)
    assert names(files) == [later, late, first]


def test_what_a_killed_attempt_left_unfinished_goes_with_the_next_write(study: Location) -> None:
    files = TrialFiles.of(study, "t0000")
    files.location.join(f"_attempt-001-epoch-000006.pt.{'0' * 32}.tmp").write_bytes(b"half a")
    files.location.join("_my notes.tmp").write_text("mine")
    name = files.write(2, 6, b"whole")
    assert files.location.list() == ["_my notes.tmp", name]


def test_a_grid_is_known_by_its_epoch_and_a_later_one_replaces_it(study: Location) -> None:
    files = TrialFiles.of(study, "t0000")
    assert (files.grids(), files.steps()) == ({}, None)
    for epoch, png in ((10, b"ten"), (5, b"five"), (10, b"ten again")):
        files.write_grid(epoch, png)
    files.write_samples(b"raw")
    files.write_steps(b"steps")
    files.location.join("samples-epoch-mine.png").write_bytes(b"mine")
    assert list(files.grids().items()) == [(5, b"five"), (10, b"ten again")]
    assert (files.samples(), files.steps()) == (b"raw", b"steps")
    files.remove()
    assert files.location.list() == ["samples-epoch-mine.png"]
