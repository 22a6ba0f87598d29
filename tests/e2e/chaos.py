"""Random kills: workloads on a real cluster while its processes, and those of its containers, die at any moment.

    python -m tests.e2e.chaos --seconds 120 --seed 7 --nodes 2

The same seed gives the same kills in the same order; what they hit depends on the machine. At the end the cluster must
have all that was asked for, and nothing more; and after `podling down`, this machine nothing of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from urllib3.exceptions import HTTPError

from tests.e2e.conformance.client import Api, Refused
from tests.e2e.harness import IMAGE, CommandError, Kubectl, eventually, free_port, kubectls, podling, processes, run

NAME = "chaos"
OPTIONS = ["--name", NAME, "--port", free_port(), "--node-cidr", "10.216.0.0/24", "--pod-cidr", "10.247.0.0/16"]
OPTIONS += ["--service-cidr", "10.99.0.0/16"]
#: Namespaces of workloads; the second is deleted and made again meanwhile.
KEPT, FLEETING = "kept", "fleeting"
SERVER = 'httpd -f -p 8080 -h /etc & trap "kill $!; exit 0" TERM; wait $!'


def template(app: str, command: str = SERVER, **spec: Any) -> dict[str, Any]:
    """Pods with a volume, a probe and hooks."""
    container: dict[str, Any] = {
        "name": "c",
        "image": IMAGE,
        "command": ["sh", "-c", command],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "settings", "mountPath": "/settings"}],
    }
    if command == SERVER:
        container["readinessProbe"] = {"httpGet": {"path": "/hostname", "port": 8080}, "periodSeconds": 1}
        container["lifecycle"] = {"postStart": {"exec": {"command": ["sh", "-c", "echo up > /scratch/hook"]}}}
    volumes = [{"name": "scratch", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "settings"}}]
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": volumes, **spec},
    }


def workloads() -> list[dict[str, Any]]:
    """One of each, and what they need."""

    def workload(kind: str, name: str, **spec: Any) -> dict[str, Any]:
        selector = {"matchLabels": {"app": name}}
        body = {"selector": selector, "template": template(name), **spec}
        return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": body}

    task = template("task", "echo done; sleep 0.5", restartPolicy="Never")
    job = {"completions": 4, "parallelism": 2, "backoffLimit": 100, "template": task}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "b"}},
        workload("Deployment", "web", replicas=3),
        workload("StatefulSet", "db", replicas=2, serviceName="db"),
        workload("DaemonSet", "agent"),
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "task"}, "spec": job},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]


class Witness:
    """Writes all the while, and remembers what was acknowledged."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = str(kubeconfig)
        self._path = f"/api/v1/namespaces/{KEPT}/configmaps"
        self._stop = threading.Event()
        self.acknowledged: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        api, number = Api(self._kubeconfig), 0
        while not self._stop.wait(0.05):
            number += 1
            try:
                made = api.request(
                    "POST", f"/api/v1/namespaces/{KEPT}/configmaps", {"metadata": {"name": f"w{number}"}}
                )
            except (Refused, HTTPError):
                continue
            self.acknowledged.append(made["metadata"]["name"])

    def lost(self) -> set[str]:
        """What was acknowledged and is not there."""
        found = Api(self._kubeconfig).request("GET", self._path)["items"]
        return set(self.acknowledged) - {item["metadata"]["name"] for item in found}


class Chaos:
    """A cluster in `data`, and what happens to it."""

    def __init__(self, data: Path, seed: int, nodes: int) -> None:
        self.data, self.nodes = data, nodes
        self.random = random.Random(seed)
        program = kubectls()[min(kubectls())]
        self.kubectl = Kubectl(program, data / "admin.kubeconfig", KEPT)
        self.fleeting = Kubectl(program, data / "admin.kubeconfig", FLEETING)
        self.done: Counter[str] = Counter()

    def start(self) -> None:
        podling(self.data, "image", "create", IMAGE, "--package", "busybox-static")
        self.up()
        for program in (self.kubectl, self.fleeting):
            program("create", "namespace", program.namespace)
            program.apply(*workloads())

    def up(self) -> None:
        podling(self.data, "up", *OPTIONS, "--nodes", str(self.nodes))

    # What happens

    def rage(self, seconds: float) -> None:
        """So many seconds of kills, between a breath and three seconds apart."""
        deadline = time.monotonic() + seconds
        weighted: list[tuple[Callable[[], object], int]] = [
            (self.kill_control_plane, 3), (self.kill_agent, 4), (self.kill_supervisor, 1), (self.kill_conmon, 3),
            (self.kill_container, 4), (self.kill_runtime, 3), (self.delete_pods, 3), (self.change, 3),
            (self.kill_client, 2), (self.renew_namespace, 1),
        ]  # fmt: skip
        while time.monotonic() < deadline:
            deed = self.random.choices([d for d, _ in weighted], [weight for _, weight in weighted])[0]
            try:
                deed()
            except (CommandError, ProcessLookupError, FileNotFoundError, subprocess.TimeoutExpired) as error:
                # Its server, or its victim, has just been killed.
                self.done[f"{deed.__name__} in vain"] += 1
                print(f"  {deed.__name__}: {str(error).splitlines()[-1]}", file=sys.stderr)
            else:
                self.done[deed.__name__] += 1
            time.sleep(self.random.choice([0.02, 0.1, 0.5, 1.0, 3.0]))

    def kill_control_plane(self) -> None:
        os.kill(processes(self.data, "control-plane"), signal.SIGKILL)

    def kill_agent(self) -> None:
        os.kill(processes(self.data, self.random.choice(self.node_names)), signal.SIGKILL)

    @property
    def node_names(self) -> list[str]:
        return [NAME] if self.nodes == 1 else [f"{NAME}-{n + 1}" for n in range(self.nodes)]

    def kill_supervisor(self) -> None:
        pid = int((self.run_directory / "supervisor.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        time.sleep(self.random.choice([0.0, 0.3]))
        self.up()

    @property
    def run_directory(self) -> Path:
        from podling.cluster.config import layout

        return layout(self.data).run

    def kill_conmon(self) -> None:
        self._kill_one(self.processes("conmon"))

    def kill_runtime(self) -> None:
        """crun in the middle of what it does: ever so short, so it is looked for while pods come and go."""
        self.kubectl("delete", "pods", "-l", "app=web", "--wait=false")
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            if found := self.processes("crun", "runc"):
                self._kill_one(found)
                return

    def kill_container(self) -> None:
        self._kill_one(self.processes("httpd", "sleep", "sh"))

    def _kill_one(self, found: list[int]) -> None:
        if found:
            os.kill(self.random.choice(sorted(found)), signal.SIGKILL)

    def processes(self, *names: str) -> list[int]:
        """Processes of these names that belong to this cluster: by their words, or their root."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if (entry / "comm").read_text().strip() not in names:
                    continue
                ours = os.fsencode(self.run_directory) in (entry / "cmdline").read_bytes()
                ours = ours or str(self.data) in (entry / "mountinfo").read_text().split("\n", 1)[0]
            except OSError:
                continue
            if ours:
                found.append(int(entry.name))
        return found

    def delete_pods(self) -> None:
        words = self.random.choice([["-l", "app=web"], ["-l", "app=db"], ["-l", "app=agent", "--force"], ["--all"]])
        self.kubectl("delete", "pods", *words, "--wait=false")

    def change(self) -> None:
        """A new template, or another number of replicas."""
        if self.random.random() < 0.5:
            self.kubectl(
                "rollout", "restart", self.random.choice(["deployment/web", "statefulset/db", "daemonset/agent"])
            )
        else:
            self.kubectl("scale", "deployment/web", f"--replicas={self.random.randint(1, 5)}")

    def kill_client(self) -> None:
        watching = self.kubectl.start("get", "pods", "--watch")
        executing = self.kubectl.start("exec", "deployment/web", "--", "sleep", "1000")
        time.sleep(0.4)
        for client in (watching, executing):
            client.kill()
            client.wait()

    def renew_namespace(self) -> None:
        self.fleeting("delete", "namespace", FLEETING, "--timeout=60s")
        self.fleeting("create", "namespace", FLEETING)
        self.fleeting.apply(*workloads())

    # What must be so in the end

    def settle(self) -> None:
        """All is as asked for, and nothing is twice."""
        self.up()
        eventually(lambda: self.kubectl("scale", "deployment/web", "--replicas=3"))
        for program in (self.kubectl, self.fleeting):
            eventually(
                lambda p=program: p.json("get", "namespace", p.namespace)["status"]["phase"] == "Active" or 1, 20
            )
            try:
                program("create", "namespace", program.namespace)
            except CommandError:
                pass  # it is there
            eventually(lambda p=program: p.apply(*workloads()), 60)
            self._workloads(program)
        self._services()
        eventually(self._no_more, 60, "only what pods need")

    def _workloads(self, kubectl: Kubectl) -> None:
        for kind in ("deployment/web", "statefulset/db", "daemonset/agent"):
            kubectl("rollout", "status", kind, "--timeout=120s")
        kubectl("wait", "--for=condition=Complete", "job/task", "--timeout=120s")
        job = kubectl.json("get", "job", "task")["status"]
        assert job["succeeded"] == 4 and not job.get("active"), job
        wanted = {"web": 3, "db": 2, "agent": self.nodes}

        def all_run() -> bool:
            pods = kubectl.json("get", "pods")["items"]
            shown = Counter(p["metadata"]["labels"]["app"] for p in pods if p["status"]["phase"] == "Running")
            ready = all(
                c["ready"] for p in pods if p["status"]["phase"] == "Running" for c in p["status"]["containerStatuses"]
            )
            going = [p["metadata"]["name"] for p in pods if "deletionTimestamp" in p["metadata"]]
            assert (dict(shown), going, ready) == (wanted, [], True), (shown, going, ready)
            return True

        eventually(all_run, 90, f"all pods of {kubectl.namespace} are ready")

    def _services(self) -> None:
        """The Service reaches each of its pods, from each node."""
        pods = self.kubectl.json("get", "pods", "-l", "app=web")["items"]
        wanted = {p["metadata"]["name"] for p in pods if p["status"]["phase"] == "Running"}
        for client in self.kubectl.json("get", "pods", "-l", "app=agent")["items"]:
            seen: set[str] = set()

            def reached(client: dict[str, Any] = client, seen: set[str] = seen) -> bool:
                loop = "for i in 1 2 3 4 5 6 7 8 9 10; do timeout 3 wget -qO- http://web/hostname; done"
                seen.update(self.kubectl("exec", client["metadata"]["name"], "--", "sh", "-c", loop).split())
                assert seen == wanted, f"{seen} instead of {wanted}"
                return True

            eventually(reached, 30, "the Service reaches all its pods")

    def _no_more(self) -> bool:
        """A conmon for each running container, a lease for each pod with an address, no more records than pods."""
        pods = self.kubectl.json("get", "pods", "-A")["items"]
        running = {
            c["containerID"].rpartition("/")[2]
            for p in pods for c in p["status"].get("containerStatuses", ()) if "running" in c["state"]
        }  # fmt: skip
        conmons = self.processes("conmon")
        assert len(conmons) == len(running), f"{len(conmons)} conmon for {len(running)} containers"
        uids = {p["metadata"]["uid"] for p in pods}
        kept = [d for d in self.data.glob("nodes/*/pods/*") if d.name not in uids]
        assert not kept, f"directories of pods that are gone: {kept}"
        records = self._records("containers")
        groups = [d for d in self._groups() if d.name not in records]
        assert not groups, f"cgroups of containers that are gone: {groups}"
        leases = {owner for file in self.run_directory.glob("nodes/*/leases.json") for owner in self._leases(file)}
        assert leases <= self._records("sandboxes"), "addresses of sandboxes that are gone"
        return True

    def _records(self, of: str) -> set[str]:
        return {r.stem for r in self.data.glob(f"nodes/*/runtime/{of}/*.json")}

    @staticmethod
    def _groups() -> list[Path]:
        """The cgroups of this cluster's containers."""
        return [Path(d) for d, _, _ in os.walk("/sys/fs/cgroup") if f"/{NAME}" in d and re.search("/[0-9a-f]{64}$", d)]

    @staticmethod
    def _leases(file: Path) -> list[str]:
        return list(json.loads(file.read_text())["leases"])

    def dump(self) -> None:
        """What a person would look at."""
        for words in (
            ("get", "pods", "-A", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("get", "all"),
        ):
            try:
                print("\n".join(self.kubectl(*words, timeout=20).splitlines()[-60:]), file=sys.stderr)
            except Exception as error:
                print(error, file=sys.stderr)
        for log in (self.data / "logs").glob("*.log"):
            print(f"==== {log.name}", *log.read_text().splitlines()[-60:], sep="\n", file=sys.stderr)

    def end(self) -> list[str]:
        """`podling down`; gives what is left of the cluster on this machine."""
        podling(self.data, "down")
        return self.left()

    def left(self) -> list[str]:
        found = [f"process {p}" for p in self.processes("conmon", "crun", "httpd", "sleep", "sh")]
        roots = (str(self.data), str(self.run_directory))
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            found += [f"mount {line}"] if any(root in line for root in roots) else []
        found += [f"table {line}" for line in run("nft", "list", "tables").splitlines() if f" {NAME}" in line]
        found += [f"link {line}" for line in run("ip", "-o", "link").splitlines() if NAME in line]
        found += [f"route {line}" for line in run("ip", "route").splitlines() if "10.247." in line or "10.216." in line]
        found += [f"namespace {line}" for line in run("ip", "netns").splitlines() if NAME in line]
        return found


def chaos(seconds: float, seed: int, nodes: int) -> Counter[str]:
    """The whole of it; gives what was done how often."""
    with tempfile.TemporaryDirectory(prefix="podling-chaos-") as directory:
        made = Chaos(Path(directory) / "cluster", seed, nodes)
        try:
            made.start()
            with Witness(made.data / "admin.kubeconfig") as witness:
                made.rage(seconds)
            made.settle()
            assert witness.acknowledged and not (lost := witness.lost()), f"acknowledged and lost: {lost}"
            assert not (left := made.end()), f"left behind: {left}"
            made.settle()
            return made.done
        except BaseException:
            made.dump()
            raise
        finally:
            podling(made.data, "down", "--purge")
            assert not (left := made.left()), f"left behind: {left}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1000))
    parser.add_argument("--nodes", type=int, default=1)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    print(dict(chaos(arguments.seconds, arguments.seed, arguments.nodes)))


if __name__ == "__main__":
    main()
