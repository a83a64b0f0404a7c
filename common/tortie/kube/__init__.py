"""Talking to an API server: client, informer, leader election; and what every process of ours shows of itself."""
