"""The search: sampler, warm start, dry run and the driver."""
