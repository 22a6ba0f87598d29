"""Who this server is, in metrics of what several servers of a cluster do each for themselves."""

from __future__ import annotations

import hashlib

#: The label `apiserver_id_hash`.
IDENTITY = f"sha256:{hashlib.sha256(b'kube-apiserver').hexdigest()}"
