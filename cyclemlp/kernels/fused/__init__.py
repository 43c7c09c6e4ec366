"""Fused kernels for a CPU: what lies between the matrix products, in one pass over memory each.

launch      how a kernel is compiled and run on Paddle's threads
norm        LayerNorm
shift       the shifts of all branches
gelu        bias and GELU
weighting   the branches weighted by the gate
residual    bias, stochastic depth and residual connection
unfold      the patches of a convolution
functions   halves of a block, and layers, made of these and of products, with their gradients
"""
