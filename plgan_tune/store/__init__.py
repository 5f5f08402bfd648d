"""What is on disk or at a URL: Parquet tables, files and the lock of a study."""
