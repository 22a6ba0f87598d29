"""podling: a whole, real Kubernetes in one Python package.

The floors, from the top (a room imports only from floors below its own; import-linter holds us to it):

    cli                                                   the `podling` command
    cluster                                               which parts, in which process, PKI, data directory
    apiserver controllers scheduler kubelet proxy dns     the parts of a cluster
    store client runtime images network volumes streaming what the parts stand on
    machinery                                             algorithms over objects: patches, schema, selectors
    api                                                   the vocabulary: types, quantities, names, errors
    clock log errors                                      time, logging, the root of the error tree
"""

__version__ = "0.1.0"
