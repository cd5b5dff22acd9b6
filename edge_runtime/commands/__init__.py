"""Subcommands that run on the device."""
