"""Recovery after killed processes and full disks."""
