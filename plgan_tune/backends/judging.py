"""The judge in the folder of a study or a training: trained once, by whoever has the images, and read by all ranks."""

import hashlib

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.store.judge import JUDGE_FILE, read_judge
from plgan_tune.store.location import Location, StoreError
from plgan_tune.study.judge_facts import JudgeFacts
from plgan_tune.training.judge import Judge, JudgeError, decode_judge, judge_of


def keep_judge(folder: Location, spec: DataSpec, data: Dataset) -> bytes | None:
    """Return the folder's judge; if there is none yet, write that of these data. None if they have too few labels.

    Raises:
        StoreError: if the file cannot be read or written, or holds something else.
    """
    content = read_judge(folder)
    if content is None:
        content = judge_of(spec, data)
        if content is not None:
            folder.join(JUDGE_FILE).write_bytes(content)
    elif decoded(folder, content).image != (data.channels, data.size):
        raise _unusable(folder, f"{folder.join(JUDGE_FILE).url} is of images of another shape")
    return content


def decoded(folder: Location, content: bytes) -> Judge:
    """Return the judge that the folder's file holds.

    Raises:
        StoreError: if it is damaged, or of another version.
    """
    try:
        return decode_judge(content, folder.join(JUDGE_FILE).url)
    except JudgeError as error:
        raise _unusable(folder, str(error)) from error


def facts_of(folder: Location, content: bytes) -> JudgeFacts:
    """Return what is told of the folder's judge.

    Raises:
        StoreError: as `decoded`.
    """
    judge = decoded(folder, content)
    return JudgeFacts(hashlib.sha256(content).hexdigest(), judge.labels, judge.error, judge.floor)


def _unusable(folder: Location, why: str) -> StoreError:
    return StoreError(f"{why}; put a copy back, or remove the file from {folder.url} to train another")
