"""Measured figures beside their budgets: `make bench`."""
