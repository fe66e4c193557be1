"""Pyrometer."""
