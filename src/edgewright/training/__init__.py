"""What changes a model's weights by gradient: one loop for prune, distil and quantise, in a worker of its own."""
