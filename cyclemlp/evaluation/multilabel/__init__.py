"""Images with any number of labels: measures, evaluation, thresholds, and the report, as of a model that gives a
probability a class."""
