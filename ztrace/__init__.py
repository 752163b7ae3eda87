"""ztrace."""
