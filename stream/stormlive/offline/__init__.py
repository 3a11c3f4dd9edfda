"""Reconstruction of many movies or very long ones by the workers of a Dask cluster."""
