"""The root of podling's error tree.

    PodlingError                    a person can act upon it; str(error) is one sentence that says what to do
    ├── api.errors.StatusError      an API failure: becomes a metav1.Status with its HTTP code and reason
    ├── store.base.StoreError       the log of bytes refused (conflict, compacted, unavailable)
    ├── runtime.base.RuntimeError_  containers, sandboxes
    ├── images.errors.ImageError    references, registries, archives
    └── cluster.errors.ClusterError starting and stopping a cluster

The command line prints a PodlingError's sentence and exits 1; anything else is a bug and keeps its traceback.
"""


class PodlingError(Exception):
    """A failure with a sentence for the person who can mend it."""


def system_text(error: OSError) -> str:
    """A failed system call as people read it in events: `/a/file: no space left on device`."""
    text = (error.strerror or str(error)).lower()
    return f"{error.filename}: {text}" if error.filename else text
