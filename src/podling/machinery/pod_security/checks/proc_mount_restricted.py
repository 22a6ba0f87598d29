"""Restricted: what /proc tells of the node stays masked in all pods, as the baseline wanted before v1.35."""

from __future__ import annotations

from podling.machinery.pod_security.check import RESTRICTED, Check, Revision
from podling.machinery.pod_security.checks import proc_mount_baseline

CHECK = Check("procMount_restricted", RESTRICTED, (Revision(35, proc_mount_baseline.v1_0, (proc_mount_baseline.ID,)),))
