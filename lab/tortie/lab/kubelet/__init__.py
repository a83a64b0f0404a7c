"""What stands in for a kubelet and a container runtime on a node of the lab.

It registers its Node and turns every Pod bound to it into a network namespace that the CNI plugins of the node's
conflist set up. Containers are processes on the host's file system: their command where the machine has it, else an
echo server on each of their ports. Where a kubelet and containerd have a documented behaviour (CNI calls, probes,
restarts, phases, deletion), this has the same; it knows no images, volumes, cgroups or security contexts.

    __main__   options, wiring          node       the Node object, its Lease and whether it is ready
    manifest   the fields of Pods       pods       which pods there are → one worker each
    cni        what libcni does         worker     the life of one pod
    network    is the node's CNI up?    container  one container: started, probed, restarted, stopped
    housing    a pod's network          command    what a container runs
    sandbox    a pod's namespaces       echo       what runs for an image that this machine does not have
    shim       a pod's PID 1            probes     probes and hooks
    status     what a pod's state is    report     telling the API server
    events     Events                   records    what of all this survives the kubelet
"""
