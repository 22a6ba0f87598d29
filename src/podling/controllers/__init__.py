"""The controllers: level-triggered reconcilers, one a file, all alike.

What they share:

    base.py          a queue, workers, informers, a recorder; the configuration
    manager.py       starts them all in one process
    pods.py          what a pod's status means (ready, available, active) and which pod goes first
    pod_control.py   creating and deleting pods for an owner, in slow-start batches
    references.py    who owns what: adoption and release
    hashing.py       pod-template-hash
    history.py       ControllerRevisions of DaemonSets and StatefulSets
    resources.py     all resources that a cluster serves, custom ones included
    service_pods.py  which pods belong to which services
    slices.py        packing endpoints into EndpointSlices; slice_tracker.py: not on a stale cache
    taints.py        which taints a pod bears, and for how long

Decisions that deserve a file of their own stand beside their controller: rollout.py (Deployments), job_rules.py and
indexes.py (Jobs), daemon_rules.py, stateful_rules.py, cron_schedule.py.
"""
