"""Readers of language models: llama2.c checkpoints and GGUF files."""
