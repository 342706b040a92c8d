"""The hub's process beside its listeners: directory, commands, check, backups, figures."""
