"""One file a check of the Pod Security Standards; each has its `CHECK`."""
