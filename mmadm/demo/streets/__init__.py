"""Street scenes drawn by a program: every pixel's class and every box is known, and nothing has to be downloaded."""

from mmadm.demo.streets.files import IMAGE_SUFFIX, LABEL_SUFFIX, make_streets
from mmadm.demo.streets.scene import draw_street

__all__ = ['IMAGE_SUFFIX', 'LABEL_SUFFIX', 'draw_street', 'make_streets']
