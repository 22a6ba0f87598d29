"""The Pod Security Standards: what a pod may ask of its node at the levels privileged, baseline and restricted.

    policy     which level, of which version, a namespace wants in which mode: its labels
    check      what a check is, and what it finds
    checks/    one file a check
    standard   which checks make up a level in a version, and what they find in a pod together

(https://kubernetes.io/docs/concepts/security/pod-security-standards/; reasons and details in upstream's words, since
people and tools match on them.)
"""
