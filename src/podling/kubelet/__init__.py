"""The node agent: makes the pods bound to its node run, and reports what became of them.

Map of the room, from decisions to actions:

    pods                     what can be read off a Pod (its containers, names, classes)
    runtime_status           what the runtime has of one pod, as one value
    actions                  pure: pod + runtime status -> what to kill and to start (computePodActions)
    restarts                 pure: whether a container that ended is started again
    status, conditions       pure: runtime status -> PodStatus
    env, container_config,   pure: Pod + Container -> the runtime's configuration
      security, sandbox_config, dns_config, hosts_file, cgroups
    pod_worker               one worker per pod: carries the actions out; it stands on
      pod_observer,            what is seen of the pod and reported of it
      pod_termination,         how it ends
      pod_start, pod_kill,     starting, stopping and resizing its containers
      pod_resize
    image_puller, hooks, probes, probe_handlers, grpc_health, backoff
    resize, eviction,        pure: what is granted, who is evicted, who is admitted
      admission
    status_manager           writes statuses to the API server
    static_pods              pods from manifests on disk, and their mirrors
    node_status, node_lease  the Node object and its heartbeat
    gc, image_gc,            keeping the node tidy, and what it has and uses
      log_rotation, resources,
      stats, metrics
    agent                    puts it all together: `Kubelet`
    server, server_auth,     the HTTPS server, and what the agent does for it
      logs, backend
"""
