"""Rounds of federated learning on Flower: the data stays with the clients. Flower runs in an environment of its own."""
