"""Readers of language models: llama2.c checkpoints, Hugging Face folders, GGUF files."""
