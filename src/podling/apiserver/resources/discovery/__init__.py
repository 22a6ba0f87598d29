"""Strategies of the discovery group."""
