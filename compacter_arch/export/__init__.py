"""The network in other programs."""
