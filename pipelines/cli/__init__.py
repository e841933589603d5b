"""Command line: parameters, progress and exit codes of every command."""
