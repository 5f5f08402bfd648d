"""Analysis of a study from its tables: figures, statistics and findings."""
