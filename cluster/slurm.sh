#!/usr/bin/env bash
# A search on one Slurm allocation of any number of nodes: the first runs Ray's head and the search, all train.
#   STUDY=cifar10 RESULTS=/shared/studies sbatch --nodes=4 cluster/slurm.sh --space search_spaces/cifar10.yaml
# Before the time is over the search stops, the job goes back into the queue, and there goes on with its study.
#SBATCH --job-name=plgan-tune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
set -euo pipefail

results=${RESULTS:-results}
study=${STUDY:-slurm-$SLURM_JOB_ID}
python=${PYTHON:-python}  # of an environment that every node sees; `ray` is called through it
ray=("$python" -m ray.scripts.scripts)

# A secret of this job alone. srun passes the environment on to every node, and nothing writes it down.
RAY_AUTH_TOKEN=$("$python" -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
cpus=${SLURM_CPUS_PER_TASK:-1}
export SRUN_CPUS_PER_TASK=$cpus  # which srun no longer takes from sbatch

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
# The first address that other nodes reach; a port of this job's own.
ip=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname -I |
    awk '{for (i = 1; i <= NF; i++) if ($i !~ /^127\.|:/) {print $i; exit} print $1; exit}')
address=$ip:$((20000 + SLURM_JOB_ID % 20000))

# Each `ray start --block` is a step of the job, and ends with it.
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    "${ray[@]}" start --head --block --node-ip-address="$ip" --port="${address#*:}" --num-cpus="$cpus" \
    --dashboard-host=127.0.0.1 &
for node in "${nodes[@]:1}"; do
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" \
        "${ray[@]}" start --block --address="$address" --num-cpus="$cpus" &
done

# The search counts the nodes that are there when it starts.
"$python" - "$address" "${#nodes[@]}" <<'END'
import sys, time, ray
address, wanted = sys.argv[1], int(sys.argv[2])
for _ in range(300):
    try:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        break
    except (ConnectionError, RuntimeError):
        time.sleep(1)
else:
    sys.exit(f"no Ray head answers at {address}")
for _ in range(300):
    if sum(node["Alive"] for node in ray.nodes()) >= wanted:
        sys.exit()
    time.sleep(1)
sys.exit(f"only {sum(node['Alive'] for node in ray.nodes())} of {wanted} nodes have joined {address}")
END

"$python" -m plgan_tune.search --address "$address" --results "$results" --name "$study" --resume "$@" &
search=$!
asked=
trap 'asked=yes; kill -USR1 "$search" 2>/dev/null || true' USR1
trap 'kill -TERM "$search" 2>/dev/null || true' TERM  # scancel: stop, and stay stopped
while kill -0 "$search" 2>/dev/null; do
    wait "$search" || true  # a signal ends it early
done
status=0
wait "$search" || status=$?
if [[ -n $asked && $status -eq 130 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
jobs -p | xargs -r kill 2>/dev/null || true
exit "$status"
