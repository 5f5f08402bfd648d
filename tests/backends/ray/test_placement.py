"""Where Ray puts the trials of a mixed cluster, by its own table of placement groups. The GPUs are declared only."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import ray

from plgan_tune.backends.ray.connect import capacity
from plgan_tune.backends.ray.tune_run import placement_of
from plgan_tune.config.load import study_from_mapping
from plgan_tune.study.trial_resources import ACCELERATOR

ROOT = Path(__file__).resolve().parents[3]

NODES: Mapping[str, Mapping[str, Any]] = {
    "H100": {"num_cpus": 5, "num_gpus": 1, "resources": {f"{ACCELERATOR}H100": 1}},
    "A100": {"num_cpus": 5, "num_gpus": 1, "resources": {f"{ACCELERATOR}A100": 1}},
    "none": {"num_cpus": 2},
}
"""By the kind of their GPU. Where one is shared by four, it is not for want of a CPU that a fifth waits."""

CASES: Mapping[str, tuple[Mapping[str, Any], list[str]]] = {
    "a kind of GPU": ({"accelerator": "H100"}, ["H100"]),
    "a quarter of a kind": ({"accelerator": "H100", "gpus_per_rank": 0.25}, ["H100"] * 4),
    "a quarter of any": ({"gpus_per_rank": 0.25}, ["A100"] * 4 + ["H100"] * 4),
    "auto is a whole one": ({}, ["A100", "H100"]),
    "no GPU": ({"gpus_per_rank": 0}, ["A100"] * 5 + ["H100"] * 5 + ["none"] * 2),
    "a kind of node, no GPU": ({"accelerator": "H100", "gpus_per_rank": 0}, ["H100"] * 5),
    "a gang of two": ({"ranks": 2}, ["A100", "H100"]),
    "a gang on two hosts": ({"ranks": 2, "placement": "strict_spread", "gpus_per_rank": 0.5}, ["A100", "H100"] * 2),
}
"""`resources`, and the nodes of all ranks of all trials that find room, sorted. One trial more always waits."""


def place(resources: Mapping[str, Any]) -> tuple[list[str], str]:
    """The nodes of as many trials as the cluster is said to hold, and what Ray says of one more, asked for then."""
    study = study_from_mapping({"study": "s", "resources": dict(resources), "trial": DIGITS})
    share, holds = capacity(study.resources, "auto")
    groups = [placement_of(share)() for _ in range(holds)]
    end = time.monotonic() + 30
    while any(told(group)["state"] != "CREATED" for group in groups):
        assert time.monotonic() < end, f"{resources}: {[told(group)['state'] for group in groups]}"
        time.sleep(0.05)
    one_more = placement_of(share)()
    while (state := told(one_more)["stats"]["scheduling_state"]) in ("QUEUED", "SCHEDULING_STARTED"):
        assert time.monotonic() < end, f"{resources}: one more is {state}"
        time.sleep(0.05)
    kinds = [kind_of(node) for group in groups for node in told(group)["bundles_to_node_id"].values()]
    for group in [one_more, *groups]:
        ray.util.remove_placement_group(group)
    return kinds, state


def told(group: Any) -> Mapping[str, Any]:
    table: Mapping[str, Any] = ray.util.placement_group_table(group)
    return table


def kind_of(node_id: str) -> str:
    (node,) = (node for node in ray.nodes() if node["NodeID"] == node_id)
    return next((name.removeprefix(ACCELERATOR) for name in node["Resources"] if name.startswith(ACCELERATOR)), "none")


DIGITS = {"data": {"source": "digits", "labels": 20, "validation": 200}}


@pytest.mark.ray
@pytest.mark.slow
def test_trials_are_where_they_may_be_and_one_more_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cases on one cluster. They are asked for in a process of its own: pytest's may have another Ray."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - seconds

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for node in NODES.values():
            nodes.add_node(**node)
        asked = subprocess.run(
            [sys.executable, __file__, nodes.address],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        nodes.shutdown()
    assert asked.returncode == 0, asked.stdout + asked.stderr
    placed = json.loads(asked.stdout.splitlines()[-1])
    found = {case: (sorted(kinds), one_more) for case, (kinds, one_more) in placed.items()}
    assert found == {case: (sorted(kinds), "NO_RESOURCES") for case, (_, kinds) in CASES.items()}


def answer(address: str) -> str:
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    return json.dumps({case: place(resources) for case, (resources, _) in CASES.items()})


if __name__ == "__main__":
    sys.stdout.write(answer(sys.argv[1]))
