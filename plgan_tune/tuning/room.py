"""How full the cluster is while a search runs, and why a trial waits."""

from dataclasses import dataclass

from plgan_tune.tuning.share import Share


@dataclass(frozen=True, slots=True)
class Room:
    """The cluster as it stands.

    Attributes:
        share: what each rank of a trial takes.
        at_a_time: trials that the search runs together where there is room.
        nodes: addresses of the living nodes.
        gpus: of all of them, and `busy` of these, whoever uses them.
        holds: trials that the living nodes hold together.
        most_busy: GPUs that were ever seen busy.
    """

    share: Share
    at_a_time: int
    nodes: tuple[str, ...]
    gpus: float
    busy: float
    holds: int
    largest: float
    most_busy: float = 0.0

    def why_waiting(self) -> str:
        """Why a trial that does not run has to wait."""
        share = self.share
        if self.holds:
            return f"each needs {share}, and the {_nodes(len(self.nodes))} of now hold {self.holds}"
        if share.gpus and share.placement == "strict_pack":
            needed = share.ranks * share.gpus
            return f"each needs {needed:g} GPUs on one host, the largest has {self.largest:g}"
        return f"each needs {share}, and no node of now has that"

    def __str__(self) -> str:
        gpus = f", {self.busy:g} of {self.gpus:g} GPUs busy" if self.gpus else ""
        return f"{_nodes(len(self.nodes))} ({', '.join(self.nodes)}){gpus}"


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count != 1)}"
