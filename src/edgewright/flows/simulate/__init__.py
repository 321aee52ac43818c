"""`simulate`: how many servers a fleet of devices needs."""
