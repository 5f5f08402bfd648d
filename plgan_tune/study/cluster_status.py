"""How full the cluster is while a search runs, and why trials wait."""

from dataclasses import dataclass

from plgan_tune.study.trial_resources import TrialResources


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The current state of the cluster.

    Attributes:
        share: what each rank of a trial takes.
        at_a_time: trials that the search runs at once if there is room.
        nodes: addresses of the living nodes.
        gpus: GPUs of all nodes.
        largest: GPUs of the node with the most GPUs of the requested accelerator.
        busy: GPUs in use, by this search or others.
        holds: trials that the living nodes hold at once.
        free: trials that there is room for now.
        waiting: trials without room.
        most_busy: highest number of GPUs seen in use.
    """

    share: TrialResources
    at_a_time: int
    nodes: tuple[str, ...]
    gpus: float
    largest: float
    busy: float
    holds: int
    free: int
    waiting: int = 0
    most_busy: float = 0.0

    def why_waiting(self) -> str:
        """Return a sentence such as `2 trials: each needs 4 GPUs on one host, the largest has 2`."""
        trials = f"{self.waiting} trial{'s' * (self.waiting != 1)}"
        share = self.share
        if self.holds:
            taken = "taken by trials that train or start, or by others"
            return f"{trials}: each needs {share}; room for {self.holds} at once, {taken}"
        on_one = share.ranks * share.gpus
        if (share.ranks == 1 or share.placement == "strict_pack") and self.largest < on_one:
            kind = f" of {share.accelerator}" if share.accelerator else ""
            needs = f"{on_one:g} GPU{'s' * (on_one > 1)}{kind} on one host"
            return f"{trials}: each needs {needs}, the largest has {self.largest:g}"
        return f"{trials}: each needs {share}, and no current node has that"

    def __str__(self) -> str:
        count = len(self.nodes)
        gpus = f", {self.busy:g} of {self.gpus:g} GPUs busy" if self.gpus else ""
        return f"{count} node{'s' * (count != 1)} ({', '.join(self.nodes)}){gpus}"
