"""The pods' network: `base` is the contract, `bridge` keeps it, `node_network` is what the nodes stand on."""
