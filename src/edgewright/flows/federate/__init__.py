"""Federated learning: a simulation, a server, a client, and the keys of both."""
