"""The typed door: a workflow as one clean contract, over the same jobs as the other doors."""
