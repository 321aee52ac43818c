"""Batches and augmentation."""
