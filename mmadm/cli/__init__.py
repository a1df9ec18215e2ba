"""The ``mmadm`` command: one file for each verb; the scripts in ``tools/`` are thin ones on these."""
