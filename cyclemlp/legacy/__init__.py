"""The commands of Paddle-CycleMLP (2021): `train.py`, `eval.py`, `predict.py`, with its flags and files."""
