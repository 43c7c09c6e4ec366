"""`cyclemlp doctor`: facts of a machine, checks of the network on it, and a short table of speed."""
