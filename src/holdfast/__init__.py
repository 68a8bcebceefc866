"""holdfast: from what a team knows to a small model it can trust. Importing it loads no machine-learning library."""

__version__ = "0.1.0"
