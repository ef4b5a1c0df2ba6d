"""The report on a grid: see reproduce/report.py."""
