"""Engines that run language models, each in a worker process of its environment."""
