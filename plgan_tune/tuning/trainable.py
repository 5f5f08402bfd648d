"""A trial as Ray Tune sees it: one epoch a step, its process, ranks and data kept from trial to trial."""

from datetime import UTC, datetime
from typing import Any

import ray
from ray import tune

from plgan_tune.records import TrialStatus
from plgan_tune.training.ranks import ALONE
from plgan_tune.tuning.gang import Gang
from plgan_tune.tuning.rank import Result, TrialRank, device_for


class PlganTrainable(tune.Trainable):
    """One trial: of one rank in this process, of several in a gang of actors.

    Its config is a suggestion of `OptunaSampler` and what the study shares: `study` (its URL), `ranks`, `cpus`, `gpus`
    and `max_failures`. `failures` counts those of the trial's earlier attempts: Ray counts a lost node, and we do not.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._rank: TrialRank | Gang | None = None
        self._take_up(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._take_up(new_config)
        return True

    def _take_up(self, config: dict[str, Any]) -> None:
        self._given_up = _has_failed_for_good(config)
        if self._given_up is not None:
            return
        if self._rank is None:
            ranks, cpus, gpus = config["ranks"], config["cpus"], config["gpus"]
            node = ray.util.get_node_ip_address()
            self._rank = TrialRank(ALONE, device_for(gpus), node) if ranks == 1 else Gang(ranks, cpus, gpus)
        self._rank.begin(config)

    def step(self) -> Result:
        if self._given_up is not None:
            return self._given_up
        assert self._rank is not None
        return self._rank.step()

    def cleanup(self) -> None:
        """Also called when the search is asked to stop: the trial goes on from here at a resume."""
        if self._rank is None:
            return
        self._rank.save()
        if isinstance(self._rank, Gang):
            self._rank.end()


def _has_failed_for_good(config: dict[str, Any]) -> Result | None:
    """The last result of a trial that has failed once too often."""
    if config["failures"] <= config["max_failures"]:
        return None
    return {
        "status": TrialStatus.FAILED.value,
        "error": config["last_error"],
        "attempt": config["attempt"],
        "node": ray.util.get_node_ip_address(),
        "reported_at": datetime.now(UTC),
        "done": True,
    }
