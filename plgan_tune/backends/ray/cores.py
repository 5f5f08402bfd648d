"""The cores of this machine that this process may use."""

import os

from joblib import cpu_count

from plgan_tune.backends.errors import ClusterError

SLURM = "SLURM_CPUS_PER_TASK"


def allowed_cores() -> int:
    """Return how many cores a search of this process may use: Ray by itself counts all that the machine has.

    The fewest of: its affinity (taskset, cpusets), the quota of its cgroup (containers), LOKY_MAX_CPU_COUNT, which
    joblib's cpu_count knows, and Slurm's SLURM_CPUS_PER_TASK. OMP_NUM_THREADS tells the threads of one process, and is
    1 on many machines with many cores.

    Raises:
        ClusterError: If Slurm's variable is no whole number above 0.
    """
    cores: int = cpu_count()
    told = os.environ.get(SLURM)
    if told is None:
        return cores
    if not told.isdecimal() or int(told) < 1:
        raise ClusterError(f"{SLURM} must be a whole number above 0, but got {told!r}")
    return min(cores, int(told))
