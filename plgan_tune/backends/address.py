"""Addresses of Ray clusters, as far as they can be checked without Ray."""

from plgan_tune.backends.errors import ClusterError


def check_protocol(address: str) -> None:
    """Raises ClusterError where the address is one of Ray Client."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"--address takes auto or host:port, but got {address}: Ray Client would take the display and the "
            "results away from this machine; run the search on the cluster with "
            "`ray job submit --address http://HOST:8265 -- python -m plgan_tune.search --address auto ...`"
        )
