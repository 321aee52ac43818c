"""Devices that run models: this machine, and later boards, phones and browsers."""
