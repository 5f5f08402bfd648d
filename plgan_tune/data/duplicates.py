"""Images that are the same once decoded: with a copy of a validation image in training, val_error is a lie."""

import numpy as np
from numpy.typing import NDArray

from plgan_tune.data.decode import Hashes
from plgan_tune.data.half import NO_LABEL, Rows

Groups = NDArray[np.int64]
"""(n,) a number for each image, equal for those that are the same."""


def groups_of(*parts: Hashes) -> tuple[Groups, ...]:
    """Return the groups of the images of each part: equal numbers are equal hashes, across all parts."""
    joined = np.ascontiguousarray(np.concatenate(parts)).view([("high", np.uint64), ("low", np.uint64)]).ravel()
    _, group = np.unique(joined, return_inverse=True)
    ends = np.cumsum([len(part) for part in parts])
    return tuple(np.split(group.astype(np.int64), ends[:-1]))


def one_of_each(groups: Groups, labels: Rows) -> Rows:
    """Return the rows, ascending, of the first image of each group; with a label, if one of the group has one.

    Args:
        groups: (n,) from `groups_of`.
        labels: (n,), -1 for none.
    """
    labelled_first = np.argsort(labels == NO_LABEL, kind="stable")
    _, first = np.unique(groups[labelled_first], return_index=True)
    return np.sort(labelled_first[first])


def also_in(of: Groups, among: Groups) -> int:
    """Return how many images of `of` are among the others."""
    return int(np.isin(of, among).sum())


def torn(groups: Groups, labels: Rows) -> int:
    """Return how many groups have images of more than one class."""
    known = labels != NO_LABEL
    pairs = np.unique(np.stack([groups[known], labels[known]], axis=1), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())
