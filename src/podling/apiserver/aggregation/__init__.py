"""API aggregation: group versions that other API servers serve, behind this one's address (kube-aggregator).

    priorities     in which order groups and versions are shown
    registration   APIServices that are made by themselves, for what this server serves
    availability   whether the server of a remote APIService can be reached, said in its condition Available
    remote         one remote group version: where it is served, and how it is reached
    proxy          a request over HTTP is passed on
    relay          a request of this process is passed on
    documents      discovery and OpenAPI of remote servers, fetched and kept
    aggregator     follows the APIServices, and wires the others

Without an APIService that names a service only `priorities` and `registration` are loaded and nothing runs.
"""
