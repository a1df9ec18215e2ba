"""Pictures that a training writes."""
