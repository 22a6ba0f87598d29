"""Container images: references, registries, archives, the store on disk and its garbage collection.

base             the contract: what the node agent and the runtime ask of images
reference        names of images, normalised as Docker and Kubernetes do
credentials      imagePullSecrets to credentials per registry and path
registry_config  mirrors, plain-http hosts and certificate authorities per registry (certs.d)
registry_auth    Basic and Bearer towards a registry
registry_client  the OCI distribution protocol, pull side
manifest         manifests, indexes, configurations; the choice of a platform
layout           where things stand on disk, and how files change hands safely
index            what the store holds, from small JSON files, shared between processes
streams          compressed files as streams
unpack           layers to directories in overlayfs form, in a process of its own
intake           how an image comes in: layers, record, names
pull             ... from a registry
archive          ... from docker-archive, oci-archive and OCI layouts
build            ... from directories, tarballs and Debian packages (layer_tar, packages)
overlay, fixup   layers as one file system
sweep            what nobody refers to any more goes
store            ImageStore: all of it together
gc               which images to delete when the disk fills
"""
