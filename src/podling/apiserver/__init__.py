"""The API server: what unmodified kubectl, Helm and client libraries talk to.

A request goes this way, whether it came over HTTPS or from the same process:

    server          HTTP and TLS; in process: `ApiServer.send`
    app             ApiServer: who asks, may they, which handler
    request_info    what the path and the method mean
    handlers/       the verbs, the same for all kinds
    admission/      plugins that change or refuse writes
    resources/      what is special about a kind: its Strategy
    crd/            what definitions add: custom resources
    cache           all reads and watches are answered from it
    store           (a floor below) the log of bytes that the cache follows
"""
