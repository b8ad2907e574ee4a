"""Work on the machines of a Dask cluster: found or started, checked for their versions, given what they need once."""
