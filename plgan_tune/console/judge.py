"""The judge of generated images in words."""

from typing import Final

from plgan_tune.console.format import percent
from plgan_tune.study.judge_facts import JudgeFacts

ERRS_OFTEN: Final = 0.1


def judge_in_words(judge: JudgeFacts) -> str:
    """Return what it has learned from, how well, and the distance that a perfect generator could reach."""
    return (
        f"{judge.labels:,} labels, error {percent(judge.error)} on the validation images; "
        f"val_distance of real images {judge.floor:.2f}"
    )


def note_on_judge(judge: JudgeFacts) -> str | None:
    """Return a warning if it errs often; None if it does not."""
    if judge.error <= ERRS_OFTEN:
        return None
    return (
        f"the judge errs on {percent(judge.error)} of the validation images: val_distance, val_coverage and val_score "
        "tell little of what a person would see"
    )
