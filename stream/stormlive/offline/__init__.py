"""Pictures of recorded movies, by this process or by the workers of a Dask cluster."""
