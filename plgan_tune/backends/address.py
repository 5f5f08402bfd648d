"""Check addresses of Ray clusters without importing Ray."""

from plgan_tune.backends.errors import ClusterError


def check_protocol(address: str) -> None:
    """Refuse the address of a Ray Client server.

    Raises:
        ClusterError: If the address starts with `ray://`.
    """
    if address.startswith("ray://"):
        raise ClusterError(
            f"--address takes auto or host:port, but got {address}: Ray Client would take the display and the "
            "results away from this machine; run the search on the cluster with "
            "`ray job submit --address http://HOST:8265 -- python -m plgan_tune.search --address auto ...`"
        )
