"""`study.yaml` in a study's folder: the resolved study and its provenance."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from plgan_tune.config.edition import MADE_WITH
from plgan_tune.config.errors import SpecError, show
from plgan_tune.config.load import load_study_document
from plgan_tune.config.study import StudySpec
from plgan_tune.config.yaml import dump_yaml, read_yaml
from plgan_tune.store.location import Location, StoreError
from plgan_tune.study.judge_facts import JUDGE, JudgeFacts

STUDY_FILE: Final = "study.yaml"
"""It exists from a study's beginning."""

STUDY_ID: Final = "study_id"
"""Key of a study's first start."""


IMAGES: Final = "images"
"""Key of each start: the fingerprint of its images. Earlier versions wrote none."""


@dataclass(frozen=True, slots=True)
class StudyFile:
    """The file's content. The file is also a valid space file.

    Attributes:
        spec: the study as its last start resolved it.
        starts: time and versions of each start; the first has the study's id.
    """

    spec: StudySpec
    starts: tuple[Mapping[str, Any], ...] = ()

    @property
    def study_id(self) -> str | None:
        """The id that its tables carry; None for a study from before ids existed."""
        return self.starts[0].get(STUDY_ID) if self.starts else None

    @property
    def judge(self) -> JudgeFacts | None:
        """What measures its generated images; None for a study from before that, or of data without labels.

        Raises:
            ValueError: if a start holds something else.
        """
        held = [start[JUDGE] for start in self.starts if JUDGE in start]
        return JudgeFacts.of(held[-1]) if held else None

    def with_judge(self, judge: JudgeFacts) -> "StudyFile":
        """Return the file with a judge of its last start."""
        *earlier, last = self.starts
        return replace(self, starts=(*earlier, {**last, JUDGE: judge.as_mapping()}))

    def write(self, study: Location) -> None:
        """Write the file into the study's folder."""
        document = {**self.spec.as_mapping(), MADE_WITH: [dict(start) for start in self.starts]}
        study.join(STUDY_FILE).write_text(dump_yaml(document))


def read_study_file(study: Location) -> StudyFile:
    """Read the file of the study in this folder.

    Raises:
        StoreError: if it does not exist, cannot be read, or is of another version.
    """
    file = study.join(STUDY_FILE)
    if study.local and study.local.is_file():
        raise StoreError(f"a study is a folder, but {study.url} is a file")
    if not file.exists():
        if not study.exists():
            raise StoreError(f"a study is a folder, but there is no {study.url}")
        raise StoreError(f"a study's folder holds {STUDY_FILE}, but {study.url} does not")
    document = read_yaml(file.read_text())
    try:
        spec = load_study_document(document, file.url).study
    except SpecError as error:
        raise StoreError(f"not a study that this version of plgan-tune can read:\n{error}") from error
    starts = document.value.get(MADE_WITH)
    starts = [] if starts is None else starts
    if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
        where = f"{file.url}:{document.lines[MADE_WITH,]}: {MADE_WITH}"
        raise StoreError(f"{where}: must be a list of mappings, but got {show(starts)}")
    held = StudyFile(spec, tuple(starts))
    if not isinstance(held.study_id, str | None):
        raise StoreError(f"{file.url}: {STUDY_ID} of the first start must be text, but got {show(held.study_id)}")
    try:
        held.judge  # noqa: B018 - refused here, so that no reader need be ready for it
    except ValueError as error:
        raise StoreError(f"{file.url}: {JUDGE} of a start {error}") from error
    return held
