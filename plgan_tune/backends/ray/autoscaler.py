"""Read from the configuration file of Ray's autoscaler which nodes it may add to the cluster."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

OPTION = "--autoscaling-config="


@dataclass(frozen=True, slots=True)
class Growth:
    """The nodes that an autoscaler may run.

    Attributes:
        nodes: The resources of every node that its node types allow, one entry per node, without the head.
        most: How many of them it may run at a time.
    """

    nodes: tuple[Mapping[str, float], ...]
    most: int


def read_growth(gcs_address: str) -> Growth | None:
    """Return the growth of the cluster at `gcs_address`; None if no autoscaler runs or it may add no node.

    Ray does not report the autoscaler's limits, but starts it on the head with a configuration file. The file is found
    if this process runs on the head, as with `--address auto` and `ray job submit`. KubeRay has no such file.
    """
    for path in _configs(gcs_address):
        try:
            config = YAML(typ="safe", pure=True).load(path)
        except (OSError, YAMLError):
            continue
        growth = growth_of(config)
        if growth.most > 0:
            return growth
    return None


def growth_of(config: Mapping[str, Any]) -> Growth:
    """Return the growth that an autoscaler's file (the cluster file of `ray up`) allows."""
    types = config.get("available_node_types") or {}
    head = config.get("head_node_type")
    nodes: list[Mapping[str, float]] = []
    for name, kind in types.items():
        if name != head:
            nodes += [kind.get("resources") or {}] * kind.get("max_workers", config.get("max_workers", 0))
    return Growth(tuple(nodes), min(config.get("max_workers", len(nodes)), len(nodes)))


def _configs(gcs_address: str) -> Iterator[Path]:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if f"--gcs-address={gcs_address}" in words:
            yield from (Path(word.removeprefix(OPTION)).expanduser() for word in words if word.startswith(OPTION))
