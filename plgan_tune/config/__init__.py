"""Space files and configurations: domains, keys, defaults, checks and loading."""
