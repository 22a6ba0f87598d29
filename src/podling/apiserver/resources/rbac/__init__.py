"""rbac.authorization.k8s.io: roles and bindings. Their names may be anything that fits into a path."""
