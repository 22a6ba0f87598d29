"""The pod spec: defaults and validation, for pods and for all kinds with a pod template.

defaults.py fills in what was left out; spec.py validates, with one module a topic below it: containers, env, handlers,
requirements, scheduling, security, volumes; updates.py says what may change on a pod that exists.
"""
