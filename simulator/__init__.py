"""The testbed: a simulator of the node agent, labs, scenarios and the checks that hold them to the invariants."""
