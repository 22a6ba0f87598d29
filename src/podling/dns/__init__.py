"""Cluster DNS: `records` knows the names, `server` answers."""
