"""Archive to Parquet: how a model is run over months of sound."""
