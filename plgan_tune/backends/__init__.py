"""Back-ends that train trials: in this process, or on Ray."""
