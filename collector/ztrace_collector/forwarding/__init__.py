"""Processes beside the collector that send stored rows on, as the collector and as the processes see them."""
