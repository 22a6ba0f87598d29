"""Strategies of the events group."""
