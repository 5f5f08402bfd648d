"""A trial as Ray Tune sees it: one epoch a step, its process, ranks and data kept from trial to trial."""

from typing import Any

import ray
from ray import tune

from plgan_tune.backends.ray.gang import Gang
from plgan_tune.backends.trial_worker import Result, TrialRank, device_for
from plgan_tune.training.ranks import ALONE


class PlganTrainable(tune.Trainable):
    """One trial: of one rank in this process, of several in a gang of actors.

    Its config is a suggestion of `OptunaSampler` and what the study shares: `study` (its URL), `ranks`, `cpus` and
    `gpus`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._rank: TrialRank | Gang | None = None
        self._next: dict[str, Any] | None = None
        self._take_up(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The trial is taken up in its first step: one that breaks, or is lost, here would have failed for good."""
        self._next = new_config
        return True

    def _take_up(self, config: dict[str, Any]) -> None:
        if self._rank is None:
            ranks, cpus, gpus = config["ranks"], config["cpus"], config["gpus"]
            node = ray.util.get_node_ip_address()
            self._rank = TrialRank(ALONE, device_for(gpus), node) if ranks == 1 else Gang(ranks, cpus, gpus)
        self._rank.begin(config)

    def step(self) -> Result:
        if self._next is not None:
            config, self._next = self._next, None
            self._take_up(config)
        assert self._rank is not None
        return self._rank.step()

    def cleanup(self) -> None:
        """Also called when the search is asked to stop: the trial goes on from here at a resume."""
        if self._rank is None:
            return
        if self._next is None:
            self._rank.save()
        if isinstance(self._rank, Gang):
            self._rank.end()
