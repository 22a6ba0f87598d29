"""The node agent: makes the pods bound to its node run, and reports what became of them.

Map of the room, from decisions to actions:

    pods, qos                what can be read off a Pod (its containers, names, classes)
    runtime_status           what the runtime has of one pod, as one value
    actions                  pure: pod + runtime status -> what to kill and to start (computePodActions)
    restarts                 pure: whether a container that ended is started again
    status, conditions       pure: runtime status -> PodStatus
    env, container_config,   pure: Pod + Container -> the runtime's configuration
      security, sandbox_config, dns_config, hosts_file, cgroups
    pod_worker, pod_sync,    one worker per pod: carries the actions out
      pod_kill, pod_start
    image_puller, hooks, probes, probe_handlers, backoff
    status_manager           writes statuses to the API server
    static_pods              pods from manifests on disk, and their mirrors
    node_status, node_lease  the Node object and its heartbeat
    admission, eviction, gc, log_rotation, resources
    agent                    puts it all together: `Kubelet`
"""
