"""The scheduler: finds a node for each pod.

`scheduler` is the loop, `queue` what waits, `cache` what is known of the nodes, `framework` the contract of the
plugins, `plugins/` one rule a file, `algorithm` the pure decision, `preemption` what happens when no node has room.
"""
