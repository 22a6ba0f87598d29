"""Strategies, kind by kind."""
