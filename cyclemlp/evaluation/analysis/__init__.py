"""What an evaluation tells beyond its accuracy: intervals, classes, confusions, calibration, the worst mistakes.

`measures` has the figures as data, `figures` draws them, `report` writes both and a page.
"""
