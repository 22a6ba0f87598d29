"""Admission: plugins that may change or refuse a write, one in a file."""
