"""What a trial takes of a cluster, and what of it fits on nodes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from plgan_tune.config.study import Placement


@dataclass(frozen=True, slots=True)
class TrialResources:
    """What each rank of a trial takes, and where its ranks may be: see `ResourcesSpec`."""

    ranks: int
    cpus: float
    gpus: float
    accelerator: str | None = None
    placement: Placement = "pack"

    def bundles(self) -> list[dict[str, float]]:
        """The trial's placement group, one bundle a rank."""
        bundle = {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})
        if self.accelerator:
            bundle[f"{ACCELERATOR}{self.accelerator}"] = SOME
        return [dict(bundle) for _ in range(self.ranks)]

    def fits(self, node: Mapping[str, float]) -> int:
        """How many ranks a node with these resources holds. Ranks that share a GPU share a whole one."""
        if not self.may_be_on(node):
            return 0
        by_cpu = _times(node.get("CPU", 0.0), self.cpus)
        if not self.gpus:
            return by_cpu
        gpus = node.get("GPU", 0.0)
        by_gpu = int(gpus) * _times(1.0, self.gpus) if self.gpus < 1 else _times(gpus, self.gpus)
        return min(by_cpu, by_gpu)

    def may_be_on(self, node: Mapping[str, float]) -> bool:
        """Whether a node with these resources is of the accelerator that was asked for."""
        return not self.accelerator or f"{ACCELERATOR}{self.accelerator}" in node

    def trials_on(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """How many whole trials these nodes hold together."""
        fits = [self.fits(node) for node in nodes]
        match self.placement:
            case "pack":
                return sum(fits) // self.ranks
            case "strict_pack":
                return sum(ranks // self.ranks for ranks in fits)
            case "strict_spread":
                # So many trials as that each finds its ranks on different nodes; a node holds one rank of each.
                most = sum(fits) // self.ranks
                return max(n for n in range(most + 1) if sum(min(ranks, n) for ranks in fits) >= n * self.ranks)

    def __str__(self) -> str:
        kind = f" of {self.accelerator}" if self.accelerator else ""
        where = {"pack": "", "strict_pack": " on one host", "strict_spread": " on different hosts"}[self.placement]
        return (
            f"{self.ranks} x ({self.cpus:g} CPU" + (f", {self.gpus:g} GPU{kind})" if self.gpus else f"{kind})") + where
        )


ACCELERATOR = "accelerator_type:"
"""Before the name of an accelerator: a resource of which Ray gives each node that has some 1."""

SOME = 0.001
"""Of such a resource: enough to be on that node, and little enough for all that are there."""


def _times(whole: float, part: float) -> int:
    """How often `part` goes into `whole`; 0.1 goes into 1 ten times, whatever binary fractions say."""
    return int(whole / part + 1e-9)
