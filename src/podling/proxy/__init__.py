"""The service proxy: Services and EndpointSlices become nftables rules. `rules` decides, `proxier` acts."""
