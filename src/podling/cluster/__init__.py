"""Puts a cluster together: which parts run, in which process, with which certificates, in which data directory."""
