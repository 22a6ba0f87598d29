"""The controllers: level-triggered reconcilers, one a file, all alike.

base.py          what they share: a queue, workers, informers, a recorder
manager.py       starts them all in one process
pods.py          what a pod's status means (ready, available, active) and which pod goes first
pod_control.py   creating and deleting pods for an owner, in slow-start batches
references.py    who owns what: adoption and release
hashing.py       pod-template-hash
history.py       ControllerRevisions of DaemonSets and StatefulSets
"""
