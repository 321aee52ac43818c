"""Devices: add, list, set up, check, remove, and the choice by `--on`."""
