"""Strategies of the scheduling group."""
