"""Baseline: no paths of the node are mounted."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import BASELINE, Check, Forbidden, Revision, named

ID = "hostPathVolumes"


def _v1_0(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    bad = [volume.name for volume in spec.volumes or () if volume.host_path is not None]
    return Forbidden("hostPath volumes", named("volume", bad)) if bad else None


CHECK = Check(ID, BASELINE, (Revision(0, _v1_0),))
