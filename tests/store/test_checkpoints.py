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
    files.location.join("_attempt-001-epoch-000006.pt.tmp").write_bytes(b"half a")
    files.remove()
    assert trials_with_files(study) == []
