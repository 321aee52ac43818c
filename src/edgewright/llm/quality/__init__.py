"""Quality of a compressed language model against the full-precision one."""
