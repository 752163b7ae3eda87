"""ztrace's viewer: reads the collector's database and shows it."""
