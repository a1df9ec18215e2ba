"""``python -m mmadm``: the same as the ``mmadm`` command."""

from mmadm.cli.main import main

if __name__ == '__main__':
    main()
