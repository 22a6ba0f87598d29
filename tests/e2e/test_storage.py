"""Claims of the default class: data outlives pods, and goes with its claim."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.harness import IMAGE, Kubectl, eventually

#: As charts have it: no class is named, and the container is not root's.
MANIFEST = f"""
apiVersion: v1
kind: Service
metadata: {{name: db, labels: {{app.kubernetes.io/name: db}}}}
spec: {{clusterIP: None, selector: {{app.kubernetes.io/name: db}}, ports: [{{port: 5432}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db, labels: {{app.kubernetes.io/name: db}}}}
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app.kubernetes.io/name: db}}}}
  template:
    metadata: {{labels: {{app.kubernetes.io/name: db}}}}
    spec:
      terminationGracePeriodSeconds: 0
      securityContext: {{runAsUser: 1001, runAsNonRoot: true, fsGroup: 1001}}
      containers:
      - name: db
        image: {IMAGE}
        command: [sh, -c, "hostname >> /data/started; exec sleep 1000"]
        volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 8Gi}}}}}}
"""


def test_data_outlives_pods_and_goes_with_its_claim(kubectl: Kubectl, data: Path) -> None:
    kubectl("apply", "-f", "-", input=MANIFEST)
    kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    first = kubectl.json("get", "pod", "db-0")["metadata"]["uid"]
    kubectl("delete", "statefulset", "db", "--timeout=30s")
    kubectl("wait", "--for=delete", "pod/db-0", "pod/db-1", "--timeout=30s")
    kubectl("apply", "-f", "-", input=MANIFEST)
    kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    assert kubectl.json("get", "pod", "db-0")["metadata"]["uid"] != first
    for pod in ("db-0", "db-1"):
        assert kubectl("exec", pod, "--", "cat", "/data/started") == f"{pod}\n{pod}\n"
    claims = kubectl.json("get", "pvc")["items"]
    assert {c["spec"]["storageClassName"] for c in claims} == {"standard"}
    volumes = [kubectl.json("get", "pv", c["spec"]["volumeName"]) for c in claims]
    directories = [Path(v["spec"]["local"]["path"]) for v in volumes]
    assert len(directories) == 2
    for directory in directories:
        assert directory.is_relative_to(data / "nodes")
        assert (directory / "started").exists()
    kubectl("delete", "statefulset", "db", "--timeout=30s")
    kubectl("delete", "pvc", "--all", "--timeout=60s")
    eventually(lambda: not any(d.exists() for d in directories))
    for volume in volumes:
        kubectl("wait", "--for=delete", f"pv/{volume['metadata']['name']}", "--timeout=30s")
