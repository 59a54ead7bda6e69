"""The command line: text in, text out, no logic. One file per command."""
