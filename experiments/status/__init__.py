"""The state of tables in a run store."""
