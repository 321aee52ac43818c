"""Devices behind a link: boards over SSH, phones over adb. Only files and processes are needed on them."""
