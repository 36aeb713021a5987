"""The train and test pipelines, on BasicSR's own parts."""
