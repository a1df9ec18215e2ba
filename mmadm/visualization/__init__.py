"""Pictures of what was learned: similarity maps, curves and the report."""

from mmadm.utils.overlay import colour_map, heat_overlay
from mmadm.visualization.similarity import mean_by_class

__all__ = ['colour_map', 'heat_overlay', 'mean_by_class']
