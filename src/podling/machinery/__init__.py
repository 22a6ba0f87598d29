"""Algorithms over API objects: patches, schema, validation helpers. Pure: nothing here waits or does I/O."""
