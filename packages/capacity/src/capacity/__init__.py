"""Capacity arithmetic for serving models."""
