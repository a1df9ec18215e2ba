"""Which networks of the installed model zoos work as roles: every kind is built and makes one training step."""
