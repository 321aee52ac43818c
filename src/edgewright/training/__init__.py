"""Training with torch for prune, distill and quantize, in a worker process."""
