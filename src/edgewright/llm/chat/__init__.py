"""Conversations: templates, text from tokens, and generation."""
