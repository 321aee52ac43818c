"""Where a model runs: this machine, and later boards, phones and browsers."""
