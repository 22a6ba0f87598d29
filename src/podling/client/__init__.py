"""The client: how every part of a cluster reaches the API server.

base.py        the contract: Client, PatchType, ListResult, WatchEvent
client.py      ApiClient: the contract over any transport
http.py        HttpTransport: HTTPS to a server in another process
kubeconfig.py  where that server is and who we are
informer.py    a cache that follows a resource, and handlers that hear of its changes
workqueue.py   keys to reconcile: deduplicated, delayed, rate-limited
expectations.py what a controller did and its cache has not yet shown
events.py      events for people, written in the background
leader.py      one active instance among several, by Lease
"""
