"""Authentication: who sends a request.

`authenticator.Authenticator` is the front. It asks in turn: the client certificate, then the bearer token (static,
ServiceAccount, bootstrap); on top, impersonation turns an authenticated user into another one, if it may.
"""
