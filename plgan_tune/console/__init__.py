"""The terminal: display, number formats, shell commands, exit statuses and signals."""
