"""The node's way to its hub: exchanges over a link that dies, or on a stick."""
