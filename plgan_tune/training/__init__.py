"""The engine: state, steps, ranks, epochs and checkpoints of one trial."""
