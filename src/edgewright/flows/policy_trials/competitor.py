"""Keeps one core busy until its parent ends."""

from edgewright.system.parent import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    while True:
        pass
