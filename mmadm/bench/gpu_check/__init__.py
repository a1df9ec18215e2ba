"""Everything that has to be found out when a GPU is at hand for a few minutes, part by part."""
