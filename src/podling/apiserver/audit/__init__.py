"""Auditing: who did what, when, and what came of it.

An `Auditor` (`auditor.py`) is there only if a policy and a backend are configured; without one a request passes nothing
of this room but a comparison with None. With one, each request has a `Trail` (`trail.py`), found from anywhere in the
server through a context variable, which the parts of the server tell what they know. The policy (`policy.py`,
`rules.py`) decides when the request arrives how much of that becomes events (`event.py`); backends write them
(`log_file.py`, `webhook.py`), through a buffer (`batch.py`) and shortened (`truncate.py`) if they are told to.
"""
