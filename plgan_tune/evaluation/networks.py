"""The networks of an evaluation's trials: the checkpoints of their last epochs, and the user's own file of them."""

from plgan_tune.gan.own import Own
from plgan_tune.records import TrialRow
from plgan_tune.store.checkpoints import TrialFiles
from plgan_tune.store.location import Location
from plgan_tune.store.own import own_copy
from plgan_tune.trained import own_of, read_checkpoint
from plgan_tune.training.checkpoint import Checkpoint, CheckpointError


def last_checkpoint(location: Location, row: TrialRow) -> Checkpoint:
    """Read the checkpoint of the last epoch; a store that failed at a trial's end may hold an earlier one or none.

    Args:
        location: the evaluation's folder.
        row: the trial.

    Raises:
        StoreError: if there is none, or it cannot be read.
        CheckpointError: if it is damaged or of an earlier epoch.
    """
    folder = TrialFiles.of(location, row.trial_id).location
    checkpoint = read_checkpoint(folder)
    if checkpoint.content["epoch"] != row.epochs:
        raise CheckpointError(
            f"{folder.url} must hold a checkpoint of epoch {row.epochs}, the trial's last, but its newest is of epoch "
            f"{checkpoint.content['epoch']}"
        )
    return checkpoint


def own_networks(location: Location, checkpoint: Checkpoint) -> Own | None:
    """Return the user's own file that builds the networks, from the evaluation's copy; None if none does."""
    if checkpoint.trial.model.kind != "own":
        return None
    copy = own_copy(location, str(checkpoint.trial.own.sha256))
    return own_of(checkpoint, copy.read_bytes(), copy.url)
