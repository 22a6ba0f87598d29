"""Strategies of the apiregistration group."""
