"""`make demo`: a cluster of three nodes, a small application on it, and what a network with policy owes to it."""
