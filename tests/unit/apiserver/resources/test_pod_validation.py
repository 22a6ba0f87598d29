"""Pods: what is wrong with them, in upstream's words."""

from typing import Any

import pytest

from apiserver.resources.make import created, findings


def pod(spec: dict[str, Any] | None = None, container: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    containers = [{"name": "a", "image": "nginx", **(container or {})}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", **meta},
        "spec": {"containers": containers, **(spec or {})},
    }


def test_a_minimal_pod_is_valid() -> None:
    assert findings(pod()) == []


VOLUME = {"volumes": [{"name": "v", "emptyDir": {}}]}


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({"name": ""}, ["spec.containers[0].name: Required value"]),
        ({"image": ""}, ["spec.containers[0].image: Required value"]),
        (
            {"image": " nginx"},
            ['spec.containers[0].image: Invalid value: " nginx": must not have leading or trailing whitespace'],
        ),
        (
            {"imagePullPolicy": "Sometimes"},
            [
                'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": '
                'supported values: "Always", "IfNotPresent", "Never"'
            ],
        ),
        ({"ports": [{"containerPort": 0}]}, ["spec.containers[0].ports[0].containerPort: Required value"]),
        (
            {"ports": [{"containerPort": 70000}]},
            ["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
        ),
        (
            {"ports": [{"containerPort": 1, "protocol": "X"}]},
            ['spec.containers[0].ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"'],
        ),
        (
            {"ports": [{"containerPort": 1, "name": "x"}, {"containerPort": 2, "name": "x"}]},
            ['spec.containers[0].ports[1].name: Duplicate value: "x"'],
        ),
        (
            {"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]},
            ['spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//5"'],
        ),
        ({"env": [{"value": "x"}]}, ["spec.containers[0].env[0].name: Required value"]),
        (
            {"env": [{"name": "a=b"}]},
            [
                'spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist '
                "only of printable ASCII characters other than '='"
            ],
        ),
        (
            {"env": [{"name": "a", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
            ['spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty'],
        ),
        (
            {"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}}]},
            [
                'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": '
                'supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", '
                '"spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"'
            ],
        ),
        (
            {"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.foo"}}}]},
            [
                'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.foo": '
                "error converting fieldPath: field label not supported: spec.foo"
            ],
        ),
        (
            {"env": [{"name": "a", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}}]},
            [
                'spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": '
                "only divisor's values 1m and 1 are supported with the cpu resource"
            ],
        ),
        (
            {"envFrom": [{"prefix": "x"}]},
            ['spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`'],
        ),
        (
            {"volumeMounts": [{"name": "x", "mountPath": "/x"}]},
            ['spec.containers[0].volumeMounts[0].name: Not found: "x"'],
        ),
        (
            {"volumeMounts": [{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]},
            ['spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/x": must be unique'],
        ),
        (
            {"volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "../y"}]},
            ["spec.containers[0].volumeMounts.subPath: Invalid value: \"../y\": must not contain '..'"],
        ),
        (
            {"volumeMounts": [{"name": "v", "mountPath": "/x", "mountPropagation": "Bidirectional"}]},
            [
                "spec.containers[0].volumeMounts.mountPropagation: Forbidden: "
                "Bidirectional mount propagation is available only to privileged containers"
            ],
        ),
        (
            {"livenessProbe": {"periodSeconds": 1}},
            ["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            {"livenessProbe": {"tcpSocket": {"port": 1}, "exec": {"command": ["x"]}}},
            ["spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"],
        ),
        (
            {"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}},
            ["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
        ),
        (
            {"readinessProbe": {"httpGet": {"port": "x_"}}},
            [
                'spec.containers[0].readinessProbe.httpGet.port: Invalid value: "x_": '
                "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
            ],
        ),
        (
            {"readinessProbe": {"exec": {"command": []}}},
            ["spec.containers[0].readinessProbe.exec.command: Required value"],
        ),
        (
            {"lifecycle": {"preStop": {"sleep": {"seconds": 60}}}},
            [
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 60: "
                "must be non-negative and less than terminationGracePeriodSeconds (30)"
            ],
        ),
        (
            {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
            ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'],
        ),
        (
            {"resources": {"limits": {"cpu": "-1"}}},
            [
                'spec.containers[0].resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0',
                'spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0',
            ],
        ),
        (
            {"resources": {"requests": {"foo": "1"}}},
            [
                'spec.containers[0].resources.requests[foo]: Invalid value: "foo": '
                "must be a standard resource type or fully qualified",
                'spec.containers[0].resources.requests[foo]: Invalid value: "foo": '
                "must be a standard resource for containers",
            ],
        ),
        (
            {"resources": {"requests": {"nvidia.com/gpu": "1"}}},
            ["spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"],
        ),
        (
            {"resources": {"limits": {"hugepages-2Mi": "4Mi"}}},
            ["spec.containers[0].resources: Forbidden: HugePages require cpu or memory"],
        ),
        (
            {"resources": {"limits": {"nvidia.com/gpu": "500m"}}},
            [
                'spec.containers[0].resources.limits[nvidia.com/gpu]: Invalid value: "500m": must be an integer',
                'spec.containers[0].resources.requests[nvidia.com/gpu]: Invalid value: "500m": must be an integer',
            ],
        ),
        (
            {"securityContext": {"runAsUser": -1}},
            [
                "spec.containers[0].securityContext.runAsUser: Invalid value: -1: "
                "must be between 0 and 2147483647, inclusive"
            ],
        ),
        (
            {"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
            [
                'spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,'
                '"privileged":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true'
            ],
        ),
        (
            {"securityContext": {"procMount": "Unmasked"}},
            [
                'spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": '
                "`hostUsers` must be false to use `Unmasked`"
            ],
        ),
        (
            {"securityContext": {"seccompProfile": {"type": "Localhost"}}},
            [
                "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: "
                "must be set when seccomp type is Localhost"
            ],
        ),
        (
            {"terminationMessagePolicy": "X"},
            [
                'spec.containers[0].terminationMessagePolicy: Unsupported value: "X": '
                'supported values: "File", "FallbackToLogsOnError"'
            ],
        ),
        (
            {"restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]},
            [
                "spec.containers[0].restartPolicy: Required value: "
                "must specify restartPolicy when restart rules are used"
            ],
        ),
    ],
)
def test_containers(container: dict[str, Any], expected: list[str]) -> None:
    assert findings(pod(VOLUME, container)) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": []}, ["spec.containers: Required value"]),
        (
            {"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]},
            ['spec.containers[1].name: Duplicate value: "a"'],
        ),
        (
            {"initContainers": [{"name": "a", "image": "x"}]},
            ['spec.initContainers[0].name: Duplicate value: "a"'],
        ),
        (
            {"initContainers": [{"name": "i", "image": "x", "livenessProbe": {"exec": {"command": ["x"]}}}]},
            [
                "spec.initContainers[0].livenessProbe: Forbidden: "
                "may not be set for init containers without restartPolicy=Always"
            ],
        ),
        (
            {"ephemeralContainers": [{"name": "e", "image": "x"}]},
            ["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
        (
            {"restartPolicy": "Sometimes"},
            [
                'spec.restartPolicy: Unsupported value: "Sometimes": '
                'supported values: "Always", "OnFailure", "Never"'
            ],
        ),
        (
            {"dnsPolicy": "None"},
            ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            {"dnsPolicy": "X"},
            [
                'spec.dnsPolicy: Unsupported value: "X": '
                'supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"'
            ],
        ),
        (
            {"activeDeadlineSeconds": 0},
            ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        ),
        (
            {"hostname": "a.b"},
            ['spec.hostname: Invalid value: "a.b": must not contain dots'],
        ),
        (
            {"tolerations": [{"operator": "Equal"}]},
            [
                'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, '
                'which means "match all values and all keys"'
            ],
        ),
        (
            {"tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 1}]},
            [
                "spec.tolerations[0].effect: Invalid value: \"\": "
                "effect must be 'NoExecute' when `tolerationSeconds` is set"
            ],
        ),
        (
            {"tolerations": [{"key": "a", "operator": "Exists", "effect": "X"}]},
            [
                'spec.tolerations[0].effect: Unsupported value: "X": '
                'supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'
            ],
        ),
        (
            {"nodeName": "n", "schedulingGates": [{"name": "g"}]},
            ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        ),
        (
            {"hostAliases": [{"ip": "x", "hostnames": ["a"]}]},
            [
                'spec.hostAliases[0].ip: Invalid value: "x": '
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            ],
        ),
        (
            {"hostUsers": False, "hostPID": True},
            ["spec.HostPID: Forbidden: when `pod.Spec.HostUsers` is false"],
        ),
        (
            {"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}, "hostNetwork": True},
            [
                'spec.securityContext.sysctls[0].name: Invalid value: "net.core.somaxconn": '
                "may not be specified when 'hostNetwork' is true"
            ],
        ),
        (
            {"securityContext": {"fsGroupChangePolicy": "X"}},
            [
                'spec.securityContext.fsGroupChangePolicy: Unsupported value: "X": '
                'supported values: "Always", "OnRootMismatch"'
            ],
        ),
        (
            {"os": {"name": "windows"}, "securityContext": {"fsGroup": 1}},
            ["spec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod"],
        ),
        ({"os": {"name": "dos"}}, ['spec.os: Unsupported value: "dos": supported values: "linux", "windows"']),
        (
            {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "X"}]},
            [
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                'spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "X": '
                'supported values: "DoNotSchedule", "ScheduleAnyway"',
            ],
        ),
        (
            {
                "affinity": {
                    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
                }
            },
            [
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: "
                "Required value: must have at least one node selector term"
            ],
        ),
        (
            {
                "affinity": {
                    "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a/b"}]}
                }
            },
            [],
        ),
        (
            {
                "affinity": {
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 0, "podAffinityTerm": {"topologyKey": "z"}}
                        ]
                    }
                }
            },
            [
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: "
                "Invalid value: 0: must be in the range 1-100"
            ],
        ),
        ({"volumes": [{"name": "v"}]}, []),
        (
            {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]},
            ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]},
            ['spec.volumes[1].name: Duplicate value: "v"'],
        ),
        ({"volumes": [{"name": "v", "secret": {}}]}, ["spec.volumes[0].secret.secretName: Required value"]),
        (
            {"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 9999}}]},
            [
                "spec.volumes[0].configMap.defaultMode: Invalid value: 9999: "
                "must be a number between 0 and 0777 (octal), both inclusive"
            ],
        ),
        (
            {"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]},
            ["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
        ),
        (
            {"volumes": [{"name": "v", "hostPath": {"path": "/a", "type": "X"}}]},
            [
                'spec.volumes[0].hostPath.type: Unsupported value: "X": supported values: "", "BlockDevice", '
                '"CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"'
            ],
        ),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            [
                "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: "
                "must not be specified when serviceAccountName is not set"
            ],
        ),
        (
            {"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "100m"}}, "containers": [
                {"name": "a", "image": "x", "resources": {"requests": {"cpu": "500m"}}}
            ]},
            [
                'spec.resources.requests[cpu]: Invalid value: "100m": '
                "must be greater than or equal to aggregate container requests of 500m"
            ],
        ),
        (
            {"resourceClaims": [{"name": "c"}]},
            [
                'spec.resourceClaims[0]: Invalid value: {"name":"c"}: '
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            ],
        ),
    ],
)  # fmt: skip
def test_specs(spec: dict[str, Any], expected: list[str]) -> None:
    assert findings(pod(spec)) == expected


def test_host_network_ports_follow_container_ports() -> None:
    obj = created(pod({"hostNetwork": True}, {"ports": [{"containerPort": 80}]}))
    assert obj.spec.containers[0].ports[0].host_port == 80
    assert findings(pod({"hostNetwork": True}, {"ports": [{"containerPort": 80, "hostPort": 81}]})) == [
        "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"
    ]


def test_mirror_pods_need_a_node() -> None:
    mirror = {"annotations": {"kubernetes.io/config.mirror": "x"}}
    assert findings(pod(**mirror)) == [
        'metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": '
        "must set spec.nodeName if mirror pod annotation is set"
    ]
    assert findings(pod({"nodeName": "n"}, **mirror)) == []


def test_a_bad_container_name_says_how_it_should_be() -> None:
    (found,) = findings(pod(container={"name": "A_b"}))
    assert found == (
        'spec.containers[0].name: Invalid value: "A_b": a lowercase RFC 1123 label must consist of lower case '
        "alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or "
        "'123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    )
