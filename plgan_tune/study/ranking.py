"""The ranking of trials."""

from collections.abc import Iterable

from plgan_tune.records import TrialRow, TrialStatus


def rank(rows: Iterable[TrialRow]) -> list[TrialRow]:
    """Return the completed trials, the lowest error at the LAST epoch first; of equals, the first suggested.

    A minimum over noisy epochs is luck, and the final error of a stopped trial is unknown.
    """
    completed = [
        (row.val_error_last, row.number, row)
        for row in rows
        if row.status is TrialStatus.COMPLETED and row.val_error_last is not None
    ]
    return [row for _, _, row in sorted(completed, key=lambda entry: entry[:2])]
