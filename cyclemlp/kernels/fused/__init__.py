"""Fused kernels for a CPU: what lies between the matrix products, in one pass over memory each.

launch       how a kernel is compiled and run on Paddle's threads
program      kernels and matrix products recorded once and run by one call
interpreter  the compiled part of that
products     matrix products from compiled code
norm         LayerNorm
shift        the shifts of all branches
gelu         bias and GELU
weighting    the branches weighted by the gate
gate         the gate's softmax
scaling      a matrix of each image's own
stacking     the branches' weights below each other
sums         sums over chunks and images
residual     bias, stochastic depth and residual connection
mlp          the channel MLP by chunks of rows
unfold       the patches of a convolution
average      the weights' moving average
muon         a step of the optimizer Muon
halves       the two halves of a block, made of these and of products, with their gradients
functions    a block and the other layers as functions of tensors
"""
