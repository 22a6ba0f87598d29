"""Volumes: what a pod's containers find at their mount paths. One plugin a file; all look alike.

base              the contracts: Plugin, Context, Lookup (what plugins may ask), errors
manager           VolumeManager: mounts, refreshes and unmounts the volumes of a node's pods
atomic_writer     files that change all at once (the ..data link)
content           what configMap, secret, downwardAPI and projected volumes have in common
payloads          ConfigMaps and Secrets as files
field_refs        fieldRef and resourceFieldRef, also for environment variables
tokens            service account tokens, renewed in time
ownership         fsGroup
subpath           subPath, resolved without leaving the volume
usage             bytes and inodes in a volume
"""
