"""What pruning, distillation and quantization-aware training share: setup, data, trainings, records."""
