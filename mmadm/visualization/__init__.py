"""Pictures of what was learned: similarity maps, curves and the report."""

from mmadm.visualization.similarity import colour_map, heat_overlay, mean_by_class, relative_weights

__all__ = ['colour_map', 'heat_overlay', 'mean_by_class', 'relative_weights']
