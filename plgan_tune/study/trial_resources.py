"""The resources of a trial, and how many trials fit on nodes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from plgan_tune.config.study import Placement


@dataclass(frozen=True, slots=True)
class TrialResources:
    """The resources of each rank of a trial, and where its ranks may be placed: see `ResourcesSpec`."""

    ranks: int
    cpus: float
    gpus: float
    accelerator: str | None = None
    placement: Placement = "pack"

    def bundles(self) -> list[dict[str, float]]:
        """Return the bundles of the trial's placement group, one per rank."""
        bundle = {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})
        if self.accelerator:
            bundle[f"{ACCELERATOR}{self.accelerator}"] = SOME
        return [dict(bundle) for _ in range(self.ranks)]

    def fits(self, node: Mapping[str, float]) -> int:
        """Return how many ranks a node with these resources holds. Ranks that share a GPU share a whole one."""
        if not self.may_be_on(node):
            return 0
        by_cpu = _times(node.get("CPU", 0.0), self.cpus)
        if not self.gpus:
            return by_cpu
        gpus = node.get("GPU", 0.0)
        by_gpu = int(gpus) * _times(1.0, self.gpus) if self.gpus < 1 else _times(gpus, self.gpus)
        return min(by_cpu, by_gpu)

    def may_be_on(self, node: Mapping[str, float]) -> bool:
        """Return whether a node with these resources has the requested accelerator."""
        return not self.accelerator or f"{ACCELERATOR}{self.accelerator}" in node

    def trials_on(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """Return how many whole trials these nodes hold at once."""
        fits = [self.fits(node) for node in nodes]
        match self.placement:
            case "pack":
                return sum(fits) // self.ranks
            case "strict_pack":
                return sum(ranks // self.ranks for ranks in fits)
            case "strict_spread":
                # As many trials as can each place all ranks on different nodes; a node holds one rank of each.
                most = sum(fits) // self.ranks
                return max(n for n in range(most + 1) if sum(min(ranks, n) for ranks in fits) >= n * self.ranks)

    def __str__(self) -> str:
        kind = f" of {self.accelerator}" if self.accelerator else ""
        where = {"pack": "", "strict_pack": " on one host", "strict_spread": " on different hosts"}[self.placement]
        return (
            f"{self.ranks} x ({self.cpus:g} CPU" + (f", {self.gpus:g} GPU{kind})" if self.gpus else f"{kind})") + where
        )


ACCELERATOR = "accelerator_type:"
"""Prefix of an accelerator's name: a resource of which Ray gives 1 to each node that has the accelerator."""

SOME = 0.001
"""Share of such a resource: it places a rank on that node and leaves enough for all others there."""


def _times(whole: float, part: float) -> int:
    """Return how often `part` fits into `whole`; 0.1 fits into 1 ten times, despite binary rounding."""
    return int(whole / part + 1e-9)
