"""Pictures beside a table, each a function of what was measured."""
