"""A trial as Ray Tune sees it: one epoch a step, its process and data kept from trial to trial."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import ray
import torch
from ray import tune

from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.records import EpochMetrics, TrialStatus
from plgan_tune.spec.trial import DataSpec, TrialSpec
from plgan_tune.training.loop import Diverged, epochs
from plgan_tune.training.state import new_state


class PlganTrainable(tune.Trainable):
    """One trial of one rank. Its config is a suggestion of `OptunaSampler`.

    A result holds the fields of `EpochMetrics`, and `status`, `attempt`, `split_hash`, `node`, `reported_at`. A
    diverged trial's last result has `error` and no metrics.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._data: Dataset | None = None
        self._data_spec: DataSpec | None = None
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(max(1, int(config["cpus"])))
        trial = TrialSpec.model_validate(config["trial"])
        if self._data is None or trial.data != self._data_spec:
            self._data, self._data_spec = load_dataset(trial.data).to(self._device), trial.data
        self._trial, self._attempt = trial, config["attempt"]
        self._epochs: Iterator[EpochMetrics] = epochs(new_state(trial, self._data, self._device), self._data)

    def step(self) -> dict[str, Any]:
        try:
            metrics = next(self._epochs)
        except Diverged as error:
            return self._result(TrialStatus.DIVERGED) | {"error": str(error)}
        last = metrics.epoch == self._trial.training.epochs
        return asdict(metrics) | self._result(TrialStatus.COMPLETED if last else TrialStatus.RUNNING)

    def _result(self, status: TrialStatus) -> dict[str, Any]:
        assert self._data is not None
        return {
            "status": status.value,
            "attempt": self._attempt,
            "split_hash": self._data.split.hash,
            "node": ray.util.get_node_ip_address(),
            "reported_at": datetime.now(UTC),
            "done": status is not TrialStatus.RUNNING,
        }
