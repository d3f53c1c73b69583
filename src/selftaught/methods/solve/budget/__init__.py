"""Spending a budget of test-time compute."""
