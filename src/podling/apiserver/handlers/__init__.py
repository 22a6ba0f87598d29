"""The verbs, the same for all kinds; and the subresources, each topic in a file of its own."""
