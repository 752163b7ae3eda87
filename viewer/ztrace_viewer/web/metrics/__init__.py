"""Metrics for Prometheus, and a dashboard of Grafana that shows them."""
