"""Authorization: what an authenticated user may do.

`authorizer.Authorizer` is the front: members of system:masters may do everything, then the Node authorizer and RBAC
are asked; the first that allows wins. Nothing here waits: a decision is taken from indexes that watch events keep up
to date.
"""
